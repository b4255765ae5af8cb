"""Weights of a blend: right where they can be known, and only as many as help."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from steadynet.export.blend import blend_answers
from steadynet.spec.losses import MetricChoice
from steadynet.training.blending import best_weights, choose_weights
from steadynet.training.comparing import HeldTruth, held_losses
from steadynet.training.data import TargetCode
from steadynet.training.wording import share_words

NUMBERS = TargetCode("regression", 1, 0, 0.0, 1.0, ())
BINARY = TargetCode("binary", 1, 2, 0.0, 1.0, (1.0, 1.0))


def noisy(target: np.ndarray, *spreads: float, seed: int = 1) -> list[np.ndarray]:
    """Return unbiased predictions with independent errors of those spreads."""
    random = np.random.default_rng(seed)
    return [(target + spread * random.normal(size=len(target)))[:, None] for spread in spreads]


def test_independent_errors_are_weighted_by_their_inverse_variances() -> None:
    target = np.random.default_rng(0).normal(size=40_000)
    weights = best_weights(noisy(target, 1.0, 2.0, 2.0), HeldTruth(target=target, code=NUMBERS))
    np.testing.assert_allclose(weights, np.array([4, 1, 1]) / 6, atol=0.02)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 200), count=st.integers(1, 4))
def test_a_blend_is_never_worse_on_the_held_rows_than_its_best_component(
    seed: int, count: int
) -> None:
    random = np.random.default_rng(seed)
    target = random.integers(0, 2, 300)
    answers = []
    for _ in range(count):
        positive = np.clip(0.5 + (target - 0.5) * random.uniform(-0.3, 0.8), 0.02, 0.98)
        positive = np.clip(positive + 0.15 * random.normal(size=300), 0.01, 0.99)
        answers.append(np.stack([1 - positive, positive], axis=1))
    weights = best_weights(answers, HeldTruth(target=target, code=BINARY))
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    blended = held_losses(blend_answers(answers, weights), target, BINARY).mean()
    best = min(held_losses(answer, target, BINARY).mean() for answer in answers)
    assert blended <= best + 1e-6


def test_what_brings_nothing_is_left_out() -> None:
    target = np.random.default_rng(0).normal(size=2000)
    good = noisy(target, 0.3)[0]
    copy = good + 1e-3 * np.random.default_rng(5).normal(size=good.shape)
    noise = noisy(target, 30.0)[0]
    shares = choose_weights(
        ["good", "copy", "noise"], [good, copy, noise], HeldTruth(target=target, code=NUMBERS)
    )
    assert sum(share.weight > 0 for share in shares) == 1
    assert shares[2].weight == 0
    assert sum(share.weight for share in shares) == pytest.approx(1)


def test_what_helps_stays_and_its_gain_is_told() -> None:
    target = np.random.default_rng(0).normal(size=4000)
    shares = choose_weights(
        ["a", "b"], noisy(target, 1.0, 1.0), HeldTruth(target=target, code=NUMBERS)
    )
    assert [round(share.weight, 1) for share in shares] == [0.5, 0.5]
    for share in shares:
        assert share.loss == pytest.approx(1.0, abs=0.08)
        assert share.gain == pytest.approx(0.5, abs=0.06)


def test_class_weights_are_divided_out_before_judging() -> None:
    weighted = TargetCode("binary", 1, 2, 0.0, 1.0, (0.5, 2.0))
    true = np.array([[0.9, 0.1], [0.4, 0.6]])
    answer = true * weighted.class_weights
    answer = answer / answer.sum(axis=1, keepdims=True)
    found = held_losses(answer, np.array([1, 0]), weighted)
    np.testing.assert_allclose(found, -np.log([0.1, 0.4]))


@pytest.mark.parametrize("weighted", [False, True])
def test_every_components_own_loss_and_gain_are_told(weighted: bool) -> None:
    target = np.random.default_rng(0).normal(size=3000)
    answers = noisy(target, 1.0, 1.2, 1.4)
    own = None
    if weighted:
        own = np.random.default_rng(2).uniform(0.2, 1.8, len(target))
        own /= own.mean()
    truth = HeldTruth(target=target, code=NUMBERS, weights=own)
    shares = choose_weights(["a", "b", "c"], answers, truth)
    blended = truth.score(blend_answers(answers, np.array([share.weight for share in shares])))
    for place, share in enumerate(shares):
        assert share.loss == pytest.approx(truth.score(answers[place]))
        rest = [answer for other, answer in enumerate(answers) if other != place]
        without = truth.score(blend_answers(rest, best_weights(rest, truth)))
        assert share.gain == pytest.approx(without - blended, abs=1e-9)


def test_a_named_metric_is_told_as_it_is_read() -> None:
    random = np.random.default_rng(5)
    target = (random.random(1500) < 0.4).astype(np.int64)
    chances = [1 / (1 + np.exp(-(2 * target - 1 + random.normal(0, s, 1500)))) for s in (1.5, 1.5)]
    answers = [np.stack([1 - chance, chance], axis=1) for chance in chances]
    code = dataclasses.replace(BINARY, metric="auc")
    shares = choose_weights(["a", "b"], answers, HeldTruth(target=target, code=code))
    for place, share in enumerate(shares):
        assert share.metric == "auc"
        assert share.value == pytest.approx(roc_auc_score(target, chances[place]))
        assert share.value_without == pytest.approx(roc_auc_score(target, chances[1 - place]))
        assert f"held-out auc {share.value:.5f}" in share_words(share)


@pytest.mark.parametrize("metric", ["rmse", "mae"])
@pytest.mark.parametrize("unit", [1e-6, 1e6, 1e9])
def test_weights_are_the_same_in_every_unit_of_the_target(
    metric: MetricChoice, unit: float
) -> None:
    target = np.random.default_rng(0).normal(size=2000)
    answers = noisy(target, 1.0, 1.5, 2.0)

    def weights(scale: float) -> np.ndarray:
        code = dataclasses.replace(NUMBERS, metric=metric, scale=scale)
        return best_weights(answers, HeldTruth(target=scale * target, code=code))

    np.testing.assert_allclose(weights(unit), weights(1.0), atol=2e-3)
    assert weights(1.0).max() > 0.5


@pytest.mark.parametrize("metric", ["auc", "accuracy", "f1", "log_loss"])
def test_weights_are_those_of_the_metric_that_was_named(metric: MetricChoice) -> None:
    """One component ranks well and has poor probabilities, the other the reverse."""
    random = np.random.default_rng(3)
    target = random.integers(0, 2, 3000)
    signal = target - 0.5
    ranks = 1 / (1 + np.exp(-9 * (signal + 0.6 * random.normal(size=3000))))
    honest = 1 / (1 + np.exp(-1.2 * (signal + 0.9 * random.normal(size=3000))))
    answers = [np.stack([1 - chance, chance], axis=1) for chance in (ranks, honest)]
    code = dataclasses.replace(BINARY, metric=metric)
    truth = HeldTruth(target=target, code=code)
    shares = choose_weights(["ranks", "honest"], answers, truth)
    assert sum(share.weight for share in shares) == pytest.approx(1)
    blended = blend_answers(answers, [share.weight for share in shares])
    by_loss = choose_weights(["ranks", "honest"], answers, HeldTruth(target=target, code=BINARY))
    other = blend_answers(answers, [share.weight for share in by_loss])
    # A component that helps within the noise alone is left out.
    assert truth.score(blended) <= truth.score(other) + truth.apart(other, blended).error
    assert truth.score(blended) <= min(truth.score(answer) for answer in answers) + 1e-3


def test_the_jackknifes_error_is_the_spread_over_repeated_draws() -> None:
    random = np.random.default_rng(0)
    code = dataclasses.replace(BINARY, metric="auc")
    rises, errors = [], []
    for _ in range(200):
        target = random.integers(0, 2, 400)
        answers = []
        for noise in (1.0, 1.2):
            chance = 1 / (1 + np.exp(-(target - 0.5 + noise * random.normal(size=400))))
            answers.append(np.stack([1 - chance, chance], axis=1))
        found = HeldTruth(target=target, code=code).apart(answers[1], answers[0])
        rises.append(found.worse_by)
        errors.append(found.error)
    assert float(np.mean(errors)) == pytest.approx(float(np.std(rises)), rel=0.15)
