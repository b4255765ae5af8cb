"""A fresh store, and the scene of `control_scene`, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from control_scene import FAST, NAME, MakeBundle, Scene

from steadynet.clock import ManualClock
from steadynet.control.store import Store
from steadynet.control.world import publish_route
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry
from steadynet.rollout.route import Route


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store in a file of its own."""
    with Store.at(tmp_path / "control.db") as opened:
        yield opened


@pytest.fixture
def scene(home: Home, make_bundle: MakeBundle) -> Iterator[Scene]:
    """A model with version 1 served and versions 2 and 3 registered."""
    bundles = {str(number): make_bundle(NAME, seed=number) for number in (1, 2, 3)}
    registry = LocalRegistry(home)
    for version, bundle in bundles.items():
        registry.add(bundle, NAME, version)
    registry.mark_published(NAME, "champion", "1")
    with Store.at(home.control_db) as opened:
        made = Scene(home, ManualClock(), opened, FAST, bundles)
        publish_route(home, Route(model=NAME, generation=1, champion=made.endpoint("1")))
        made.obey()
        yield made
        made.close()
