"""The closed loop with real processes: server, workers, controller, command line, load."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    Versions = Callable[..., None]
    Serve = Callable[..., Any]
    Start = Callable[..., Any]


@pytest.mark.parametrize("variant", ["raises", "nan"])
def test_a_release_that_faults_is_rolled_back_and_no_request_fails(
    versions: Versions, serve: Serve, load: Start, variant: Literal["raises", "nan"]
) -> None:
    versions("good", variant)
    served = serve()
    traffic = load(served)
    started = served.command("rollout", "start", "payments/2")
    assert started["state"] == "done"
    served.until(lambda: served.status().rollout.phase == "aborted", "the rollback")
    traffic.stop()
    assert traffic.failed == []
    status = served.status()
    assert status.champion == "1"
    assert any("version 2 was rolled back" in text for text in served.told())
    served.until(
        lambda: any(alert.key.startswith("rollout/") for alert in served.status().alerts),
        "the alert",
    )


def test_a_good_release_is_promoted_although_the_controller_is_killed_again_and_again(
    versions: Versions, serve: Serve, load: Start
) -> None:
    versions("good", "good")
    served = serve()
    traffic = load(served)
    served.command("rollout", "start", "payments/2")
    killed: set[int] = set()

    def kill_at_each_phase() -> bool:
        rollout = served.status().rollout
        controller = served.server()["controller"]
        if controller is not None and len(killed) < 4 and controller not in killed:
            os.kill(controller, signal.SIGKILL)
            killed.add(controller)
        return bool(rollout.phase in ("promoted", "aborted"))

    served.until(kill_at_each_phase, "the promotion")
    traffic.stop()
    assert len(killed) >= 2
    assert traffic.failed == []
    steps = [text for text in served.told() if text.startswith("rollout.")]
    kinds = [text.split(":")[0] for text in steps]
    assert kinds == [
        "rollout.started",
        "rollout.step",
        "rollout.step",
        "rollout.promoted",
    ], steps
    assert served.status().champion == "2"


def test_a_person_aborts_by_command_and_the_answer_says_so(
    versions: Versions, serve: Serve
) -> None:
    versions("good", "good")
    served = serve()
    refused = served.command("rollout", "abort", "payments")
    assert (refused["exit_code"], refused["error"]) == (2, "no rollout is running")
    served.command("rollout", "start", "payments/2")
    aborted = served.command("rollout", "abort", "payments")
    assert aborted["answer"] == "aborted by command"
    assert aborted["rollout"]["phase"] == "aborted"
    again = served.command("rollout", "status", "payments")
    assert again["rollout"]["phase"] == "aborted"
