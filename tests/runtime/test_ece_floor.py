"""The floor of ECE is what calibrated models show, and tells them from others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from steadynet.runtime import ece_floor as module
from steadynet.runtime.ece_floor import ece_by_chance, ece_floor
from steadynet.runtime.metrics import classification_metrics

Floats = npt.NDArray[np.float64]


def probabilities(rows: int, seed: int = 0, classes: int = 2) -> Floats:
    """Return probabilities of a model that is often unsure."""
    random = np.random.default_rng(seed)
    if classes > 2:
        return random.dirichlet(np.ones(classes), rows)
    positive = random.beta(0.8, 2.4, rows)
    return np.stack([1 - positive, positive], axis=1)


def labels(truth: Floats, seed: int) -> npt.NDArray[np.int64]:
    """Draw labels from probabilities."""
    random = np.random.default_rng(seed)
    drawn = (random.random((len(truth), 1)) > np.cumsum(truth, axis=1)).sum(axis=1)
    classes: npt.NDArray[np.int64] = np.minimum(drawn, truth.shape[1] - 1).astype(np.int64)
    return classes


def ece(answers: Floats, target: npt.NDArray[np.int64]) -> float:
    """Return the ECE that is reported."""
    names = [str(place) for place in range(answers.shape[1])]
    return classification_metrics(target, answers, names)["ece"]


@pytest.mark.parametrize("classes", [2, 4])
def test_labels_that_follow_the_probabilities_reach_every_share_as_often_as_it_says(
    classes: int,
) -> None:
    """The share is a p-value: at most 5 % of calibrated models have one of at most 5 %."""
    shares = []
    for seed in range(400):
        answers = probabilities(300, seed, classes)
        measured = ece(answers, labels(answers, seed + 1000))
        shares.append(ece_floor(answers, measured, draws=200, seed=seed).chance)
    for level in (0.05, 0.2, 0.5):
        error = 3 * np.sqrt(level * (1 - level) / 400)
        assert abs(np.mean(np.array(shares) <= level) - level) < error


def test_probabilities_that_are_too_sharp_are_told_from_calibrated_ones() -> None:
    truth = probabilities(3000)
    sharp = truth**1.6 / (truth**1.6).sum(axis=1, keepdims=True)
    found = ece_floor(sharp, ece(sharp, labels(truth, 1)))
    assert found.chance < 0.01
    fair = ece_floor(truth, ece(truth, labels(truth, 1)))
    assert fair.chance > 0.05
    assert fair.quantile_05 < fair.quantile_50 < fair.quantile_95 < fair.quantile_99


def test_the_floor_falls_with_the_root_of_the_rows() -> None:
    few, many = (ece_by_chance(probabilities(rows)).mean() for rows in (2000, 32_000))
    assert 0.01 < few < 0.03
    assert many == pytest.approx(few / 4, rel=0.1)


def test_the_short_way_for_many_rows_is_the_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = probabilities(6000)
    long = ece_by_chance(answers, draws=600)
    monkeypatch.setattr(module, "EXACT_ROWS", 100)
    short = ece_by_chance(answers, draws=4000)
    assert short.mean() == pytest.approx(long.mean(), rel=0.03)
    np.testing.assert_allclose(
        np.quantile(short, [0.1, 0.9]), np.quantile(long, [0.1, 0.9]), rtol=0.06
    )


def test_certain_answers_have_no_error_by_chance() -> None:
    sure = np.array([[0.0, 1.0], [1.0, 0.0]]).repeat(20, axis=0)
    assert ece_floor(sure, 0.0).quantile_99 == 0
    assert ece_floor(sure[:1], 0.0).mean == 0
