"""Estimates without labels: right under shifts of the mix, silent where scores were not checked."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from steadynet.bundle.profile import OutputProfile, Profile
from steadynet.monitoring.estimate import QualityEstimate, estimate_quality
from steadynet.monitoring.estimate_verdict import is_worse
from steadynet.monitoring.reports import FeatureDrift
from steadynet.monitoring.windows import Window
from steadynet.runtime.metrics import classification_metrics, per_row_loss
from steadynet.spec.kinds import Task
from steadynet.spec.operating import MonitoringSpec
from steadynet.table.schema import Schema, Target
from steadynet.training.profile import bin_edges, check_by_score

PLAN = MonitoringSpec()


def scored(rows: int, seed: int, *, mean: float = -1.0, spread: float = 1.5) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, spread, rows)


def answers_of(odds: np.ndarray, *, told: float = 1.0) -> np.ndarray:
    positive = 1 / (1 + np.exp(-told * odds))
    return np.stack([1 - positive, positive], axis=1)


def truth_of(odds: np.ndarray, seed: int) -> np.ndarray:
    happened = np.random.default_rng(seed).random(len(odds)) < 1 / (1 + np.exp(-odds))
    return np.asarray(happened, np.int64)


def profile_of(task: Task, answers: np.ndarray, target: np.ndarray, score: np.ndarray) -> Profile:
    classes = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}[task]
    schema = Schema(columns=(), target=Target(name="y", task=task, reason="", classes=classes))
    name = "prediction" if task == "regression" else "probabilities"
    edges = tuple(bin_edges(score).tolist())
    losses = per_row_loss(target, answers)
    return Profile(
        rows=len(score),
        features=(),
        output=OutputProfile(
            edges=edges, counts=(1,) * (len(edges) + 1), mean=0.0, deviation=1.0, label_counts={}
        ),
        loss_mean=float(losses.mean()),
        loss_deviation=float(losses.std()),
        checked=check_by_score(schema, edges, {name: answers}, target, None),
    )


def window_of(profile: Profile, score: np.ndarray) -> Window:
    places = np.searchsorted(np.asarray(profile.output.edges), score, side="right")
    counts = np.bincount(places, minlength=len(profile.output.edges) + 1)
    return Window(
        model="m",
        version="1",
        role="champion",
        start=0.0,
        end=1.0,
        rows=len(score),
        output=tuple(counts.tolist()),
    )


@pytest.fixture(scope="module")
def binary() -> Profile:
    odds = scored(6000, 1)
    answers = answers_of(odds)
    return profile_of("binary", answers, truth_of(odds, 2), answers[:, 1])


@pytest.mark.parametrize(("mean", "spread"), [(-1.0, 1.5), (0.0, 1.0), (-2.0, 1.0)])
def test_another_mix_of_scores_is_estimated_as_labels_find_it(
    binary: Profile, mean: float, spread: float
) -> None:
    odds = scored(4000, 3, mean=mean, spread=spread)
    answers, target = answers_of(odds), truth_of(odds, 4)
    found = estimate_quality(binary, "binary", window_of(binary, answers[:, 1]))
    real = classification_metrics(target, answers, ("no", "yes"))
    assert found.outcome == "estimated"
    for name, metric in found.metrics.items():
        assert metric.low - 0.02 <= real[name] <= metric.high + 0.02, name
    assert found.metrics["auc"].reference == pytest.approx(0.81, abs=0.02)


def test_an_overconfident_network_is_not_believed() -> None:
    odds = scored(6000, 5)
    answers = answers_of(odds, told=3.0)
    profile = profile_of("binary", answers, truth_of(odds, 6), answers[:, 1])
    later = scored(4000, 7, mean=0.0, spread=1.0)
    told = answers_of(later, told=3.0)
    found = estimate_quality(profile, "binary", window_of(profile, told[:, 1]))
    real = float(per_row_loss(truth_of(later, 8), told).mean())
    own = float((-told * np.log(told)).sum(axis=1).mean())
    assert found.loss is not None
    assert abs(found.loss.value - real) < abs(own - real) / 4


def test_intervals_hold_the_labels_about_as_often_as_promised() -> None:
    """On drawn test parts and windows, with the labels' own sampling taken into account."""
    held = 0
    for seed in range(150):
        odds = scored(1500, 1000 + seed)
        answers = answers_of(odds)
        profile = profile_of("binary", answers, truth_of(odds, 2000 + seed), answers[:, 1])
        later = scored(50_000, 3000 + seed, mean=-0.5, spread=1.2)
        told = answers_of(later)
        real = float(per_row_loss(truth_of(later, 4000 + seed), told).mean())
        loss = estimate_quality(profile, "binary", window_of(profile, told[:, 1])).loss
        assert loss is not None
        held += loss.low <= real <= loss.high
    assert held / 150 >= 0.88


def test_a_regression_is_estimated_by_the_bin_of_its_prediction() -> None:
    rng = np.random.default_rng(9)
    prediction = rng.normal(0, 2, 6000)

    def truth(answers: np.ndarray) -> np.ndarray:
        spread = 1 + np.maximum(answers, 0)
        return np.asarray(answers + rng.normal(0, 1, len(answers)) * spread)

    profile = profile_of("regression", prediction, truth(prediction), prediction)
    later = rng.normal(2, 1, 4000)
    found = estimate_quality(profile, "regression", window_of(profile, later))
    real = truth(later) - later
    assert found.metrics["mae"].value == pytest.approx(np.abs(real).mean(), rel=0.15)
    assert found.metrics["rmse"].value == pytest.approx(np.sqrt((real**2).mean()), rel=0.2)
    assert is_worse(found, PLAN)
    assert not is_worse(
        estimate_quality(profile, "regression", window_of(profile, prediction)), PLAN
    )


def test_several_classes_have_accuracy_and_loss() -> None:
    rng = np.random.default_rng(10)
    answers = rng.dirichlet((2.0, 1.0, 1.0), 5000)
    target = np.array([rng.choice(3, p=row) for row in answers])
    profile = profile_of("multiclass", answers, target, answers.max(axis=1))
    found = estimate_quality(profile, "multiclass", window_of(profile, answers.max(axis=1)))
    assert set(found.metrics) == {"accuracy", "log_loss"}
    assert found.metrics["accuracy"].value == pytest.approx(answers.max(axis=1).mean(), abs=0.02)


@pytest.mark.parametrize("kind", ["missing", "unseen", "range", "frozen"])
def test_inputs_outside_what_was_checked_are_not_estimated(binary: Profile, kind: str) -> None:
    drift = FeatureDrift(
        name="age",
        rows=2000,
        psi=1.0,
        jensen_shannon=0.5,
        missing=0.4,
        missing_reference=0.0,
        p_value=0.0,
        kinds=(kind,),  # type: ignore[arg-type]
    )
    window = window_of(binary, answers_of(scored(2000, 11))[:, 1])
    found = estimate_quality(binary, "binary", window, [drift])
    assert (found.outcome, found.metrics, found.loss) == ("outside", {}, None)
    assert "in age" in found.doubts[0]
    moved = msgspec.structs.replace(drift, kinds=("shape",))
    assert estimate_quality(binary, "binary", window, [moved]).outcome == "estimated"
    assert not is_worse(found, PLAN)


def test_scores_that_the_test_part_hardly_has_are_not_estimated() -> None:
    odds = np.concatenate([scored(3000, 12, mean=-2.0, spread=0.5), [3.0]])
    answers = answers_of(odds)
    profile = profile_of("binary", answers, truth_of(odds, 13), answers[:, 1])
    # Edges by the unseen rows' quantiles would not part the last row: part it by hand.
    edges = (*profile.output.edges, 0.8)
    checked = check_by_score(
        Schema(columns=(), target=Target(name="y", task="binary", reason="", classes=("a", "b"))),
        edges,
        {"probabilities": answers},
        truth_of(odds, 13),
        None,
    )
    output = msgspec.structs.replace(
        profile.output, edges=edges, counts=(*profile.output.counts, 1)
    )
    profile = msgspec.structs.replace(profile, output=output, checked=checked)
    high = answers_of(scored(2000, 14, mean=3.0, spread=0.5))[:, 1]
    found = estimate_quality(profile, "binary", window_of(profile, high))
    assert found.outcome == "outside"
    assert "where the test part has few" in found.doubts[0]


def test_a_bundle_from_before_says_that_it_does_not_know(binary: Profile) -> None:
    old = msgspec.structs.replace(binary, checked=None)
    window = window_of(binary, answers_of(scored(100, 15))[:, 1])
    assert estimate_quality(old, "binary", window).outcome == "unchecked"


def test_the_same_window_gets_the_same_answer_and_goes_through_json(binary: Profile) -> None:
    window = window_of(binary, answers_of(scored(500, 16))[:, 1])
    found = estimate_quality(binary, "binary", window)
    assert estimate_quality(binary, "binary", window) == found
    assert msgspec.json.decode(msgspec.json.encode(found), type=QualityEstimate) == found
