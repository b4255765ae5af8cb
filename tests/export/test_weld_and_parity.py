"""Welding joins the three graphs, and the parity check notices every kind of disagreement."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from steadynet.errors import ParityError, TrainingError
from steadynet.export.blend import BlendPart, average_members, export_blend
from steadynet.export.head import ClassificationHead, Head, RegressionHead, export_head
from steadynet.export.network import export_network
from steadynet.export.parity import MANY_ROWS, UNSEEN_CATEGORY, check_parity, stress_rows
from steadynet.export.weld import weld
from steadynet.features.fit import FeatureGraph, fit_features
from steadynet.features.run import Tensors
from steadynet.networks import NETWORKS, NetworkSize, TabularNetwork, build_network
from steadynet.table.schema import MISSING_DATETIME, Column, Schema, Target, input_name
from steadynet.training.answers import WeldedGraph

Columns = dict[str, np.ndarray[Any, Any]]
ROWS = 60


def schema_of(*kinds: str) -> Schema:
    """Return a schema with those kinds of columns; the first is named as an output is."""
    columns = {
        "number": Column(name="label", kind="number", reason="", minimum=-3.0, maximum=3.0),
        "boolean": Column(name="flag", kind="boolean", reason=""),
        "category": Column(name="city", kind="category", reason="", categories=("a", "b", "c")),
        "datetime": Column(name="at", kind="datetime", reason="", minimum=0.0, maximum=2e9),
    }
    target = Target(name="y", task="binary", reason="", classes=("no", "yes"))
    return Schema(columns=tuple(columns[kind] for kind in kinds), target=target)


def columns_of(schema: Schema, rows: int = ROWS) -> Columns:
    """Return graph inputs with missing values."""
    random = np.random.default_rng(0)
    values: Columns = {
        "label": random.normal(size=(rows, 1)).astype(np.float32),
        "flag": random.integers(0, 2, (rows, 1)).astype(np.float32),
        "city": random.choice(["a", "b", "c", ""], (rows, 1)).astype(object),
        "at": random.integers(0, 2_000_000_000, (rows, 1)),
    }
    values["label"][3] = np.nan
    values["flag"][4] = np.nan
    values["at"][5] = MISSING_DATETIME
    return {column.name: values[column.name] for column in schema.features}


class Parts:
    """A feature graph, a network, a head and what they were welded to."""

    def __init__(self, schema: Schema, head: Head, network: str = "ensemble") -> None:
        self.schema, self.head = schema, head
        self.columns = columns_of(schema)
        self.features: FeatureGraph = fit_features(self.columns, schema)
        layout = self.features.layout
        numbers = np.random.default_rng(1).normal(size=(50, len(layout.numbers)))
        size = NetworkSize(8, 2, 2, 2, 0.0)
        self.network: TabularNetwork = build_network(
            network, layout, 1, size, numbers=numbers.astype(np.float32), seed=0
        )
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.network.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)

    def model(self) -> onnx.ModelProto:
        """Weld the parts."""
        components, blend, head = self.graphs()
        return weld(self.features.model, components, [blend], [head])

    def graphs(self) -> tuple[list[onnx.ModelProto], onnx.ModelProto, onnx.ModelProto]:
        """Write what stands behind the feature graph."""
        network = export_network(self.network, self.features.layout)
        members = self.network.groups * self.network.members
        part = BlendPart(name="network", members=members, outputs=1, weight=1.0)
        classes = isinstance(self.head, ClassificationHead)
        return [network], export_blend([part], classes=classes), export_head(self.head)

    def answer(self, tensors: Tensors) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Answer by torch."""
        self.network.eval()
        with torch.inference_mode():
            members = self.network(
                torch.from_numpy(tensors.numbers), torch.from_numpy(tensors.categories)
            ).numpy()
        return average_members(members, classes=isinstance(self.head, ClassificationHead))

    def answers(self, tensors: Tensors) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        """Answer the one target."""
        return [self.answer(tensors)]

    def check(self, model: onnx.ModelProto) -> float:
        """Return the largest difference between a welded model and the parts."""
        graph = WeldedGraph(model.SerializeToString(), self.schema, threads=1)
        found = check_parity(
            graph.run, self.features, self.answers, [self.head], self.schema, self.columns
        )
        assert found.rows > MANY_ROWS
        return max(found.largest_difference, found.largest_alone)


BINARY = ClassificationHead(
    classes=("no", "yes"),
    class_weights=(1.0, 1.0),
    method="temperature",
    scales=(0.8, 0.8),
    shifts=(0.0, 0.0),
    threshold=0.5,
)
REGRESSION = RegressionHead(center=1e6, scale=2e4, half_width=3e3)

KINDS = (
    ("number", "boolean", "category", "datetime"),
    ("number",),
    ("category",),
    ("boolean", "category"),
    ("datetime",),
)


@pytest.mark.parametrize("kinds", KINDS, ids="+".join)
@pytest.mark.parametrize("head", [BINARY, REGRESSION], ids=["binary", "regression"])
def test_the_welded_graph_agrees_with_its_parts(kinds: tuple[str, ...], head: Head) -> None:
    parts = Parts(schema_of(*kinds), head)
    assert parts.check(parts.model()) < 1e-5


@pytest.mark.parametrize("network", sorted(set(NETWORKS) - {"ensemble"}))
@pytest.mark.parametrize("kinds", KINDS[:3], ids="+".join)
def test_every_network_agrees_behind_the_real_feature_graph(
    network: str, kinds: tuple[str, ...]
) -> None:
    """With missing values, unseen categories, infinities, one row and many."""
    parts = Parts(schema_of(*kinds), BINARY, network)
    assert parts.check(parts.model()) < 1e-5


def test_the_inputs_are_the_tables_and_the_outputs_the_promised() -> None:
    parts = Parts(schema_of(*KINDS[0]), BINARY)
    graph = parts.model().graph
    assert [entry.name for entry in graph.input] == [
        input_name(column.name) for column in parts.schema.features
    ]
    assert [entry.name for entry in graph.output] == ["label", "probabilities"]
    own = {entry.name for entry in (*graph.input, *graph.output)}
    made = {name for node in graph.node for name in node.output} | {
        constant.name for constant in graph.initializer
    }
    assert all(name.startswith("steadynet/") for name in made - own)


def test_a_weight_that_differs_is_noticed() -> None:
    parts = Parts(schema_of(*KINDS[0]), BINARY)
    model = parts.model()
    for constant in model.graph.initializer:
        if "heads" in constant.name:
            values = numpy_helper.to_array(constant).copy()
            values += np.float32(0.01)
            constant.CopyFrom(numpy_helper.from_array(values, constant.name))
    with pytest.raises(ParityError, match=r"differ from the trained network; expected at most"):
        parts.check(model)


def test_answers_that_are_not_finite_are_noticed() -> None:
    parts = Parts(schema_of("number", "category"), REGRESSION)
    model = parts.model()
    for constant in model.graph.initializer:
        if "center" in constant.name:
            nan = numpy_helper.from_array(np.array(np.nan, np.float32), constant.name)
            constant.CopyFrom(nan)
    with pytest.raises(ParityError, match="not finite"):
        parts.check(model)


def test_answers_that_depend_on_the_batch_are_noticed() -> None:
    """A graph that subtracts the batch's mean agrees on no row alone."""
    parts = Parts(schema_of("number", "category"), REGRESSION)
    graph = WeldedGraph(parts.model().SerializeToString(), parts.schema, threads=1)
    seen: dict[int, float] = {}

    def leaky(columns: Columns) -> Columns:
        answers = graph.run(columns)
        rows = len(answers["prediction"])
        seen[rows] = 1.0
        if rows == 1:
            answers["prediction"] = answers["prediction"] + np.float32(REGRESSION.scale)
        return answers

    with pytest.raises(ParityError, match="the same row in a batch"):
        check_parity(
            leaky, parts.features, parts.answers, [parts.head], parts.schema, parts.columns
        )
    assert set(seen) > {1}


def test_rows_made_worse_hold_every_kind_of_trouble() -> None:
    schema = schema_of(*KINDS[0])
    worse = stress_rows(columns_of(schema), schema)
    label = worse["label"][:, 0]
    assert np.isnan(label).any()
    assert np.isposinf(label).any()
    assert np.isneginf(label).any()
    assert np.isnan(worse["flag"]).any()
    cities = set(worse["city"][:, 0].tolist())
    assert {"", UNSEEN_CATEGORY} <= cities
    assert (worse["at"] == MISSING_DATETIME).any()
    every_missing = (
        np.isnan(label)
        & np.isnan(worse["flag"][:, 0])
        & (worse["city"][:, 0] == "")
        & (worse["at"][:, 0] == MISSING_DATETIME)
    )
    assert every_missing.any()


def test_one_real_row_is_enough() -> None:
    parts = Parts(schema_of(*KINDS[0]), BINARY)
    parts.columns = {name: values[:1] for name, values in parts.columns.items()}
    assert parts.check(parts.model()) < 1e-5


def test_parts_of_other_operator_sets_are_refused() -> None:
    parts = Parts(schema_of("number"), BINARY)
    components, blend, head = parts.graphs()
    components[0].opset_import[0].version = 17
    with pytest.raises(TrainingError, match="other operator sets"):
        weld(parts.features.model, components, [blend], [head])


def test_a_name_made_twice_is_refused() -> None:
    parts = Parts(schema_of("number"), BINARY)
    components, blend, head = parts.graphs()
    taken = components[0].graph.node[0].output[0]
    head.graph.node.insert(0, helper.make_node("Identity", ["steadynet/answer"], [taken]))
    with pytest.raises(TrainingError, match="use the same name"):
        weld(parts.features.model, components, [blend], [head])
