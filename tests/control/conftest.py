"""A fresh store, and the scene of `control_scene`, for each test; on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from control_scene import FAST, NAME, MakeBundle, Scene

from steadynet.clock import ManualClock
from steadynet.control.store import Store
from steadynet.control.world import publish_route
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry
from steadynet.rollout.route import Route

BOTH = ["sqlite", "postgresql"]
NUMBERS = count()


@pytest.fixture(scope="session")
def postgres_socket() -> Iterator[str]:
    """The folder of a real server's socket; skips where PostgreSQL is not installed."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    from postgres_server import postgres_programs, running_postgres

    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    with running_postgres(programs) as socket:
        yield socket


def _new_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'control.db'}"
    from postgres_server import new_database

    return new_database(request.getfixturevalue("postgres_socket"), f"store{next(NUMBERS)}")


@pytest.fixture(params=BOTH)
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    return _new_url(request.param, tmp_path, request)


@pytest.fixture
def store(any_url: str) -> Iterator[Store]:
    """An empty store in each kind of database."""
    with Store(any_url) as opened:
        yield opened


@pytest.fixture
def scene(home: Home, make_bundle: MakeBundle) -> Iterator[Scene]:
    """A model with version 1 served and versions 2 and 3 registered."""
    yield from _scene(home, make_bundle)


@pytest.fixture
def any_scene(home: Home, make_bundle: MakeBundle, any_url: str) -> Iterator[Scene]:
    """The same scene, its store in each kind of database."""
    if any_url.startswith("postgresql"):
        home.root.mkdir(parents=True, exist_ok=True)
        home.store_url.write_text(any_url)
    yield from _scene(home, make_bundle)


def _scene(home: Home, make_bundle: MakeBundle) -> Iterator[Scene]:
    bundles = {str(number): make_bundle(NAME, seed=number) for number in (1, 2, 3)}
    registry = LocalRegistry(home)
    for version, bundle in bundles.items():
        registry.add(bundle, NAME, version)
    registry.mark_published(NAME, "champion", "1")
    with Store.of(home) as opened:
        made = Scene(home, ManualClock(), opened, FAST, bundles)
        publish_route(home, Route(model=NAME, generation=1, champion=made.endpoint("1")))
        made.obey()
        yield made
        made.close()
