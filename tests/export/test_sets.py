"""Sets of classes: the graph's are NumPy's, and hold the true class as often as promised."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.export.blend import ANSWER
from steadynet.export.head import ClassificationHead, apply_head, export_head
from steadynet.export.sets import PredictionSets, SetMethod, set_scores, sets_of, unsure_cells
from steadynet.training.conformal import fit_sets

METHODS: tuple[SetMethod, ...] = ("lac", "aps", "raps")
COVERAGE = 0.9

Floats = npt.NDArray[np.float64]


def head_of(count: int, sets: PredictionSets) -> ClassificationHead:
    """Return a head that changes no probability."""
    return ClassificationHead(
        classes=tuple(f"class {place}" for place in range(count)),
        class_weights=(1.0,) * count,
        scales=(1.0,) * count,
        shifts=(0.0,) * count,
        threshold=0.5 if count == 2 else None,
        sets=sets,
    )


def labels(probabilities: Floats, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw a class for each row."""
    places = (random.random((len(probabilities), 1)) > np.cumsum(probabilities, axis=1)).sum(axis=1)
    found: npt.NDArray[np.int64] = np.minimum(places, probabilities.shape[1] - 1).astype(np.int64)
    return found


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(2, 8),
    method=st.sampled_from(METHODS),
    limit=st.floats(0.05, 1.1),
)
def test_graph_and_numpy_agree(seed: int, count: int, method: SetMethod, limit: float) -> None:
    answer = np.random.default_rng(seed).dirichlet(np.full(count, 0.6), 40)
    sets = PredictionSets(method=method, limit=limit)
    head = head_of(count, sets)
    session = ort.InferenceSession(
        export_head(head).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    label, probabilities, found = session.run(
        ["label", "probabilities", "prediction_set"], {ANSWER: answer.astype(np.float32)}
    )
    expected = apply_head(answer, head)
    assert found.dtype == np.bool_
    assert found.shape == (40, count)
    sure = ~unsure_cells(expected["probabilities"], sets)
    np.testing.assert_array_equal(found[sure], expected["prediction_set"].astype(bool)[sure])
    assert found[np.arange(40), probabilities.argmax(axis=1)].all()
    assert len(label) == 40


def test_scores_are_those_of_the_papers() -> None:
    p = np.array([[0.5, 0.3, 0.2]])
    np.testing.assert_allclose(set_scores(p, "lac"), [[0.5, 0.7, 0.8]])
    np.testing.assert_allclose(set_scores(p, "aps"), [[0.5, 0.8, 1.0]])
    np.testing.assert_allclose(set_scores(p, "raps"), [[0.5, 0.8, 1.02]])


@pytest.mark.parametrize("method", METHODS)
def test_sets_hold_the_class_as_promised_whatever_the_probabilities(method: SetMethod) -> None:
    """2000 draws of 50 held-out rows, with probabilities that are far too sharp."""
    random = np.random.default_rng(0)
    inside, sizes = [], []
    for _ in range(2000):
        truth = random.dirichlet(np.full(4, 0.8), 70)
        target = labels(truth, random)
        told = truth**3 / (truth**3).sum(axis=1, keepdims=True)
        sets = fit_sets(told[:50], target[:50], method, COVERAGE)
        found = sets_of(told[50:], sets)
        inside.append(found[np.arange(20), target[50:]].mean())
        sizes.append(found.sum(axis=1).mean())
    assert COVERAGE - 0.005 <= np.mean(inside) <= COVERAGE + 0.02
    assert 1 < np.mean(sizes) < 4


def test_the_smallest_sets_are_those_of_lac() -> None:
    random = np.random.default_rng(0)
    truth = random.dirichlet(np.full(6, 0.5), 6000)
    target = labels(truth, random)
    sizes = {
        method: sets_of(truth[3000:], fit_sets(truth[:3000], target[:3000], method, COVERAGE))
        .sum(axis=1)
        .mean()
        for method in METHODS
    }
    assert sizes["lac"] < sizes["raps"]
    assert sizes["lac"] < sizes["aps"]


def test_too_few_rows_put_every_class_into_every_set() -> None:
    truth = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    sets = fit_sets(truth, np.zeros(5, np.int64), "aps", COVERAGE)
    assert sets_of(truth, sets).all()


def test_no_set_is_empty() -> None:
    even = np.full((1, 4), 0.25)
    assert sets_of(even, PredictionSets(method="lac", limit=0.1)).all()
    sharp = np.array([[0.4, 0.3, 0.3]])
    assert sets_of(sharp, PredictionSets(method="lac", limit=0.1)).tolist() == [
        [True, False, False]
    ]
