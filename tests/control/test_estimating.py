"""Quality is estimated from windows alone, and held against labels whenever these come."""

from __future__ import annotations

import msgspec
from control_scene import NAME, Scene

from steadynet.control.controller import Controller
from steadynet.control.facts import ESTIMATES, EstimateNotes
from steadynet.control.report import ModelStatus, model_status
from steadynet.monitoring.records import Cell


def notes_of(scene: Scene) -> EstimateNotes:
    with scene.store.read() as tx:
        notes = tx.decisions.fact(NAME, ESTIMATES, EstimateNotes)
    assert notes is not None
    return notes


def seconds(scene: Scene, controller: Controller, count: int, *, skew: bool = False) -> None:
    for _ in range(count):
        scene.obey()
        scene.traffic("1", "champion", 300, skew=skew)
        scene.clock.advance(1.0)
        controller.tick()


def status(scene: Scene) -> ModelStatus:
    return model_status(scene.home, NAME, scene.clock.now())


def test_quality_is_estimated_before_any_label(scene: Scene) -> None:
    seconds(scene, scene.controller(), 5)
    found = status(scene)
    assert found.estimated.startswith("estimated without labels: AUC 0.8")
    assert (
        found.estimated_metrics["log_loss"].reference == found.estimated_metrics["log_loss"].value
    )
    assert found.estimates is None
    assert found.labelled_rows == 0


def test_inputs_unlike_training_silence_the_estimate(scene: Scene) -> None:
    seconds(scene, scene.controller(), 5, skew=True)
    found = status(scene)
    assert found.estimated.startswith("not estimated, since inputs are unlike training's")
    assert found.estimated_metrics == {}


def test_late_labels_tell_how_right_estimates_were_and_count_once(scene: Scene) -> None:
    controller = scene.controller()
    seconds(scene, controller, 3)
    ids = [f"r{number}" for number in range(100)]
    scene.answers(ids, 0.2)
    scene.answers([f"s{number}" for number in range(50)], 0.9, role="shadow")
    seconds(scene, controller, 2)
    assert status(scene).estimates is None
    scene.clock.advance(7200.0)
    scene.truths(ids, "legit")
    scene.truths([f"s{number}" for number in range(50)], "fraud")
    controller.tick()
    record = status(scene).estimates
    assert record is not None
    assert record.labels == 100
    assert 0.1 < record.mean_error < 0.25  # log-loss .22 of these, .4 of the test part
    controller.close()
    again = scene.controller()
    seconds(scene, again, 2)
    assert status(scene).estimates == record
    assert notes_of(scene).reconciled > 0


def test_odd_labels_are_counted_and_shown(scene: Scene) -> None:
    controller = scene.controller()
    ids = [f"r{number}" for number in range(20)]
    scene.answers(ids, 0.2)
    controller.tick()
    scene.clock.advance(3600.0)
    scene.truths(ids, "legit")
    scene.truths(ids[:3], "legit")
    scene.truths(ids[:2], "fraud")
    scene.truths(["nobody"], "legit")
    controller.tick()
    scene.truths(ids[5:6], "fraud")
    scene.clock.advance(1.0)
    controller.tick()
    labels = status(scene).labels
    assert (labels.received, labels.duplicates, labels.contradictory) == (27, 3, 3)
    assert labels.unknown == 1
    assert labels.median_delay_s is not None
    assert 3600 <= labels.median_delay_s <= 3600 * 1.5


def test_slices_curve_and_diagnosis_are_told_of_labelled_rows(scene: Scene) -> None:
    rollout = msgspec.structs.replace(scene.spec.rollout, slices=("country",))
    scene.spec = msgspec.structs.replace(scene.spec, rollout=rollout)
    controller = scene.controller()
    controller.tick()
    home: dict[str, Cell] = {
        "amount": 10.0,
        "label": 0.1,
        "country": "DE",
        "new_card": False,
        "paid_at": None,
    }
    for part in range(2):
        good = [f"g{part}-{number}" for number in range(100)]
        bad = [f"b{part}-{number}" for number in range(100)]
        scene.answers(good, 0.1, row=home)
        scene.answers(bad, 0.1, row={**home, "country": "FR"})
        scene.truths(good, "legit")
        scene.truths(bad, "fraud")
        scene.clock.advance(31.0)
        controller.tick()
    detail = status(scene).detail
    assert detail is not None
    assert detail.version == "1"
    [worst] = [name for name, item in detail.slices.items() if item.worse]
    assert worst == "country = FR"
    assert sum(point.rows for point in detail.curve) >= 200
    assert detail.diagnosis.cause in ("recalibrate", "retrain")
