"""Fit the feature graph: the one implementation of how a row becomes tensors.

Training runs this graph to make its tensors; export welds the same nodes before the network.
Every row's result is independent of the other rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from steadynet.errors import TableError
from steadynet.features.categories import add_categories, fit_categories
from steadynet.features.draft import IR_VERSION, ML_OPSET, OPSET, PREFIX, GraphDraft
from steadynet.features.moments import add_moments, fit_moments
from steadynet.features.numbers import add_numbers, fit_numbers
from steadynet.features.state import FeatureState
from steadynet.spec.kinds import Kind
from steadynet.table.layout import FeatureLayout
from steadynet.table.schema import Column, Schema, input_name

NUMBERS = PREFIX + "numbers"
CATEGORIES = PREFIX + "categories"

ROWS = "N"

TENSOR_TYPES: dict[Kind, int] = {
    "number": TensorProto.FLOAT,
    "boolean": TensorProto.FLOAT,
    "category": TensorProto.STRING,
    "datetime": TensorProto.INT64,
}
"""The ONNX type of each kind's input, shape (N, 1)."""


class FeatureGraph(NamedTuple):
    """A fitted feature graph, the tensors it makes, and what it was written from.

    Inputs: one per feature column, named by `input_name`, (N, 1). Outputs: `steadynet/numbers`
    float32 (N, D) and `steadynet/categories` int64 (N, K).
    """

    model: onnx.ModelProto
    layout: FeatureLayout
    state: FeatureState


def fit_features(
    columns: Mapping[str, npt.NDArray[Any]], schema: Schema, previous: FeatureState | None = None
) -> FeatureGraph:
    """Fit imputation, scaling, lookups and date parts on the training part alone.

    `columns` are the graph's inputs for the training rows, (N, 1) each. What `previous` knows of
    a column stays; new columns, categories and date parts are added. Raises `TableError` where
    there are no rows.
    """
    _check_rows(columns, schema)
    known = previous or FeatureState(numbers=(), moments=(), categories=())
    vector = [column for column in schema.features if column.kind in ("number", "boolean")]
    moments = [column for column in schema.features if column.kind == "datetime"]
    texts = [column for column in schema.features if column.kind == "category"]
    state = FeatureState(
        numbers=fit_numbers(vector, columns, {scale.name: scale for scale in known.numbers}),
        moments=fit_moments(moments, columns, {scale.name: scale for scale in known.moments}),
        categories=fit_categories(
            texts, columns, {entries.name: entries for entries in known.categories}
        ),
    )
    return write_features(state, schema)


def write_features(state: FeatureState, schema: Schema) -> FeatureGraph:
    """Write the graph of a state for the feature columns of `schema`."""
    draft = GraphDraft()
    numbers = add_numbers(draft, state.numbers)
    moments = add_moments(draft, state.moments)
    lookup = add_categories(draft, state.categories)
    made = numbers.tensors + moments.tensors
    # What is there goes first: the rows of what is not are counted by it.
    first, second = (made, NUMBERS), (lookup.tensors, CATEGORIES)
    if not made:
        first, second = second, first
    _add_output(draft, *first, first[1])
    _add_output(draft, *second, first[1])
    layout = FeatureLayout(
        numbers=(*numbers.names, *moments.names),
        number_sources=(*numbers.sources, *moments.sources),
        categories=tuple(column.name for column in state.categories),
        cardinalities=tuple(lookup.cardinalities),
    )
    return FeatureGraph(_model(draft, schema.features, layout), layout, state)


def _check_rows(columns: Mapping[str, npt.NDArray[Any]], schema: Schema) -> None:
    if not schema.features or len(columns[schema.features[0].name]) == 0:
        raise TableError(
            "there is nothing to fit features on",
            expected="at least one feature column and one row",
            got=f"{len(schema.features)} feature columns",
        )


def _add_output(draft: GraphDraft, tensors: list[str], output: str, counted: str) -> None:
    """Join tensors under an output's name; without any, it is (N, 0) by the rows of `counted`."""
    name = output.removeprefix(PREFIX)
    if tensors:
        draft.node("Concat", tensors, name, axis=1)
        return
    # Not by an input: one that is joined alone need not be an input of its own where it is run.
    rows = draft.node("Shape", [counted], f"{name}/rows", start=0, end=1)
    none = draft.constant(f"{name}/none", np.array([0], dtype=np.int64))
    shape = draft.node("Concat", [rows, none], f"{name}/shape", axis=0)
    dtype = np.float32 if output == NUMBERS else np.int64
    empty = helper.make_tensor("value", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [1], [0])
    draft.node("ConstantOfShape", [shape], name, value=empty)


def _model(
    draft: GraphDraft, features: tuple[Column, ...], layout: FeatureLayout
) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(input_name(column.name), TENSOR_TYPES[column.kind], [ROWS, 1])
        for column in features
    ]
    outputs = [
        helper.make_tensor_value_info(NUMBERS, TensorProto.FLOAT, [ROWS, len(layout.numbers)]),
        helper.make_tensor_value_info(
            CATEGORIES, TensorProto.INT64, [ROWS, len(layout.categories)]
        ),
    ]
    graph = helper.make_graph(
        draft.nodes, "steadynet/features", inputs, outputs, initializer=draft.constants
    )
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        producer_name="steadynet",
    )
    onnx.checker.check_model(model)
    return model
