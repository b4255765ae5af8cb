"""Asking a controller from another process, and doing its work where none is alive."""

from __future__ import annotations

import threading

import pytest
from control_scene import NAME, Scene

from steadynet.clock import SystemClock
from steadynet.control.asking import ask, controller_alive
from steadynet.control.controller import Controller
from steadynet.control.settings import controller_spec, remembered_spec, spec_path
from steadynet.errors import RolloutError, SpecError
from steadynet.spec.model import Spec


def test_without_a_controller_the_asker_does_the_work(scene: Scene) -> None:
    answer = ask(scene.home, NAME, "rollout.start", {"version": "2"}, scene.spec)
    assert answer.state == "done"
    challenger = scene.route().challenger
    assert challenger is not None
    assert challenger.version == "2"
    assert not controller_alive(scene.store, NAME, SystemClock().now())


def test_a_living_controller_answers(scene: Scene) -> None:
    controller = Controller(scene.home, NAME, scene.store, scene.spec)
    assert controller.tick()
    assert controller_alive(scene.store, NAME, SystemClock().now())
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            controller.tick()

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        answer = ask(scene.home, NAME, "rollout.start", {"version": "2"}, Spec())
    finally:
        stop.set()
        thread.join()
        controller.close()
    assert answer.state == "done"


def test_a_refusal_is_an_error_with_its_reason(scene: Scene) -> None:
    with pytest.raises(RolloutError, match="no rollout is running"):
        ask(scene.home, NAME, "rollout.abort", {}, scene.spec)


def test_a_start_behind_a_running_rollout_waits(scene: Scene) -> None:
    ask(scene.home, NAME, "rollout.start", {"version": "2"}, scene.spec)
    waiting = ask(scene.home, NAME, "rollout.start", {"version": "3"}, scene.spec, timeout_s=0.05)
    assert waiting.state == "waiting"


def test_a_model_that_was_never_served_is_named(scene: Scene) -> None:
    scene.home.route(NAME).unlink()
    with pytest.raises(RolloutError, match=r"was never served.*steadynet serve payments"):
        ask(scene.home, NAME, "rollout.start", {"version": "2"}, scene.spec)


def test_the_spec_of_the_last_server_is_remembered_for_its_owner_alone(scene: Scene) -> None:
    path = scene.home.root / "steadynet.toml"
    path.write_text('[alerts]\nwebhook = "https://hooks.example/SECRET"\n')
    assert remembered_spec(scene.home, NAME) == Spec()
    given = controller_spec(scene.home, NAME, path)
    assert remembered_spec(scene.home, NAME) == given
    assert spec_path(scene.home, NAME).stat().st_mode & 0o077 == 0
    assert controller_spec(scene.home, NAME, None) == Spec()


def test_a_remembered_spec_that_is_torn_is_named(scene: Scene) -> None:
    spec_path(scene.home, NAME).write_bytes(b"{")
    with pytest.raises(SpecError, match=r"spec\.json cannot be read"):
        remembered_spec(scene.home, NAME)
