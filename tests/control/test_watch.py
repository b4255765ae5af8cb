"""Drift, quality and SLOs become journal entries, alerts and deliveries. The spool is real."""

from __future__ import annotations

import msgspec
import pytest
from control_scene import NAME, Scene

from steadynet.control.controller import Controller
from steadynet.control.facts import WATCH, WatchNotes
from steadynet.control.report import model_status
from steadynet.monitoring.findings import Findings
from steadynet.monitoring.messages import Message
from steadynet.monitoring.windows import Window
from steadynet.spec.model import AlertsSpec


def seconds(scene: Scene, controller: Controller, count: int, *, skew: bool = False) -> None:
    for _ in range(count):
        scene.obey()
        scene.traffic("1", "champion", 300, skew=skew)
        scene.clock.advance(1.0)
        controller.tick()


def watched(scene: Scene) -> WatchNotes:
    with scene.store.read() as tx:
        notes = tx.decisions.fact(NAME, WATCH, WatchNotes)
    assert notes is not None
    return notes


def test_traffic_like_training_is_steady_and_alerts_nobody(scene: Scene) -> None:
    controller = scene.controller()
    seconds(scene, controller, 20)
    notes = watched(scene)
    assert notes.drift is not None
    assert notes.drift.verdict == "steady"
    assert scene.told("alert.opened") == []


def test_sustained_drift_is_journaled_alerted_once_and_resolved(scene: Scene) -> None:
    controller = scene.controller()
    seconds(scene, controller, 6)
    seconds(scene, controller, 12, skew=True)
    [drifted] = scene.told("drift.drifted")
    assert "amount" in drifted
    [alert] = [text for text in scene.told("alert.opened") if "drift" in text]
    assert alert.startswith("ticket opened")
    status = model_status(scene.home, NAME, scene.clock.now())
    assert "amount" in status.drifted
    assert [item.key for item in status.alerts] == ["drift"]
    seconds(scene, controller, 8)
    scene.clock.advance(400.0)
    seconds(scene, controller, 4)
    assert [text for text in scene.told("alert.resolved") if "drift" in text]
    assert model_status(scene.home, NAME, scene.clock.now()).alerts == ()


def test_drift_is_seen_although_the_clock_was_set_back(scene: Scene) -> None:
    controller = scene.controller()
    seconds(scene, controller, 3)
    scene.clock.jump(-7200.0)
    seconds(scene, controller, 8, skew=True)
    assert len(scene.told("drift.drifted")) == 1


def test_a_restarted_controller_goes_on_with_the_same_drift(scene: Scene) -> None:
    first = scene.controller()
    seconds(scene, first, 3, skew=True)
    before = watched(scene)
    assert before.drift is not None
    assert before.drift.verdict == "drifting"
    first.close()
    again = scene.controller()
    seconds(scene, again, 4, skew=True)
    assert len(scene.told("drift.drifted")) == 1


def test_lost_quality_is_found_on_labels_and_pages(scene: Scene) -> None:
    controller = scene.controller()
    controller.tick()
    for start in range(0, 400, 100):
        ids = [f"r{number}" for number in range(start, start + 100)]
        scene.answers(ids, 0.02)
        scene.truths(ids, "fraud")
        scene.clock.advance(1.0)
        controller.tick()
    [lost] = scene.told("quality.lost")
    assert "quality is lost" in lost
    assert any(text.startswith("page opened") for text in scene.told("alert.opened"))
    status = model_status(scene.home, NAME, scene.clock.now())
    assert status.labelled_rows == 400
    assert "quality is lost" in status.quality
    scene.clock.advance(1.0)
    controller.tick()
    beginning = model_status(scene.home, NAME, scene.clock.now()).quality
    assert beginning.startswith("lost when last judged; since then 0 labelled rows so far")


def test_labels_that_are_put_right_give_the_quality_back(scene: Scene) -> None:
    controller = scene.controller()
    controller.tick()
    ids = [f"r{number}" for number in range(200)]
    for label in ("fraud", "legit"):
        if label == "fraud":
            scene.answers(ids, 0.02)
        for start in (0, 100):
            scene.truths(ids[start : start + 100], label)
            scene.clock.advance(1.0)
            controller.tick()
        scene.clock.advance(1.0)
        controller.tick()
    assert [len(scene.told(f"quality.{word}")) for word in ("lost", "ok")] == [1, 1]
    scene.clock.advance(400.0)
    more = [f"s{number}" for number in range(100)]
    scene.answers(more, 0.02)
    scene.truths(more, "legit")
    controller.tick()
    assert any("quality is lost" in text for text in scene.told("alert.resolved"))


def test_good_answers_hold_quality(scene: Scene) -> None:
    controller = scene.controller()
    controller.tick()
    for start in range(0, 300, 100):
        ids = [f"r{number}" for number in range(start, start + 100)]
        scene.answers(ids, 0.2)
        scene.truths(ids[:20], "fraud")
        scene.truths(ids[20:], "legit")
        scene.clock.advance(1.0)
        controller.tick()
    assert scene.told("quality.lost") == []
    notes = watched(scene)
    assert notes.quality is not None


def test_failed_requests_burn_the_budget_and_page(scene: Scene) -> None:
    controller = scene.controller()
    for _ in range(5):
        scene.traffic("1", "champion", 300, failed=60)
        scene.clock.advance(1.0)
        controller.tick()
    pages = [text for text in scene.told("alert.opened") if text.startswith("page opened")]
    assert any("availability" in text for text in pages)


def test_an_alert_waits_in_the_store_until_the_webhook_takes_it(scene: Scene) -> None:
    url = "http://127.0.0.1:9/SECRET"
    scene.spec = msgspec.structs.replace(scene.spec, alerts=AlertsSpec(webhook=url))
    controller = scene.controller()
    seconds(scene, controller, 3)
    scene.traffic("1", "champion", 300, failed=200)
    while not scene.told("alert.undelivered"):
        scene.clock.advance(1.0)
        controller.tick()
    [text] = scene.told("alert.undelivered")
    assert "http://127.0.0.1:9/***" in text
    assert "SECRET" not in text
    with scene.store.read() as tx:
        waiting = tx.deliveries.due(NAME, 1e12, limit=9)
    assert waiting
    message = msgspec.json.decode(waiting[0].payload_json, type=Message)
    assert (message.event, message.model) == ("opened", NAME)
    assert message.alerts[0].key == "slo/availability"


def test_housekeeping_keeps_the_evidence_of_the_last_hour_fine(scene: Scene) -> None:
    controller = scene.controller()
    seconds(scene, controller, 3)
    scene.clock.advance(4000.0)
    controller.tick()
    with scene.store.read() as tx:
        assert len(tx.observations.windows(NAME, 0.0)) <= 2
    assert sum(w.requests for w in _windows(scene)) == 900


def _windows(scene: Scene) -> list[Window]:
    with scene.store.read() as tx:
        return list(tx.observations.windows(NAME, 0.0))


def test_a_verdict_that_stays_is_written_down_once(scene: Scene) -> None:
    controller = scene.controller()
    for start in range(0, 900, 60):
        ids = [f"r{number}" for number in range(start, start + 60)]
        scene.answers(ids, 0.02)
        scene.truths(ids, "fraud")
        scene.clock.advance(1.0)
        controller.tick()
    assert len(scene.told("quality.lost")) == 1
    waits = scene.told("heal.wait")
    assert len(waits) == len({"".join(c for c in text if not c.isdigit()) for text in waits})


def test_what_was_found_is_published_for_the_workers(scene: Scene) -> None:
    controller = scene.controller()
    seconds(scene, controller, 4)
    scene.traffic("1", "champion", 300, failed=200)
    scene.clock.advance(1.0)
    controller.tick()
    found = msgspec.json.decode(scene.home.findings(NAME).read_bytes(), type=Findings)
    assert (found.model, found.champion, found.at) == (NAME, "1", scene.clock.now())
    assert found.alerts == {"page": 1}
    assert (found.phase, found.healing, found.quality) == ("none", "idle", "not_yet")
    assert found.trained > 0


def test_estimates_rates_labels_and_what_was_done_are_published(scene: Scene) -> None:
    controller = scene.controller()
    scene.send("rollout.start", version="2")
    seconds(scene, controller, 4)
    scene.send("rollout.abort")
    ids = ["a", "b", "c"]
    scene.answers(ids, 0.2)
    scene.clock.advance(1.0)
    controller.tick()
    scene.truths([*ids, "a"], "legit")
    scene.truths(["b"], "fraud")
    scene.clock.advance(3600.0)
    controller.tick()
    scene.clock.advance(1.0)
    controller.tick()

    def published() -> Findings:
        return msgspec.json.decode(scene.home.findings(NAME).read_bytes(), type=Findings)

    found = published()
    assert found.estimated.keys() == {"auc", "accuracy", "log_loss"}
    assert found.estimated["auc"].low < found.estimated["auc"].value
    names = {feature.name for feature in scene.bundles["1"].profile().features}
    assert found.missing.keys() == names
    assert found.unseen.keys() == {"country"}
    amount = found.missing["amount"]
    assert amount.now == pytest.approx(amount.training, abs=0.01)
    assert found.rollouts == {"started": 1, "promoted": 0, "aborted": 1}
    assert found.heals == {"started": 0, "promoted": 0, "failed": 0}
    assert (found.labels.received, found.labels.duplicates) == (5, 1)
    assert sum(found.labels.delays) == 3
    controller.close()
    again = scene.controller()
    scene.clock.advance(10.0)
    again.tick()
    assert published().rollouts == found.rollouts, "counted from the journal, not since the start"


def test_time_in_which_quality_was_lost_is_counted_and_outlives_the_controller(
    scene: Scene,
) -> None:
    controller = scene.controller()
    controller.tick()
    for start in range(0, 400, 100):
        ids = [f"r{number}" for number in range(start, start + 100)]
        scene.answers(ids, 0.02)
        scene.truths(ids, "fraud")
        scene.clock.advance(1.0)
        controller.tick()
    for _ in range(5):
        scene.clock.advance(2.0)
        controller.tick()
    before = watched(scene).spent["quality"]
    assert before.bad_seconds == before.seconds >= 10.0
    controller.close()
    again = scene.controller()
    scene.clock.advance(2.0)
    again.tick()
    after = watched(scene).spent["quality"]
    assert after.seconds == before.seconds + 2.0
