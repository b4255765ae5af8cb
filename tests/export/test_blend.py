"""Components' members become one answer, in the graph as in NumPy."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.export.blend import (
    ANSWER,
    BlendPart,
    average_members,
    blend_answers,
    export_blend,
)
from steadynet.export.network import members_name


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 999),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    classes=st.integers(1, 4),
    spread=st.sampled_from([0.1, 3.0, 1e3]),
)
def test_graph_and_numpy_agree(seed: int, sizes: list[int], classes: int, spread: float) -> None:
    """`classes` 1 is a regression."""
    random = np.random.default_rng(seed)
    outputs = 1 if classes <= 2 else classes
    weights = random.dirichlet(np.ones(len(sizes)))
    parts = [
        BlendPart(name=f"part{place}", members=size, outputs=outputs, weight=float(weight))
        for place, (size, weight) in enumerate(zip(sizes, weights, strict=True))
    ]
    members = {
        members_name(part.name): (random.normal(size=(5, part.members, outputs)) * spread).astype(
            np.float32
        )
        for part in parts
    }
    model = export_blend(parts, classes=classes > 1)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run([ANSWER], members)
    expected = blend_answers(
        [average_members(values, classes=classes > 1) for values in members.values()], weights
    )
    assert found.shape == (5, classes)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_members_are_averaged_as_probabilities_and_not_as_logits() -> None:
    members = np.array([[[8.0], [-1.0]]], np.float32)
    expected = (1 / (1 + np.exp(-8.0)) + 1 / (1 + np.exp(1.0))) / 2
    assert average_members(members, classes=True)[0, 1] == pytest.approx(expected)


def test_extreme_logits_stay_finite() -> None:
    found = average_members(np.array([[[1e4]], [[-1e4]]], np.float32), classes=True)
    np.testing.assert_allclose(found, [[0, 1], [1, 0]])
