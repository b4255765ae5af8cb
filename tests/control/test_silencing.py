"""A silence from the word of a person to a receiver that gets nothing until it is over."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from control_scene import NAME, Scene
from webhook_receiver import Receiver, running_receiver

from steadynet.control.controller import Controller
from steadynet.control.report import model_status, silences_of
from steadynet.control.silencing import SILENCE, UNSILENCE
from steadynet.monitoring.findings import Findings
from steadynet.monitoring.silences import MOST_S
from steadynet.spec.model import AlertsSpec


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def controller(scene: Scene, receiver: Receiver) -> Controller:
    alerts = AlertsSpec(webhook=receiver.url)
    scene.spec = msgspec.structs.replace(scene.spec, alerts=alerts)
    return scene.controller()


def ask(scene: Scene, controller: Controller, kind: str, **arguments: object) -> tuple[str, str]:
    number = scene.send(kind, **arguments)
    controller.tick()
    return scene.answer_to(number)


def quiet(scene: Scene, controller: Controller, key: str = "", for_s: float = 7200.0) -> str:
    state, answer = ask(
        scene, controller, SILENCE, key=key, for_s=for_s, reason="moving", by="anna"
    )
    assert state == "done"
    return answer


def second(scene: Scene, controller: Controller, *, failed: int = 0) -> None:
    scene.obey()
    scene.traffic("1", "champion", 300, failed=failed)
    scene.clock.advance(1.0)
    controller.tick()


def queued(scene: Scene) -> list[str]:
    """Return the events of the messages that wait for the receiver or went to it."""
    with scene.store.read() as tx:
        found = tx.deliveries.due(NAME, scene.clock.now() + 3600.0, limit=99)
    return [msgspec.json.decode(item.payload_json)["event"] for item in found]


def test_pages_open_and_are_seen_and_nobody_is_told_until_the_end(
    scene: Scene, controller: Controller
) -> None:
    answer = quiet(scene, controller)
    assert answer.startswith("silence 1: all alerts silenced until ")
    second(scene, controller, failed=200)
    [silenced] = scene.told("alert.silenced")
    assert silenced.startswith("page silenced: availability: ")
    assert silenced.endswith("by anna: moving")
    found = model_status(scene.home, NAME, scene.clock.now())
    assert [silence.reason for silence in found.silences] == ["moving"]
    assert found.alerts[0].silenced.endswith("by anna: moving")
    findings = msgspec.json.decode(scene.home.findings(NAME).read_bytes(), type=Findings)
    assert (findings.alerts, findings.silenced) == ({}, {"page": 1})
    assert queued(scene) == []

    state, answer = ask(scene, controller, UNSILENCE, id=1, by="ben")
    assert (state, answer) == ("done", "silence 1 was ended by ben: all alerts are told again")
    second(scene, controller, failed=200)
    assert queued(scene) == ["opened"]
    assert [text[:11] for text in scene.told("alert.opened")] == ["page opened"]
    assert silences_of(scene.home, NAME, scene.clock.now()) == ()


def test_another_alert_is_told(scene: Scene, controller: Controller) -> None:
    quiet(scene, controller, "drift")
    second(scene, controller, failed=200)
    assert queued(scene) == ["opened"]


def test_a_silence_outlives_the_controller_and_ends_by_itself(
    scene: Scene, controller: Controller
) -> None:
    quiet(scene, controller, for_s=60.0)
    controller.close()
    again = scene.controller()
    second(scene, again, failed=200)
    assert queued(scene) == []
    scene.clock.advance(60.0)
    second(scene, again, failed=200)
    assert scene.told("silence.over") == ["silence 1 is over: all alerts are told again"]
    assert queued(scene) == ["opened"]
    assert quiet(scene, again).startswith("silence 2: "), "no number is given twice"


@pytest.mark.parametrize(
    ("for_s", "reason"), [(0.0, "why"), (MOST_S + 1, "why"), (60.0, " "), (float("inf"), "why")]
)
def test_a_silence_without_end_or_reason_is_refused(
    scene: Scene, controller: Controller, for_s: float, reason: str
) -> None:
    wish = {"key": "", "for_s": min(for_s, 1e12), "reason": reason, "by": "anna"}
    state, answer = ask(scene, controller, SILENCE, **wish)
    assert (state, "a reason and an end within" in answer) == ("refused", True)
    state, answer = ask(scene, controller, UNSILENCE, id=1, by="anna")
    assert (state, answer) == ("refused", "there is no silence 1 that holds")
    assert scene.told("silence.started") == []
