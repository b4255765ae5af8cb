"""The head's graph does what its NumPy twin does, and both do what they are for."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.export.head import (
    ClassificationHead,
    Head,
    RegressionHead,
    apply_head,
    calibrated,
    export_head,
    member_probabilities,
)
from steadynet.export.network import MEMBERS
from steadynet.networks import NetworkSize, TabularNetwork, build_network
from steadynet.table.layout import FeatureLayout

LAYOUT = FeatureLayout(numbers=("x",), number_sources=("x",), categories=(), cardinalities=())


def network_of(members: int, outputs: int) -> TabularNetwork:
    """Return a network with that many members and outputs."""
    numbers = np.zeros((3, 1), np.float32)
    size = NetworkSize(4, 1, members, 1, 0.0)
    return build_network("ensemble", LAYOUT, outputs, size, numbers=numbers, seed=0)


def run(head: Head, members: np.ndarray) -> dict[str, np.ndarray]:
    """Answer member outputs (N, M, C) by the exported head."""
    model = export_head(head, network_of(*members.shape[1:]))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, {MEMBERS: members}), strict=True))


def head_of(count: int, temperature: float = 1.0, **changes: object) -> ClassificationHead:
    """Return a classification head."""
    fields: dict[str, object] = {
        "classes": tuple(f"class {place}" for place in range(count)),
        "class_weights": (1.0,) * count,
        "threshold": 0.5 if count == 2 else None,
    }
    return ClassificationHead(temperature=temperature, **(fields | changes))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(2, 5),
    spread=st.sampled_from([0.1, 3.0, 60.0]),
    temperature=st.floats(0.2, 10),
    weighted=st.booleans(),
)
def test_graph_and_numpy_agree_on_classes(
    seed: int, count: int, spread: float, temperature: float, weighted: bool
) -> None:
    random = np.random.default_rng(seed)
    outputs = 1 if count == 2 else count
    members = (random.normal(size=(9, 3, outputs)) * spread).astype(np.float32)
    weights = tuple(random.uniform(0.1, 8, count).tolist()) if weighted else (1.0,) * count
    head = head_of(count, temperature, class_weights=weights)
    found = run(head, members)
    expected = apply_head(members, head)["probabilities"]
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, atol=1e-5)
    if count > 2:
        likeliest = [head.classes[place] for place in found["probabilities"].argmax(axis=1)]
        assert found["label"].tolist() == likeliest


def test_extreme_logits_stay_finite() -> None:
    members = np.array([[[1e4]], [[-1e4]]], np.float32)
    found = run(head_of(2, temperature=0.2), members)["probabilities"]
    assert np.isfinite(found).all()
    assert found[0, 1] > 0.999
    assert found[1, 1] < 0.001


def test_the_threshold_is_reached_and_not_passed() -> None:
    members = np.array([[[0.0]], [[-0.001]], [[3.0]]], np.float32)
    assert run(head_of(2), members)["label"].tolist() == ["class 1", "class 0", "class 1"]
    strict = head_of(2, threshold=0.9)
    assert run(strict, members)["label"].tolist() == ["class 0", "class 0", "class 1"]


def test_a_single_row_is_answered() -> None:
    found = run(head_of(3), np.zeros((1, 2, 3), np.float32))
    assert found["label"].shape == (1,)
    assert found["probabilities"].shape == (1, 3)


def test_members_are_averaged_as_probabilities_and_not_as_logits() -> None:
    members = np.array([[[8.0], [-1.0]]], np.float32)
    expected = (1 / (1 + np.exp(-8.0)) + 1 / (1 + np.exp(1.0))) / 2
    assert member_probabilities(members)[0, 1] == pytest.approx(expected)


def test_a_temperature_above_one_flattens_and_keeps_the_order() -> None:
    probabilities = np.array([[0.1, 0.9], [0.4, 0.6]])
    flat = calibrated(probabilities, head_of(2, temperature=2.0))
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
    members = np.random.default_rng(seed).normal(size=(6, 4, 1)).astype(np.float32)
    head = RegressionHead(center=center, scale=scale, half_width=half)
    found, expected = run(head, members), apply_head(members, head)
    for name in ("prediction", "lower", "upper"):
        assert found[name].shape == (6,)
        tolerance = 1e-5 * (abs(center) + scale + half)
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=tolerance)
    assert (found["lower"] <= found["upper"]).all()
