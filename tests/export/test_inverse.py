"""What a target went through before the fit is undone in the graph, bit for bit as in NumPy."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.export.blend import ANSWER
from steadynet.export.head import RegressionHead, apply_head, export_head
from steadynet.export.inverse import IDENTITY, Inverse

KNOTS = Inverse(
    kind="knots",
    at=(-3.0, -1.0, -0.5, 0.0, 2.0, 3.0),
    value=(0.0, 0.1, 4.0, 4.5, 1e4, 1e6),
)
COUNTS = Inverse(kind="exp", low=-8.0, high=6.0)
LOGS = Inverse(kind="expm1", low=-1.0, high=12.0)
ALL = {"identity": IDENTITY, "knots": KNOTS, "exp": COUNTS, "expm1": LOGS}


def run(head: RegressionHead, answers: np.ndarray) -> dict[str, np.ndarray]:
    """Run the head's graph on answers (N,)."""
    session = onnxruntime.InferenceSession(export_head(head).SerializeToString())
    found = session.run(None, {ANSWER: answers.astype(np.float32)[:, None]})
    return dict(zip((node.name for node in session.get_outputs()), found, strict=True))


@pytest.mark.parametrize("kind", list(ALL))
def test_the_graph_answers_as_numpy_does(kind: str) -> None:
    head = RegressionHead(center=0.3, scale=0.8, half_width=2.0, inverse=ALL[kind])
    answers = np.r_[np.linspace(-20, 20, 801), 3e38, -3e38]
    wanted = apply_head(answers[:, None], head)
    for name, got in run(head, answers[:-2]).items():
        np.testing.assert_allclose(got, wanted[name][:-2], rtol=2e-5, atol=2e-5)
    far = run(head, answers[-2:])["prediction"]
    assert kind == "identity" or np.isfinite(far).all()


@pytest.mark.parametrize("kind", ["exp", "expm1"])
def test_what_cannot_be_negative_is_not_predicted_so(kind: str) -> None:
    head = RegressionHead(center=0.0, scale=1.0, half_width=5.0, inverse=ALL[kind])
    found = run(head, np.linspace(-30, 30, 200))
    assert found["prediction"].min() >= 0
    assert found["lower"].min() == 0
    assert (found["upper"] >= found["prediction"]).all()


@pytest.mark.parametrize("kind", list(ALL))
@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(0.01, 1e3), min_size=1, max_size=30))
def test_undoing_and_applying_is_nothing(kind: str, values: list[float]) -> None:
    target = np.array(values).clip(0.01, 400)
    np.testing.assert_allclose(ALL[kind].apply(ALL[kind].undo(target)), target, rtol=1e-9)


@pytest.mark.parametrize("kind", list(ALL))
def test_no_prediction_moves_more_than_the_slope_says(kind: str) -> None:
    fitted = np.linspace(-2.9, 2.9, 500)
    inverse = ALL[kind]
    made = inverse.apply(fitted)
    rises = np.diff(made) / np.diff(fitted)
    assert (rises <= inverse.slope(made)[1:] * (1 + 1e-6) + 1e-9).all()
