"""Novelty: the graph says what NumPy says, and 1 is the promised quantile of held-out rows."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from steadynet.export.novelty import OUTSIDE_WEIGHT, Novelty, export_novelty, novelty_of
from steadynet.export.parts import CATEGORIES, NUMBERS
from steadynet.runtime.outputs import far_rows
from steadynet.table.schema import HIDDEN, NOVELTY

RNG = np.random.default_rng(1)
UNITS, KEPT = 12, 3


def fitted(numbers: int = 4, columns: tuple[int, ...] = (5, 3)) -> Novelty:
    directions, _ = np.linalg.qr(RNG.normal(size=(UNITS, KEPT)))
    return Novelty(
        center=RNG.normal(size=UNITS),
        directions=directions,
        deviations=np.array([2.0, 1.0, 0.5]),
        off=0.3,
        reach=np.full(numbers, 2.0),
        known=tuple(np.arange(size) != 1 for size in columns),
        unit=1.7,
        scale=1.2,
    )


@pytest.mark.parametrize(("numbers", "columns"), [(4, (5, 3)), (0, (4,)), (3, ())])
def test_the_graph_says_what_numpy_says(numbers: int, columns: tuple[int, ...]) -> None:
    novelty = fitted(numbers, columns)
    model = export_novelty(novelty, "h")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    hidden = RNG.normal(size=(50, UNITS)).astype(np.float32)
    cells = RNG.normal(0, 2, (50, numbers)).astype(np.float32)
    places = np.stack(
        [RNG.integers(0, size, 50) for size in columns] or [np.zeros(50, np.int64)], axis=1
    )[:, : len(columns)]
    feed: dict[str, np.ndarray] = {"h": hidden}
    if numbers:
        feed[NUMBERS] = cells
    if columns:
        feed[CATEGORIES] = places
    components, found = session.run([HIDDEN, NOVELTY], feed)
    expected = novelty_of(novelty, hidden, cells, places)
    np.testing.assert_allclose(components, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, expected[1], rtol=1e-4, atol=1e-5)


def test_each_input_outside_training_adds_the_same() -> None:
    novelty = fitted()
    hidden = np.zeros((3, UNITS), np.float32)
    cells = np.array([[0, 0, 0, 0], [9, 0, 0, 0], [9, -9, 0, 0]], np.float32)
    places = np.array([[0, 0], [0, 0], [1, 0]])
    _, found = novelty_of(novelty, hidden, cells, places)
    step = OUTSIDE_WEIGHT / novelty.scale
    np.testing.assert_allclose(found - found[0], [0, step, 3 * step])


def test_a_row_that_lies_off_the_directions_is_far() -> None:
    novelty = fitted()
    random = RNG.normal(size=UNITS)
    off = random - novelty.directions @ (novelty.directions.T @ random)
    hidden = np.stack([novelty.center, novelty.center + 10 * off]).astype(np.float32)
    _, found = novelty_of(novelty, hidden, np.zeros((2, 4), np.float32), np.zeros((2, 2), int))
    assert found[0] < 1e-3
    assert found[1] > 5


def test_a_row_beyond_what_float32_can_square_is_far_and_hides_no_other() -> None:
    model = export_novelty(fitted(0, ()), "h")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    directions = RNG.normal(size=(5, UNITS))
    hidden = directions * np.array([[0.0], [1e3], [1e19], [1e25], [0.0]])
    (found,) = session.run([NOVELTY], {"h": hidden.astype(np.float32)})
    assert np.isnan(found).any(), "inf - inf"
    assert {1, 2, 3} <= set(far_rows(found))
    assert far_rows(found[[3, 3]]) == [0, 1]


def test_the_graph_takes_any_number_of_rows() -> None:
    model = export_novelty(fitted(), "h")
    shapes = {value.name: value.type.tensor_type.shape.dim[0] for value in model.graph.input}
    assert all(dim.dim_param == "N" for dim in shapes.values())
    assert (
        model.graph.output[1].type
        == helper.make_tensor_value_info(NOVELTY, TensorProto.FLOAT, ["N"]).type
    )
