"""The head's graph does what its NumPy twin does, and both do what they are for."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.export.blend import ANSWER
from steadynet.export.head import (
    ClassificationHead,
    Head,
    Knots,
    RegressionHead,
    apply_head,
    calibrated,
    export_head,
)
from steadynet.export.interval import (
    GROUPS,
    SPREAD,
    IntervalShape,
    Sides,
    bounds_of,
    crossed_of,
)

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def run(
    head: Head, answer: Floats, sides: dict[str, Floats] | None = None
) -> dict[str, np.ndarray]:
    """Answer blended answers (N, C) by the exported head; `sides` are its other inputs."""
    model = export_head(head)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    given = {ANSWER: answer, **(sides or {})}
    feed = {name: values.astype(np.float32) for name, values in given.items()}
    return dict(zip(names, session.run(names, feed), strict=True))


def head_of(count: int, **changes: object) -> ClassificationHead:
    """Return a classification head."""
    fields: dict[str, object] = {
        "classes": tuple(f"class {place}" for place in range(count)),
        "class_weights": (1.0,) * count,
        "scales": (1.0,) * count,
        "shifts": (0.0,) * count,
        "threshold": 0.5 if count == 2 else None,
    }
    return ClassificationHead(**(fields | changes))  # type: ignore[arg-type]


def answers(random: np.random.Generator, rows: int, count: int, spread: float) -> Floats:
    """Return probabilities (rows, count) as float32 can hold them."""
    logits = random.normal(size=(rows, count)) * spread
    made = np.exp(logits - logits.max(axis=1, keepdims=True))
    even: Floats = (made / made.sum(axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    return even


def line(random: np.random.Generator, points: int) -> Knots:
    """Return a monotone line over [0, 1]."""
    at = np.r_[0, np.sort(random.choice(np.arange(1, 1000), points, replace=False)) / 1000, 1]
    return Knots(at=tuple(at), value=tuple(np.sort(random.uniform(0.01, 0.99, points + 2))))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(2, 5),
    spread=st.sampled_from([0.1, 3.0, 60.0]),
    scaled=st.booleans(),
    weighted=st.booleans(),
    bent=st.booleans(),
)
def test_graph_and_numpy_agree_on_classes(
    seed: int, count: int, spread: float, scaled: bool, weighted: bool, bent: bool
) -> None:
    random = np.random.default_rng(seed)
    answer = answers(random, 9, count, spread)
    changes: dict[str, object] = {}
    if scaled:
        changes["scales"] = tuple(random.uniform(0.1, 5, count).tolist())
        changes["shifts"] = tuple(random.uniform(-2, 2, count).tolist())
    if weighted:
        changes["class_weights"] = tuple(random.uniform(0.1, 8, count).tolist())
    if bent:
        changes["knots"] = tuple(line(random, 6) for _ in range(count))
    head = head_of(count, **changes)
    found = run(head, answer)
    expected = apply_head(answer, head)["probabilities"]
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=5e-6)
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, atol=1e-5)
    if count > 2:
        likeliest = [head.classes[place] for place in found["probabilities"].argmax(axis=1)]
        assert found["label"].tolist() == likeliest


@pytest.mark.parametrize("scale", [0.1, 5.0])
def test_certain_answers_stay_finite(scale: float) -> None:
    answer = np.array([[0.0, 1.0], [1.0, 0.0], [1e-12, 1.0]])
    found = run(head_of(2, scales=(scale, scale)), answer)["probabilities"]
    assert np.isfinite(found).all()
    assert found[0, 1] > 0.8
    assert found[1, 1] < 0.2


def test_the_threshold_is_reached_and_not_passed() -> None:
    answer = np.array([[0.5, 0.5], [0.501, 0.499], [0.05, 0.95]])
    assert run(head_of(2), answer)["label"].tolist() == ["class 1", "class 0", "class 1"]
    strict = head_of(2, threshold=0.9)
    assert run(strict, answer)["label"].tolist() == ["class 0", "class 0", "class 1"]


def test_a_single_row_is_answered() -> None:
    found = run(head_of(3), np.full((1, 3), 1 / 3))
    assert found["label"].shape == (1,)
    assert found["probabilities"].shape == (1, 3)


def test_a_scale_below_one_flattens_and_keeps_the_order() -> None:
    probabilities = np.array([[0.1, 0.9], [0.4, 0.6]])
    flat = calibrated(probabilities, head_of(2, scales=(0.5, 0.5)))
    assert 0.5 < flat[0, 1] < 0.9
    assert flat[0, 1] > flat[1, 1]


def test_class_weights_are_divided_out_exactly() -> None:
    """A network fitted with weights answers p(c) * w(c), normalised; the head gives p back."""
    true = np.array([[0.9, 0.1], [0.5, 0.5]])
    weights = (0.6, 4.0)
    weighted = true * weights / (true * weights).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(calibrated(weighted, head_of(2, class_weights=weights)), true)


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 1000),
    center=st.floats(-1e6, 1e6),
    scale=st.floats(1e-3, 1e5),
    half=st.floats(0, 1e5),
)
def test_graph_and_numpy_agree_on_a_regression(
    seed: int, center: float, scale: float, half: float
) -> None:
    answer = np.random.default_rng(seed).normal(size=(6, 1))
    head = RegressionHead(center=center, scale=scale, half_width=half)
    found, expected = run(head, answer), apply_head(answer, head)
    for name in ("prediction", "lower", "upper"):
        assert found[name].shape == (6,)
        tolerance = 1e-5 * (abs(center) + scale + half)
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=tolerance)
    assert (found["lower"] <= found["upper"]).all()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), groups=st.integers(2, 5), rows=st.integers(1, 40))
def test_graph_and_numpy_agree_on_crossed_bounds(seed: int, groups: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    residuals = np.abs(random.normal(size=(groups, rows)))
    crossed = crossed_of(residuals, float(random.uniform(0.5, 0.95)), 40)
    head = RegressionHead(center=3.0, scale=2.0, half_width=1.0, crossed=crossed)
    answers = random.normal(size=(7, groups))
    blended = answers.mean(axis=1, keepdims=True)
    found = run(head, blended, {GROUPS: answers})
    expected = apply_head(blended, head, Sides(groups=answers))
    for name in ("prediction", "lower", "upper"):
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5)
    assert (found["lower"] <= found["prediction"]).all()
    assert (found["prediction"] <= found["upper"]).all()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), groups=st.integers(2, 5), rows=st.integers(2, 60))
def test_crossed_bounds_hold_those_of_the_paper(seed: int, groups: int, rows: int) -> None:
    """CV+ by its definition: the floor(a (n + 1))-th smallest of all group's answers - residual."""
    random = np.random.default_rng(seed)
    residuals, coverage = np.abs(random.normal(size=(groups, rows))), 0.8
    answers = random.normal(size=(5, groups))
    count = groups * rows
    rank = max(1, int((1 - coverage) * (count + 1) + 1e-9))
    lower = np.sort((answers[:, :, None] - residuals).reshape(5, -1), axis=1)[:, rank - 1]
    upper = np.sort((answers[:, :, None] + residuals).reshape(5, -1), axis=1)[:, -rank]
    for cells in (count, max(groups, count // 3)):
        shape = IntervalShape(half_width=0.0, crossed=crossed_of(residuals, coverage, cells))
        prediction = answers.mean(axis=1)
        low, high = bounds_of(prediction, shape, Sides(groups=answers))
        assert (low <= lower + 1e-12).all()
        assert (high >= upper - 1e-12).all()
        if cells == count:
            np.testing.assert_allclose(low, np.minimum(lower, prediction))
            np.testing.assert_allclose(high, np.maximum(upper, prediction))


def test_an_adaptive_width_follows_the_spread() -> None:
    head = RegressionHead(center=10.0, scale=1.0, half_width=2.0, adaptive=True)
    spread, answer = np.log(np.array([0.5, 3.0])), np.zeros((2, 1))
    found = run(head, answer, {SPREAD: spread[:, None, None]})
    np.testing.assert_allclose(found["lower"], [9.0, 4.0], rtol=1e-6)
    np.testing.assert_allclose(found["upper"], [11.0, 16.0], rtol=1e-6)
    expected = apply_head(answer, head, Sides(spread=spread))
    np.testing.assert_allclose(found["upper"], expected["upper"], rtol=1e-6)
