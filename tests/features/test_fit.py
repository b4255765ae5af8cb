"""The feature graph as a whole: names, shapes, lookups, independence of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.errors import TableError
from steadynet.features.draft import PREFIX, GraphDraft
from steadynet.features.fit import CATEGORIES, NUMBERS, fit_features
from steadynet.features.run import CHUNK_ROWS, run_features
from steadynet.table.schema import MISSING_DATETIME, Column, Schema, Target, input_name

NAN = math.nan
MakeFeatures = Callable[..., Any]
KINDS = {"age": "number", "job": "category", "on": "boolean", "at": "datetime"}
CELLS: dict[str, list[Any]] = {
    "age": [1.0, NAN, 3.0, 9.0],
    "job": ["a", "b", "", "a"],
    "on": [0.0, 1.0, 1.0, NAN],
    "at": [0, 86_400 * 40, MISSING_DATETIME, 3600],
}
KNOWN = {"job": ("a", "b", "never in training")}


def test_categories_have_entries_of_their_own(make_features: MakeFeatures) -> None:
    features = make_features(KINDS, KNOWN, **CELLS)
    assert features.layout.categories == ("job",)
    assert features.layout.cardinalities == (4,)
    cells = {name: values[:1] * 5 for name, values in CELLS.items()}
    cells["job"] = ["", "new", "a", "b", "never in training"]
    assert features.run(**cells).categories.ravel().tolist() == [0, 1, 2, 3, 1]


def test_shapes_and_types(make_features: MakeFeatures) -> None:
    features = make_features(KINDS, KNOWN, **CELLS)
    tensors = features.run(**CELLS)
    assert tensors.numbers.dtype == np.float32
    assert tensors.categories.dtype == np.int64
    assert tensors.numbers.shape == (4, len(features.layout.numbers))
    assert tensors.categories.shape == (4, 1)


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("left", [("age",), ("job",), ("at",), ("on", "job"), tuple(KINDS)])
def test_tables_of_some_kinds_only(
    make_features: MakeFeatures, left: tuple[str, ...], rows: int
) -> None:
    kinds = {name: KINDS[name] for name in left}
    features = make_features(kinds, KNOWN, **{name: CELLS[name] for name in left})
    tensors = features.run(**{name: CELLS[name][:rows] for name in left})
    assert tensors.numbers.shape == (rows, len(features.layout.numbers))
    assert tensors.categories.shape == (rows, len(features.layout.categories))


def test_inner_names_cannot_collide_with_columns(make_features: MakeFeatures) -> None:
    names = ["label", "steadynet/numbers", "a b", "ü/\u4e2d", " ", "column:label", "N", "0"]
    cells = {name: [1.0, NAN] for name in names}
    features = make_features(dict.fromkeys(names, "number"), **cells)
    graph = features.graph.model.graph
    inputs = [node.name for node in graph.input]
    assert inputs == [input_name(name) for name in names]
    assert len(set(inputs)) == len(names)
    inner = [output for node in graph.node for output in node.output]
    inner += [constant.name for constant in graph.initializer]
    assert all(name.startswith(PREFIX) for name in inner)
    assert not set(inner) & set(inputs)
    assert features.run(**cells).numbers.shape == (2, 2 * len(names))


def test_the_outputs_are_named_and_shaped_as_promised(make_features: MakeFeatures) -> None:
    features = make_features(KINDS, KNOWN, **CELLS)
    outputs = {
        node.name: [d.dim_param or d.dim_value for d in node.type.tensor_type.shape.dim]
        for node in features.graph.model.graph.output
    }
    assert outputs == {NUMBERS: ["N", len(features.layout.numbers)], CATEGORIES: ["N", 1]}


def test_two_fits_are_the_same_bytes(make_features: MakeFeatures) -> None:
    first, second = (make_features(KINDS, KNOWN, **CELLS).graph.model for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


ROW = st.fixed_dictionaries(
    {
        "age": st.floats(width=32),
        "job": st.sampled_from(["a", "b", "", "new", "ü"]),
        "on": st.sampled_from([0.0, 1.0, NAN]),
        "at": st.one_of(st.just(MISSING_DATETIME), st.integers(-(10**10), 10**10)),
    }
)


@settings(max_examples=30, deadline=None)
@given(st.lists(ROW, min_size=2, max_size=12))
def test_a_row_has_the_same_tensors_alone_and_in_company(rows: list[dict[str, Any]]) -> None:
    dtypes = {"age": np.float32, "job": object, "on": np.float32, "at": np.int64}
    graph = fit_features(
        {n: np.array(CELLS[n], dtype=dtypes[n]).reshape(-1, 1) for n in KINDS}, schema_of_all()
    )
    columns = {n: np.array([row[n] for row in rows], dtype=dtypes[n]).reshape(-1, 1) for n in KINDS}
    together = run_features(graph, columns)
    for place in range(len(rows)):
        alone = run_features(graph, {n: values[[place]] for n, values in columns.items()})
        np.testing.assert_array_equal(alone.numbers[0], together.numbers[place])
        np.testing.assert_array_equal(alone.categories[0], together.categories[place])


def schema_of_all() -> Schema:
    """Return the schema of `CELLS`."""
    return Schema(
        columns=tuple(
            Column(name=name, kind=kind, reason="", categories=KNOWN.get(name, ()))  # type: ignore[arg-type]
            for name, kind in KINDS.items()
        ),
        target=Target(name="y", task="regression", reason=""),
    )


def test_chunks_change_nothing() -> None:
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {"x": random.normal(size=(2 * CHUNK_ROWS + 7, 1)).astype(np.float32)}
    schema = Schema(
        columns=(Column(name="x", kind="number", reason=""),),
        target=Target(name="y", task="regression", reason=""),
    )
    graph = fit_features(columns, schema)
    session = onnxruntime.InferenceSession(graph.model.SerializeToString())
    (whole,) = session.run([NUMBERS], columns)
    np.testing.assert_array_equal(run_features(graph, columns).numbers, whole)


def test_columns_that_are_no_features_are_ignored(make_features: MakeFeatures) -> None:
    features = make_features(KINDS, KNOWN, **CELLS)
    columns = {
        "age": np.zeros((2, 1), np.float32),
        "job": np.array([["a"], ["b"]], dtype=object),
        "on": np.zeros((2, 1), np.float32),
        "at": np.zeros((2, 1), np.int64),
        "other": np.zeros((2, 1)),
    }
    assert run_features(features.graph, columns).numbers.shape[0] == 2


def test_a_thousand_columns(make_features: MakeFeatures) -> None:
    kinds = {f"n{i}": "number" for i in range(700)} | {f"c{i}": "category" for i in range(300)}
    cells: dict[str, list[Any]] = {f"n{i}": [float(i), NAN, 2.0] for i in range(700)}
    cells |= {f"c{i}": ["x", "y", ""] for i in range(300)}
    known = {f"c{i}": ("x", "y") for i in range(300)}
    tensors = make_features(kinds, known, **cells).run(**cells)
    assert tensors.numbers.shape == (3, 1400)
    assert tensors.categories.shape == (3, 300)
    assert tensors.categories[:, 299].tolist() == [2, 3, 0]


def test_nodes_do_not_grow_with_the_numbers(make_features: MakeFeatures) -> None:
    few, many = (
        make_features(
            {f"n{i}": "number" for i in range(size)}, **{f"n{i}": [1.0, NAN] for i in range(size)}
        )
        for size in (2, 200)
    )
    assert len(few.graph.model.graph.node) == len(many.graph.model.graph.node)


def test_the_model_is_valid_onnx(make_features: MakeFeatures) -> None:
    model = make_features(KINDS, KNOWN, **CELLS).graph.model
    onnx.checker.check_model(model, full_check=True)


def test_there_must_be_rows_and_features() -> None:
    nothing = Schema(columns=(), target=Target(name="y", task="regression", reason=""))
    with pytest.raises(TableError, match="nothing to fit"):
        fit_features({}, nothing)
    empty: dict[str, Any] = {n: np.empty((0, 1), dtype=np.float32) for n in KINDS}
    with pytest.raises(TableError, match="nothing to fit"):
        fit_features(empty, schema_of_all())


def test_a_name_is_handed_out_once() -> None:
    draft = GraphDraft()
    draft.constant("one", np.array(1))
    with pytest.raises(ValueError, match="steadynet/one already"):
        draft.node("Identity", ["x"], "one")
