"""Bundles for the benchmarks: a network of two layers over plain or mixed columns, untrained."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from steadynet.bundle.golden import Cell, GoldenRow
from steadynet.bundle.manifest import Interval, Provenance
from steadynet.bundle.profile import FeatureProfile, OutputProfile, Profile
from steadynet.bundle.read import Bundle
from steadynet.bundle.sign import ensure_key
from steadynet.bundle.write import BundleDraft, write_bundle
from steadynet.home import Home
from steadynet.runtime.columns import decode_rows
from steadynet.table.schema import Column, Schema, Target

WIDTH = 256
CATEGORIES = 50
CLASSES = ("no", "yes")
Row = dict[str, Cell]


def schema_of(numbers: int, texts: int) -> Schema:
    """Return a schema of number and category columns."""
    known = tuple(f"value-{position}" for position in range(CATEGORIES))
    return Schema(
        columns=(
            *(Column(name=f"n{i}", kind="number", reason="bench") for i in range(numbers)),
            *(
                Column(name=f"t{i}", kind="category", reason="bench", categories=known)
                for i in range(texts)
            ),
        ),
        target=Target(name="y", task="binary", reason="bench", classes=CLASSES),
    )


def rows_of(schema: Schema, count: int, seed: int = 0) -> list[Row]:
    """Return random rows."""
    random = np.random.default_rng(seed)
    return [
        {
            column.name: round(float(random.normal()), 4)
            if column.kind == "number"
            else f"value-{random.integers(CATEGORIES + 5)}"
            for column in schema.features
        }
        for _ in range(count)
    ]


def graph_of(numbers: int, texts: int, seed: int = 0, *, matrix: bool = False) -> bytes:
    """Return the graph: numbers and looked-up texts, two layers of 256, softmax.

    With `matrix` it has one input `x` [N, D] in place of one per column.
    """
    random = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    if matrix:
        nodes.append(helper.make_node("Identity", ["x"], ["hidden0"]))
    else:
        nodes += _front(numbers, texts)
    if texts:
        # A vector of one number per category, as an exported network looks them up.
        constant("offsets", np.arange(texts, dtype=np.int64) * (CATEGORIES + 1))
        vectors = random.normal(size=(texts, CATEGORIES + 1))
        vectors[:, 0] = 0.0
        constant("vectors", vectors.reshape(-1).astype(np.float32))
    sizes = [numbers + texts, WIDTH, WIDTH, 2]
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        weights = random.normal(size=(inputs, outputs)) / np.sqrt(inputs)
        constant(f"w{layer}", weights.astype(np.float32))
        constant(f"b{layer}", np.zeros(outputs, np.float32))
        nodes.append(
            helper.make_node("Gemm", [f"hidden{layer}", f"w{layer}", f"b{layer}"], [f"sum{layer}"])
        )
        if layer < 2:
            nodes.append(helper.make_node("Relu", [f"sum{layer}"], [f"hidden{layer + 1}"]))
    constant("names", np.array(CLASSES, dtype=object))
    nodes += [
        helper.make_node("Softmax", ["sum2"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["index"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "index"], ["label"]),
    ]
    given = [
        *(
            helper.make_tensor_value_info(f"n{i}", TensorProto.FLOAT, ["N", 1])
            for i in range(numbers)
        ),
        *(
            helper.make_tensor_value_info(f"t{i}", TensorProto.STRING, ["N", 1])
            for i in range(texts)
        ),
    ]
    if matrix:
        given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", numbers])]
    answers = [
        helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
    ]
    graph = helper.make_graph(nodes, "bench", given, answers, constants)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    serialized: bytes = model.SerializeToString()
    return serialized


def _front(numbers: int, texts: int) -> list[onnx.NodeProto]:
    """Return what makes `hidden0` of the columns, in the nodes that the exporter writes."""
    plain = [f"n{i}" for i in range(numbers)]
    if not texts:
        return [helper.make_node("Concat", plain, ["hidden0"], axis=1)]
    entries = [f"entry{i}" for i in range(texts)]
    nodes = [
        helper.make_node(
            "LabelEncoder",
            [f"t{i}"],
            [entry],
            domain="ai.onnx.ml",
            keys_strings=[f"value-{position}" for position in range(CATEGORIES)],
            values_int64s=list(range(1, CATEGORIES + 1)),
            default_int64=0,
        )
        for i, entry in enumerate(entries)
    ]
    nodes += [
        helper.make_node("Concat", entries, ["entries"], axis=1),
        helper.make_node("Add", ["entries", "offsets"], ["places"]),
        helper.make_node("Gather", ["vectors", "places"], ["looked"]),
    ]
    if not numbers:
        return [*nodes, helper.make_node("Identity", ["looked"], ["hidden0"])]
    return [
        *nodes,
        helper.make_node("Concat", plain, ["numbers"], axis=1),
        helper.make_node("Concat", ["numbers", "looked"], ["hidden0"], axis=1),
    ]


def write_model(home: Home, folder: Path, name: str, numbers: int, texts: int) -> Bundle:
    """Write and sign a bundle."""
    schema = schema_of(numbers, texts)
    model = graph_of(numbers, texts)
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    rows = rows_of(schema, 64)
    label, probabilities = session.run(["label", "probabilities"], decode_rows(schema, rows))
    golden = tuple(
        GoldenRow(inputs=row, outputs={"label": str(one), "probabilities": tuple(map(float, two))})
        for row, one, two in zip(rows, label, probabilities, strict=True)
    )
    edges = tuple(np.linspace(0.1, 0.9, 9).tolist())
    features = tuple(
        FeatureProfile(
            name=column.name,
            kind=column.kind,
            counts=(1,) * (CATEGORIES + 1 if column.categories else 20),
            missing=0,
            edges=() if column.categories else tuple(np.linspace(-2, 2, 19).tolist()),
            categories=column.categories,
        )
        for column in schema.features
    )
    draft = BundleDraft(
        name=name,
        schema=schema,
        model=model,
        profile=Profile(
            rows=64,
            features=features,
            output=OutputProfile(
                edges=edges, counts=(1,) * 10, mean=0.5, deviation=0.2, label_counts={}
            ),
            loss_mean=0.5,
            loss_deviation=0.2,
        ),
        golden=golden,
        weights=(2).to_bytes(8, "little") + b"{}",
        training=b"{}\n",
        card=f"# {name}\n",
        metrics={"test": {"auc": Interval(value=0.5, low=0.5, high=0.5)}},
        references={},
        provenance=Provenance(
            steadynet="bench",
            python="",
            libraries={},
            seed=0,
            snapshot_sha256="0" * 64,
            rows={},
            fit_seconds=0.0,
        ),
        coverage=None,
        decision_threshold=0.5,
    )
    return write_bundle(folder, draft, ensure_key(home))
