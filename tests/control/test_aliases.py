"""The registry's aliases follow the route: at home at once, in a real MLflow soon after."""

from __future__ import annotations

import time

import pytest
from control_scene import NAME, MakeBundle, Scene

from steadynet.control.aliases import main
from steadynet.control.facts import ALIASES, AliasWish
from steadynet.registry.local import LocalRegistry
from steadynet.registry.mlflow_registry import Registry
from steadynet.registry.record import RunRecord


def wish(scene: Scene, champion: str) -> None:
    with scene.store.write() as tx:
        tx.decisions.remember(NAME, ALIASES, AliasWish(champion=champion))


def test_a_wish_is_fulfilled_once_and_then_left_to_others(scene: Scene) -> None:
    controller = scene.controller()
    wish(scene, "2")
    controller.tick()
    registry = LocalRegistry(scene.home)
    assert registry.aliases(NAME) == {"champion": "2"}
    registry.set_alias(NAME, "champion", "3")
    scene.clock.advance(10.0)
    controller.tick()
    assert registry.aliases(NAME) == {"champion": "3"}


def test_a_wish_that_cannot_be_fulfilled_stops_nothing(scene: Scene) -> None:
    controller = scene.controller()
    wish(scene, "9")
    assert controller.tick()
    assert LocalRegistry(scene.home).aliases(NAME) == {"champion": "1"}


@pytest.mark.slow
def test_mlflow_learns_of_it_from_a_process_of_its_own(
    scene: Scene, make_bundle: MakeBundle
) -> None:
    registry = Registry(scene.home)
    other = make_bundle("other", seed=1)
    registry.register(other, run=RunRecord())
    registry.register(make_bundle("other", seed=2), run=RunRecord())
    LocalRegistry(scene.home).set_alias("other", "champion", "2")
    assert LocalRegistry(scene.home).read_aliases("other").unpublished == ("champion",)
    assert main([str(scene.home.root), "other"]) == 0
    assert LocalRegistry(scene.home).read_aliases("other").unpublished == ()
    LocalRegistry(scene.home).set_alias(NAME, "champion", "2")
    controller = scene.controller()
    controller.tick()
    log = scene.home.runs / f"aliases-{NAME}" / "log.txt"
    deadline = time.monotonic() + 60
    while not log.exists():
        assert time.monotonic() < deadline
        controller.tick()
