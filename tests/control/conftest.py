"""A fresh store, and the scene of `control_scene`, for each test; on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from control_scene import NAME, MakeBundle, Scene, open_scene

from steadynet.bundle.read import Bundle
from steadynet.control.store import Store
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry

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


@pytest.fixture(params=BOTH)
def new_url(request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Makes empty databases of each kind; a file lies in the folder that is given."""
    if request.param == "sqlite":
        return lambda folder: f"sqlite:///{folder / 'control.db'}"
    socket = request.getfixturevalue("postgres_socket")
    from postgres_server import new_database

    return lambda _: new_database(socket, f"store{next(NUMBERS)}")


@pytest.fixture
def any_url(new_url: Callable[[Path], str], tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    return new_url(tmp_path)


@pytest.fixture
def store(any_url: str) -> Iterator[Store]:
    """An empty store in each kind of database."""
    with Store(any_url) as opened:
        yield opened


@pytest.fixture
def bundles(home: Home, make_bundle: MakeBundle) -> dict[str, Bundle]:
    """Versions 1, 2 and 3 of the model, registered in the home."""
    made = {str(number): make_bundle(NAME, seed=number) for number in (1, 2, 3)}
    for version, bundle in made.items():
        LocalRegistry(home).add(bundle, NAME, version)
    LocalRegistry(home).mark_published(NAME, "champion", "1")
    return made


@pytest.fixture
def scene(home: Home, bundles: dict[str, Bundle]) -> Iterator[Scene]:
    """A model with version 1 served and versions 2 and 3 registered."""
    made = open_scene(home, bundles)
    yield made
    made.close()


@pytest.fixture
def any_scene(home: Home, bundles: dict[str, Bundle], any_url: str) -> Iterator[Scene]:
    """The same scene, its store in each kind of database."""
    home.store_url.write_text(any_url)
    made = open_scene(home, bundles)
    yield made
    made.close()
