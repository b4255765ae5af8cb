"""A graph without its front answers as the whole graph does, and only what may be cut is cut."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from steadynet.features.fit import fit_features
from steadynet.runtime.columns import ColumnDecoder
from steadynet.runtime.feeding import Feeder
from steadynet.runtime.front import Cut, cut_front
from steadynet.spec.kinds import Kind
from steadynet.table.schema import Column, Schema, Target, input_name

NAMES: dict[str, Kind] = {
    "steadynet/n": "number",
    "flag": "boolean",
    "c": "category",
    "label": "category",
}
TEXTS = st.sampled_from(["", "a", "b", "é", "never seen", "\U0001f600"])
NUMBERS = st.one_of(st.none(), st.floats(width=32), st.integers(-9, 9))
FLAGS = st.sampled_from([None, True, False])


def schema_of(kinds: dict[str, Kind]) -> Schema:
    """Return a schema; the texts known are the same in both columns, so that none is mixed up."""
    return Schema(
        columns=tuple(
            Column(
                name=name,
                kind=kind,
                reason="test",
                categories=("a", "b", "é") if kind == "category" else (),
            )
            for name, kind in kinds.items()
        ),
        target=Target(name="y", task="regression", reason="test"),
    )


def fitted(schema: Schema) -> bytes:
    """Fit the features on some rows of every kind of value; what they make is read by nodes."""
    values: dict[Kind, list[Any]] = {
        "number": [1.0, None, 3.5],
        "boolean": [True, False, None],
        "category": ["b", "", "a"],
        "datetime": [0, 86_400, None],
    }
    decoder = ColumnDecoder(schema)
    table = {column.name: values[column.kind] for column in schema.features}
    model = fit_features(dict(decoder.table(table)), schema).model
    for output in model.graph.output:
        made = f"{output.name}/read"
        model.graph.node.append(helper.make_node("Identity", [output.name], [made]))
        output.name = made
    serialized: bytes = model.SerializeToString()
    return serialized


def run_both(model: bytes, schema: Schema, table: dict[str, list[Any]]) -> None:
    """Compare all outputs of the whole graph and of the one that was cut, to the bit."""
    cut = cut_front(model)
    assert cut is not None
    columns = ColumnDecoder(schema).table(table)
    plain = {input_name(name): array for name, array in columns.items()}
    expected = session_of(model).run(None, plain)
    for given_columns in (columns, dict(columns)):
        found = session_of(cut.model).run(None, feeder_of(cut, schema).feed(given_columns, 0, 99))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@cache
def session_of(model: bytes) -> ort.InferenceSession:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


def feeder_of(cut: Cut, schema: Schema) -> Feeder:
    joined = {join.tensor for join in cut.joins}
    inputs = [node.name for node in session_of(cut.model).get_inputs() if node.name not in joined]
    return Feeder(inputs, cut.joins, {input_name(c.name): c.name for c in schema.features})


MIXED = schema_of({**NAMES, "at": "datetime"})
MIXED_GRAPH = fitted(MIXED)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 6))
def test_cut_graphs_make_the_tensors_of_whole_ones(data: st.DataObject, rows: int) -> None:
    cells: dict[str, st.SearchStrategy[Any]] = {
        "number": NUMBERS,
        "boolean": FLAGS,
        "category": TEXTS,
        "datetime": st.integers(-(10**9), 10**10),
    }
    table = {
        column.name: data.draw(st.lists(cells[column.kind], min_size=rows, max_size=rows))
        for column in MIXED.features
    }
    run_both(MIXED_GRAPH, MIXED, table)


@pytest.mark.parametrize(
    ("kinds", "inputs"),
    [
        ({"a": "number", "b": "number"}, {"steadynet/numbers/joined"}),
        ({"a": "category", "b": "number"}, {"steadynet/categories", "b"}),
        ({"a": "category", "b": "category"}, {"steadynet/categories"}),
        ({"a": "category"}, {"steadynet/categories"}),
    ],
)
def test_what_is_joined_is_one_input(kinds: dict[str, Kind], inputs: set[str]) -> None:
    schema = schema_of(kinds)
    graph = fitted(schema)
    cut = cut_front(graph)
    assert cut is not None
    model = onnx.load_model_from_string(cut.model)
    onnx.checker.check_model(model, full_check=True)
    assert {given.name for given in model.graph.input} == inputs
    sample: dict[Kind, list[Any]] = {"number": [1.0, None], "category": ["a", "zz"]}
    run_both(graph, schema, {name: sample[kind] for name, kind in kinds.items()})


def model_of(nodes: list[onnx.NodeProto], *, outputs: tuple[str, ...] = ("y",)) -> bytes:
    """Return a graph of two numbers and a text."""
    inputs = [
        *(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in "ab"),
        helper.make_tensor_value_info("t", TensorProto.STRING, ["N", 1]),
    ]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "test", inputs, made)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 4)]
    model: bytes = helper.make_model(graph, ir_version=9, opset_imports=opsets).SerializeToString()
    return model


def joined(axis: int = 1, inputs: str = "ab") -> onnx.NodeProto:
    return helper.make_node("Concat", list(inputs), ["x"], axis=axis)


NEGATED = helper.make_node("Neg", ["x"], ["y"])
ENCODER = {"domain": "ai.onnx.ml", "keys_strings": ["a", "b"], "default_int64": -7}
CAST = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)


@pytest.mark.parametrize(
    "model",
    [
        model_of([joined(axis=0), NEGATED]),
        model_of([joined(inputs="aab"), NEGATED]),
        model_of([joined(), NEGATED, helper.make_node("Neg", ["a"], ["z"])], outputs=("y", "z")),
        model_of([joined(), NEGATED], outputs=("y", "x")),
        model_of([joined(), helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")]),
        model_of(
            [
                helper.make_node(
                    "LabelEncoder",
                    ["t"],
                    ["e"],
                    domain="ai.onnx.ml",
                    keys_strings=["a", "a"],
                    values_int64s=[1, 2],
                ),
                helper.make_node("Concat", ["e"], ["x"], axis=1),
                CAST,
            ]
        ),
        b"",
    ],
    ids=["other axis", "twice", "used elsewhere", "answered", "fused", "double keys", "no graph"],
)
def test_what_is_of_another_shape_is_left_as_it_is(model: bytes) -> None:
    assert cut_front(model) is None


def test_outputs_that_nobody_asks_for_are_not_computed() -> None:
    nodes = [joined(), NEGATED, helper.make_node("Sqrt", ["x"], ["far"])]
    cut = cut_front(model_of(nodes, outputs=("y", "far")), {"far", "absent"})
    assert cut is not None
    model = onnx.load_model_from_string(cut.model)
    assert [node.op_type for node in model.graph.node] == ["Neg"]
    assert [output.name for output in model.graph.output] == ["y"]
    [answer] = session_of(cut.model).run(None, {"x": np.ones((1, 2), np.float32), "t": TEXT})
    assert answer.tolist() == [[-1.0, -1.0]]


TEXT = np.array([["a"]], object)


def test_entries_of_all_sizes_are_read_from_the_graph() -> None:
    values = [2**40, -(2**40)]
    encoder = helper.make_node("LabelEncoder", ["t"], ["e"], values_int64s=values, **ENCODER)
    cut = cut_front(model_of([encoder, helper.make_node("Concat", ["e"], ["x"], axis=1), CAST]))
    assert cut is not None
    [join] = cut.joins
    assert join.lookups == (({"a": 2**40, "b": -(2**40)}, -7),)
    assert cut.types == {"t": "tensor(string)"}
    feeder = Feeder([], cut.joins, {"t": "t"})
    texts = np.array([["a"], ["b"], ["c"]], object)
    assert feeder.feed({"t": texts}, 0, 3)["x"].tolist() == [[2**40], [-(2**40)], [-7]]
    assert feeder.feed({"t": texts}, 1, 2)["x"].tolist() == [[-(2**40)]]
    for wrong in (np.array([[None]], object), np.array([["\ud800"]], object), texts[:, 0]):
        with pytest.raises(ValueError, match=r"text|object|encode"):
            feeder.feed({"t": wrong}, 0, 3)
