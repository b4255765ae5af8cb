"""The metrics agree with scikit-learn's and with their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from steadynet.runtime.metrics import (
    ECE_BINS,
    classification_metrics,
    confusion_matrix,
    decide,
    mass_bins,
    per_row_loss,
    regression_metrics,
    with_intervals,
)

BINARY = ("no", "yes")
THREE = ("a", "b", "c")
SCORES = {
    "f1": reference.f1_score,
    "precision": reference.precision_score,
    "recall": reference.recall_score,
}


def draw(seed: int, rows: int, count: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return targets that hold every class, and probabilities, coarse where `ties`."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(count), rows)
    if ties:
        probabilities = np.round(probabilities * 4 + 0.5)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    drawn = (probabilities.cumsum(axis=1) < random.random((rows, 1))).sum(axis=1)
    target = np.minimum(drawn, count - 1)
    target[:count] = np.arange(count)
    return target.astype(np.int64), probabilities


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000), rows=st.integers(8, 200), binary=st.booleans(), ties=st.booleans()
)
def test_classification_agrees_with_scikit_learn(
    seed: int, rows: int, binary: bool, ties: bool
) -> None:
    classes = BINARY if binary else THREE
    target, probabilities = draw(seed, rows, len(classes), ties)
    found = classification_metrics(target, probabilities, classes)
    decided = decide(probabilities)
    average = "binary" if binary else "macro"
    scores = probabilities[:, 1] if binary else probabilities
    labels = list(range(len(classes)))
    assert found["auc"] == pytest.approx(
        reference.roc_auc_score(target, scores, multi_class="ovr", labels=labels)
    )
    assert found["log_loss"] == pytest.approx(
        reference.log_loss(target, probabilities, labels=labels)
    )
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(target, decided))
    for name in SCORES:
        score = SCORES[name]
        expected = score(target, decided, average=average, labels=labels, zero_division=0)
        if binary:
            expected = score(target, decided, zero_division=0)
        assert found[name] == pytest.approx(expected), name
    np.testing.assert_array_equal(
        confusion_matrix(target, probabilities),
        reference.confusion_matrix(target, decided, labels=labels),
    )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), rows=st.integers(3, 200), offset=st.floats(-1e6, 1e6))
def test_regression_agrees_with_scikit_learn(seed: int, rows: int, offset: float) -> None:
    random = np.random.default_rng(seed)
    target = random.normal(size=rows) + offset
    prediction = target + random.normal(size=rows) * 0.3
    found = regression_metrics(target, prediction)
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(target, prediction))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(target, prediction))
    assert found["r2"] == pytest.approx(reference.r2_score(target, prediction), rel=1e-6, abs=1e-6)


def test_calibration_error_is_zero_where_frequencies_match_and_large_where_not() -> None:
    score = np.repeat([0.25, 0.75], 400)
    target = np.concatenate([np.arange(400) < 100, np.arange(400) < 300]).astype(np.int64)
    exact = np.stack([1 - score, score], axis=1)
    assert classification_metrics(target, exact, BINARY)["ece"] == pytest.approx(0.0, abs=1e-12)
    wrong = exact[:, ::-1]
    assert classification_metrics(target, wrong, BINARY)["ece"] == pytest.approx(0.5)


def test_multiclass_calibration_is_of_the_highest_probability() -> None:
    probabilities = np.tile([0.6, 0.3, 0.1], (10, 1))
    target = np.array([0] * 4 + [1] * 6)
    assert classification_metrics(target, probabilities, THREE)["ece"] == pytest.approx(0.2)


def test_one_class_alone_has_no_auc_and_no_interval_for_it() -> None:
    probabilities = np.tile([0.4, 0.6], (20, 1))
    target = np.ones(20, np.int64)
    assert math.isnan(classification_metrics(target, probabilities, BINARY)["auc"])
    intervals = with_intervals(target, probabilities, BINARY)
    assert "auc" not in intervals
    assert intervals["accuracy"].value == 1.0


def test_a_constant_target_has_no_r2() -> None:
    found = regression_metrics(np.full(5, 3.0), np.arange(5.0))
    assert math.isnan(found["r2"])
    assert "r2" not in with_intervals(np.full(5, 3.0), np.arange(5.0))


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        regression_metrics(np.zeros(0), np.zeros(0))


def test_the_threshold_decides_for_two_classes_only() -> None:
    probabilities = np.array([[0.7, 0.3], [0.4, 0.6]])
    assert decide(probabilities, 0.3).tolist() == [1, 1]
    assert decide(probabilities, 0.61).tolist() == [0, 0]
    assert decide(np.array([[0.2, 0.5, 0.3]]), 0.9).tolist() == [1]


def test_losses_of_rows_average_to_the_metrics() -> None:
    target, probabilities = draw(3, 100, 3, ties=False)
    assert per_row_loss(target, probabilities).mean() == pytest.approx(
        classification_metrics(target, probabilities, THREE)["log_loss"]
    )
    truth, prediction = np.arange(5.0), np.arange(5.0) * 1.1
    assert per_row_loss(truth, prediction).mean() == pytest.approx(
        regression_metrics(truth, prediction)["mae"]
    )


def test_a_certain_and_wrong_answer_has_a_finite_loss() -> None:
    losses = per_row_loss(np.array([0]), np.array([[0.0, 1.0]]))
    assert losses.tolist() == [pytest.approx(-math.log(1e-12))]


@pytest.mark.parametrize("count", [2, 3])
def test_intervals_hold_the_value_and_repeat_with_the_seed(count: int) -> None:
    target, probabilities = draw(5, 300, count, ties=False)
    classes = THREE[:count]
    first = with_intervals(target, probabilities, classes, seed=7)
    assert first == with_intervals(target, probabilities, classes, seed=7)
    assert first != with_intervals(target, probabilities, classes, seed=8)
    for name, interval in first.items():
        assert interval.low <= interval.value <= interval.high, name


def test_intervals_cover_the_truth_about_as_often_as_promised() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        target = random.normal(size=80)
        interval = with_intervals(target, np.zeros(80), seed=trial)["mae"]
        covered += interval.low <= math.sqrt(2 / math.pi) <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_intervals_shrink_with_rows() -> None:
    widths = []
    for rows in (200, 20_000):
        target, probabilities = draw(1, rows, 2, ties=False)
        interval = with_intervals(target, probabilities, BINARY, resamples=60)["auc"]
        widths.append(interval.high - interval.low)
    assert widths[1] < widths[0] / 4


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_bins_keep_equal_scores_together_and_in_order(scores: list[float]) -> None:
    values = np.array(scores)
    bins = mass_bins(values, ECE_BINS)
    assert bins.min() >= 0
    assert bins.max() < ECE_BINS
    for left, right in zip(np.argsort(values)[:-1], np.argsort(values)[1:], strict=True):
        if values[left] == values[right]:
            assert bins[left] == bins[right]
        else:
            assert bins[left] <= bins[right]


def test_bins_of_no_scores_are_none() -> None:
    assert len(mass_bins(np.zeros(0), 5)) == 0
