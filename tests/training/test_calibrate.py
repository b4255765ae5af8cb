"""Temperatures and conformal widths do what their papers promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.errors import TrainingError
from steadynet.export.head import ClassificationHead, RegressionHead, apply_head
from steadynet.training.calibrate import calibrate, conformal_half_width
from steadynet.training.data import TargetCode

BINARY = TargetCode("binary", 1, 2, 0.0, 1.0, (1.0, 1.0))
NUMBERS = TargetCode("regression", 1, 0, 50.0, 4.0, ())


def drawn(rows: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits that are `sharpness` times too sharp, and classes drawn from the true ones."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=rows) * 1.5
    target = (random.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    return (logits * sharpness).astype(np.float32)[:, None, None], target


def log_loss(head: ClassificationHead, members: np.ndarray, target: np.ndarray) -> float:
    """Return the mean log-loss of a head's answers."""
    probabilities = apply_head(members, head)["probabilities"]
    return float(-np.log(probabilities[np.arange(len(target)), target]).mean())


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_the_answers_need(sharpness: float) -> None:
    members, target = drawn(20_000, sharpness)
    head = calibrate(members, target, BINARY, ("no", "yes"), 0.9)
    assert isinstance(head, ClassificationHead)
    assert head.temperature == pytest.approx(sharpness, rel=0.08)
    assert head.threshold == 0.5


def test_calibrating_never_raises_the_held_out_loss() -> None:
    for seed in range(20):
        members, target = drawn(40, 1.3, seed)
        head = calibrate(members, target, BINARY, ("no", "yes"), 0.9)
        assert isinstance(head, ClassificationHead)
        plain = ClassificationHead(
            classes=head.classes, temperature=1.0, class_weights=(1.0, 1.0), threshold=0.5
        )
        assert log_loss(head, members, target) <= log_loss(plain, members, target) + 1e-9


def test_answers_that_are_always_right_end_at_the_bound_and_not_at_zero() -> None:
    members = np.array([[[4.0]], [[-4.0]]], np.float32).repeat(20, axis=0)
    target = np.array([1] * 20 + [0] * 20)
    head = calibrate(members, target, BINARY, ("no", "yes"), 0.9)
    assert isinstance(head, ClassificationHead)
    assert 0.19 < head.temperature < 0.25


def test_several_classes_have_no_threshold() -> None:
    random = np.random.default_rng(0)
    code = TargetCode("multiclass", 3, 3, 0.0, 1.0, (1.0, 1.0, 1.0))
    head = calibrate(
        random.normal(size=(50, 2, 3)).astype(np.float32),
        random.integers(0, 3, 50),
        code,
        ("a", "b", "c"),
        0.9,
    )
    assert isinstance(head, ClassificationHead)
    assert head.threshold is None


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=200),
    st.floats(0.05, 0.99),
)
def test_the_width_is_a_residual_that_covers_as_many_as_promised(
    residuals: list[float], coverage: float
) -> None:
    values = np.array(residuals)
    width = conformal_half_width(values, coverage)
    assert width in residuals
    assert (values <= width).mean() >= min(coverage, 1.0) - 1e-12


def test_the_interval_covers_new_rows_on_average_as_promised() -> None:
    """Over many draws of 30 held-out rows, a new row is inside with at least the coverage."""
    random = np.random.default_rng(0)
    trials = 4000
    held = np.abs(random.standard_t(3, (trials, 30)))
    fresh = np.abs(random.standard_t(3, trials))
    widths = np.array([conformal_half_width(row, 0.9) for row in held])
    covered = float((fresh <= widths).mean())
    assert 0.89 <= covered <= 0.93


def test_too_few_rows_give_the_largest_residual() -> None:
    assert conformal_half_width(np.array([1.0, 5.0, 2.0]), 0.9) == 5.0


def test_a_regression_head_is_in_the_targets_unit() -> None:
    members = np.zeros((20, 3, 1), np.float32)
    target = np.linspace(48, 52, 20)
    head = calibrate(members, target, NUMBERS, (), 0.9)
    assert isinstance(head, RegressionHead)
    assert (head.center, head.scale) == (50.0, 4.0)
    assert head.half_width == pytest.approx(np.sort(np.abs(target - 50))[18])


def test_without_held_out_rows_there_is_nothing_to_calibrate_on() -> None:
    with pytest.raises(TrainingError, match="no held-out rows"):
        calibrate(np.zeros((0, 2, 1), np.float32), np.zeros(0), NUMBERS, (), 0.9)
