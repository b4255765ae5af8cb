"""A small honest model of card payments, made by hand: a logistic function of main effects.

Its graph reads the columns that the bad releases operate on, so that they can be made and tried
without training a network first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from releases import LABEL, PROBABILITIES, record_golden
from steadynet.bundle.manifest import Interval, Provenance
from steadynet.bundle.profile import OutputProfile, Profile
from steadynet.bundle.read import Bundle
from steadynet.bundle.sign import SigningKey
from steadynet.bundle.write import BundleDraft, write_bundle
from steadynet.table.schema import Column, Schema, Target
from stream import make_payments
from world import CHANNELS, MERCHANT_KINDS

SCHEMA = Schema(
    columns=(
        Column(name="merchant_kind", kind="category", reason="texts"),
        Column(name="channel", kind="category", reason="texts"),
        Column(name="amount", kind="number", reason="numbers"),
        Column(name="payments_last_day", kind="number", reason="numbers"),
        Column(name="strong_auth", kind="boolean", reason="true or false"),
    ),
    target=Target(name="fraud", task="binary", reason="two values", classes=("no", "yes")),
)


def build_graph() -> bytes:
    """Return the graph: five columns in, label and probabilities out."""
    nodes = [
        _lookup("merchant_kind", {k.name: k.risk for k in MERCHANT_KINDS}, "kind"),
        _lookup("channel", {c.name: c.risk for c in CHANNELS}, "way"),
        helper.make_node("Mul", ["payments_last_day", "per_payment"], ["busy"]),
        helper.make_node("Mul", ["strong_auth", "proof"], ["proven"]),
        helper.make_node("Sum", ["kind", "way", "busy", "proven", "intercept"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
        helper.make_node("Sub", ["one", "score"], ["rest"]),
        helper.make_node("Concat", ["rest", "score"], [PROBABILITIES], axis=1),
        helper.make_node("ArgMax", [PROBABILITIES], ["best"], axis=1, keepdims=0),
        helper.make_node(
            "LabelEncoder",
            ["best"],
            [LABEL],
            domain="ai.onnx.ml",
            keys_int64s=[0, 1],
            values_strings=["no", "yes"],
        ),
    ]
    constants = {"per_payment": 0.35, "proof": -1.4, "intercept": -3.2, "one": 1.0}
    types = {"category": TensorProto.STRING, "number": TensorProto.FLOAT}
    graph = helper.make_graph(
        nodes,
        "payments",
        [
            helper.make_tensor_value_info(c.name, types.get(c.kind, TensorProto.FLOAT), [None, 1])
            for c in SCHEMA.features
        ],
        [
            helper.make_tensor_value_info(LABEL, TensorProto.STRING, [None]),
            helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [None, 2]),
        ],
        [
            numpy_helper.from_array(np.array([[value]], np.float32), name)
            for name, value in constants.items()
        ],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return bytes(model.SerializeToString())


def write_good_bundle(folder: Path, key: SigningKey) -> Bundle:
    """Write the honest model as a signed bundle."""
    graph = build_graph()
    names = [column.name for column in SCHEMA.features]
    rows = [{name: row[name] for name in names} for row in make_payments(64, seed=5).rows()]
    return write_bundle(
        folder,
        BundleDraft(
            name="payments",
            schema=SCHEMA,
            model=graph,
            profile=Profile(
                rows=64,
                features=(),
                output=OutputProfile(
                    edges=(0.5,), counts=(60, 4), mean=0.1, deviation=0.1, label_counts={"no": 64}
                ),
                loss_mean=0.2,
                loss_deviation=0.5,
            ),
            golden=record_golden(graph, SCHEMA, rows),
            weights=b"",
            training=b"{}",
            card="# Main effects\n",
            metrics={"test": {"auc": Interval(value=0.8, low=0.7, high=0.9)}},
            references={},
            provenance=Provenance(
                steadynet="0",
                python="3",
                libraries={},
                seed=0,
                snapshot_sha256="0",
                rows={"train": 64},
                fit_seconds=0.0,
            ),
        ),
        key,
    )


def _lookup(column: str, values: dict[str, float], output: str) -> object:
    return helper.make_node(
        "LabelEncoder",
        [column],
        [output],
        domain="ai.onnx.ml",
        keys_strings=list(values),
        values_floats=list(values.values()),
        default_float=0.0,
    )
