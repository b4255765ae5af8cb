"""Every method does what its paper promises, and the choice among them is made on data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.errors import SpecError, TrainingError
from steadynet.export.head import ClassificationHead, RegressionHead, apply_head
from steadynet.spec.model import CalibrationSpec
from steadynet.training.calibrate import (
    Calibration,
    calibrate,
    fit_isotonic,
    methods_for,
)
from steadynet.training.conformal import conformal_half_width
from steadynet.training.data import TargetCode

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
BINARY = TargetCode("binary", 1, 2, 0.0, 1.0, (1.0, 1.0))
NUMBERS = TargetCode("regression", 1, 0, 50.0, 4.0, ())
NAMES = ("no", "yes")
PLAIN = ClassificationHead(
    classes=NAMES,
    class_weights=(1.0, 1.0),
    scales=(1.0, 1.0),
    shifts=(0.0, 0.0),
    threshold=0.5,
)


def drawn(
    rows: int, sharpness: float, seed: int = 0, shift: float = 0.0
) -> tuple[Floats, np.ndarray]:
    """Return answers that are `sharpness` times too sharp and off by `shift`, and true classes."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=rows) * 1.5
    target = (random.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    positive = 1 / (1 + np.exp(-(logits * sharpness + shift)))
    return np.stack([1 - positive, positive], axis=1), target


def chosen(answer: Floats, target: np.ndarray, method: str = "auto") -> Calibration:
    """Calibrate with one method, or by choice."""
    return calibrate(
        answer,
        target,
        BINARY,
        NAMES,
        CalibrationSpec(method=method),  # type: ignore[arg-type]
    )


def log_loss(head: ClassificationHead, answer: Floats, target: np.ndarray) -> float:
    """Return the mean log-loss of a head's answers."""
    probabilities = apply_head(answer, head)["probabilities"]
    return float(-np.log(probabilities[np.arange(len(target)), target]).mean())


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_the_answers_need(sharpness: float) -> None:
    answer, target = drawn(20_000, sharpness)
    head = chosen(answer, target, "temperature").head
    assert isinstance(head, ClassificationHead)
    assert 1 / head.scales[0] == pytest.approx(sharpness, rel=0.08)
    assert head.threshold == 0.5


def test_beta_calibration_finds_a_shift_too() -> None:
    answer, target = drawn(20_000, 2.0, shift=1.0)
    found = {method: chosen(answer, target, method).head for method in ("temperature", "beta")}
    fresh, truth = drawn(20_000, 2.0, seed=1, shift=1.0)
    perfect, _ = drawn(20_000, 1.0, seed=1)
    losses = {}
    for method, head in found.items():
        assert isinstance(head, ClassificationHead)
        losses[method] = log_loss(head, fresh, truth)
    assert losses["beta"] < losses["temperature"] - 0.005
    assert losses["beta"] == pytest.approx(log_loss(PLAIN, perfect, truth), abs=0.002)


def test_beta_calibration_is_the_line_of_its_paper() -> None:
    """The logit of the calibrated answer is a log p - b log(1 - p) + c (Kull et al. 2017)."""
    random = np.random.default_rng(0)
    p = random.beta(0.8, 2.0, 4000)
    truth = 1 / (1 + np.exp(-(1.6 * np.log(p) - 0.6 * np.log1p(-p) + 0.4)))
    target = (random.random(4000) < truth).astype(np.int64)
    head = chosen(np.stack([1 - p, p], axis=1), target, "beta").head
    assert isinstance(head, ClassificationHead)
    assert head.method == "beta"
    found = apply_head(np.stack([1 - p, p], axis=1), head)["probabilities"][:, 1]
    b, a = head.scales
    wanted = a * np.log(p) - b * np.log1p(-p) + head.shifts[1]
    clear = (p > 1e-4) & (p < 1 - 1e-4)
    np.testing.assert_allclose(np.log(found / (1 - found))[clear], wanted[clear], atol=1e-6)
    assert np.abs(found - truth).mean() < 0.02


@pytest.mark.parametrize(("method", "classes"), [("beta", 3), ("vector", 2)])
def test_a_method_that_is_not_for_as_many_classes_is_refused(method: str, classes: int) -> None:
    code = TargetCode("multiclass", classes, classes, 0.0, 1.0, (1.0,) * classes)
    answer, target = np.full((60, classes), 1 / classes), np.arange(60) % classes
    names = ("a", "b", "c")[:classes]
    spec = CalibrationSpec(method=method)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=f"does not fit {classes} classes"):
        calibrate(answer, target, code, names, spec)


def test_isotonic_regression_straightens_what_no_scale_can() -> None:
    random = np.random.default_rng(0)
    score = random.random(8000)
    truth = np.where(score < 0.5, 0.1 + 0.1 * score, 0.6 + 0.3 * score)
    target = (random.random(8000) < truth).astype(np.int64)
    answer = np.stack([1 - score, score], axis=1)
    fitted, fresh = slice(0, 4000), slice(4000, None)
    heads = {
        method: fit(answer[fitted], target[fitted], PLAIN) for method, fit in methods_for(2).items()
    }
    losses = {m: log_loss(head, answer[fresh], target[fresh]) for m, head in heads.items()}
    assert min(losses, key=lambda method: losses[method]) == "isotonic"


def test_isotonic_lines_rise_and_keep_two_classes_summing_to_one() -> None:
    answer, target = drawn(1500, 2.5)
    head = fit_isotonic(answer, target, PLAIN)
    for knots in head.knots:
        assert (np.diff(knots.at) > 0).all()
        assert (np.diff(knots.value) >= 0).all()
        assert knots.at[0] == 0
        assert knots.at[-1] == 1
        assert 0 < knots.value[0] <= knots.value[-1] < 1
    found = apply_head(answer, head)["probabilities"]
    order = np.argsort(answer[:, 1])
    assert (np.diff(found[order, 1]) >= -1e-12).all()


def test_the_choice_leaves_good_answers_alone_and_mends_bad_ones() -> None:
    kept = [chosen(*drawn(3000, 1.0, seed)).head for seed in range(10)]
    methods = [head.method for head in kept if isinstance(head, ClassificationHead)]
    assert methods.count("none") >= 8
    bad = chosen(*drawn(3000, 2.5)).head
    assert isinstance(bad, ClassificationHead)
    assert bad.method == "temperature"
    shifted = chosen(*drawn(3000, 1.0, shift=1.0)).head
    assert isinstance(shifted, ClassificationHead)
    assert shifted.method in ("beta", "isotonic")


def test_the_choice_is_told_with_its_noise() -> None:
    found = chosen(*drawn(3000, 2.5)).scores
    assert [score.method for score in found] == list(methods_for(2))
    assert min(score.worse_by for score in found) == 0.0
    plain = found[0]
    assert plain.worse_by > plain.worse_by_error > 0
    assert "isotonic" not in [score.method for score in chosen(*drawn(200, 1.0)).scores]


@pytest.mark.parametrize("method", sorted(methods_for(2)))
def test_answers_that_are_always_right_stay_finite(method: str) -> None:
    answer = np.array([[0.02, 0.98], [0.98, 0.02]]).repeat(30, axis=0)
    target = np.array([1] * 30 + [0] * 30)
    head = chosen(answer, target, method).head
    assert isinstance(head, ClassificationHead)
    found = apply_head(np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]), head)["probabilities"]
    assert np.isfinite(found).all()
    assert found[0, 1] > 0.9
    assert found[2, 1] < 0.1


@pytest.mark.parametrize("method", sorted(methods_for(3)))
def test_several_classes_with_an_absent_one(method: str) -> None:
    random = np.random.default_rng(0)
    code = TargetCode("multiclass", 3, 3, 0.0, 1.0, (1.0, 1.0, 1.0))
    answer = random.dirichlet(np.ones(3), 400)
    spec = CalibrationSpec(method=method)  # type: ignore[arg-type]
    head = calibrate(answer, random.integers(0, 2, 400), code, ("a", "b", "c"), spec).head
    assert isinstance(head, ClassificationHead)
    assert head.threshold is None
    found = apply_head(answer, head)["probabilities"]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


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
    target = np.linspace(48, 52, 20)
    head = calibrate(np.zeros((20, 1)), target, NUMBERS, (), CalibrationSpec()).head
    assert isinstance(head, RegressionHead)
    assert (head.center, head.scale) == (50.0, 4.0)
    assert head.half_width == pytest.approx(np.sort(np.abs(target - 50))[18])


def test_without_held_out_rows_there_is_nothing_to_calibrate_on() -> None:
    with pytest.raises(TrainingError, match="no held-out rows"):
        calibrate(np.zeros((0, 1)), np.zeros(0), NUMBERS, (), CalibrationSpec())
