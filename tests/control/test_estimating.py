"""Quality is estimated from windows alone, and held against labels whenever these come."""

from __future__ import annotations

from control_scene import NAME, Scene

from steadynet.control.controller import Controller
from steadynet.control.facts import ESTIMATES, EstimateNotes
from steadynet.control.report import ModelStatus, model_status


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
