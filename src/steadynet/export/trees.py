"""Boosted trees → ONNX: one TreeEnsembleRegressor node, exact to the leaf.

The trees compare float32 inputs with 64-bit thresholds. The node's thresholds are 32-bit, so each
is rounded down to the largest float32 that is not above it: a float32 is at most the one where it
is at most the other. Every row therefore reaches the same leaves; only the leaves' sum is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from steadynet.export.network import members_name
from steadynet.export.nodes import GraphWriter
from steadynet.export.parts import CATEGORIES, NUMBERS
from steadynet.table.layout import FeatureLayout

LEAF = -1
BLOCK = 128
"""Trees that are summed at once; the sums of blocks are summed after. A sum of a thousand float32
numbers, one after the other, is off by more than parity allows."""


@dataclass(frozen=True)
class Tree:
    """One tree in arrays; node 0 is the root."""

    feature: npt.NDArray[np.int64]
    """Input column that a node compares, `LEAF` for a leaf; (n,)."""
    threshold: npt.NDArray[np.float64]
    """At most this goes left; (n,)."""
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    """What a leaf adds; (n,)."""


@dataclass(frozen=True)
class Forest:
    """The trees of every group and output: `trees[group][output]` are summed."""

    trees: Sequence[Sequence[Sequence[Tree]]]

    @property
    def groups(self) -> int:
        """Forests that share nothing, each one member."""
        return len(self.trees)

    @property
    def outputs(self) -> int:
        """Outputs of a member."""
        return len(self.trees[0])


@dataclass
class _Nodes:
    """The attributes of the node, as they grow."""

    integers: dict[str, list[int]] = field(
        default_factory=lambda: {
            name: []
            for name in (
                "nodes_treeids",
                "nodes_nodeids",
                "nodes_featureids",
                "nodes_truenodeids",
                "nodes_falsenodeids",
                "target_treeids",
                "target_nodeids",
                "target_ids",
            )
        }
    )
    floats: dict[str, list[float]] = field(
        default_factory=lambda: {"nodes_values": [], "target_weights": []}
    )
    modes: list[str] = field(default_factory=list)

    def attributes(self) -> dict[str, Any]:
        """Return all attributes by name."""
        return {"nodes_modes": self.modes, **self.integers, **self.floats}

    def add(self, number: int, tree: Tree, target: int) -> None:
        """Add a tree under a number, for one target."""
        size, leaf = len(tree.feature), tree.feature == LEAF
        leaves = np.flatnonzero(leaf)
        # Columns at once: a call for each of some ten thousand nodes takes seconds.
        for name, values in {
            "nodes_treeids": np.full(size, number),
            "nodes_nodeids": np.arange(size),
            "nodes_featureids": np.where(leaf, 0, tree.feature),
            "nodes_truenodeids": np.where(leaf, 0, tree.left),
            "nodes_falsenodeids": np.where(leaf, 0, tree.right),
            "target_treeids": np.full(len(leaves), number),
            "target_nodeids": leaves,
            "target_ids": np.full(len(leaves), target),
        }.items():
            self.integers[name] += values.tolist()
        self.modes += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
        self.floats["nodes_values"] += np.where(leaf, 0, rounded_down(tree.threshold)).tolist()
        self.floats["target_weights"] += tree.value[leaves].tolist()


def rounded_down(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return for each threshold (n,) the largest float32 that is not above it."""
    with np.errstate(over="ignore"):  # beyond float32 lies infinity, which is then stepped below
        near = thresholds.astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf))
    return np.where(near.astype(np.float64) > thresholds, below, near).astype(np.float32)


def export_trees(forest: Forest, layout: FeatureLayout, component: str) -> onnx.ModelProto:
    """Return the graph from the feature graph's tensors to `steadynet/<component>/members`.

    The trees' input columns are the D numbers, then the K categories' entries.
    """
    writer = GraphWriter(component)
    inputs, parts = [], []
    if layout.numbers:
        wide = ["N", len(layout.numbers)]
        inputs.append(helper.make_tensor_value_info(NUMBERS, TensorProto.FLOAT, wide))
        parts.append(NUMBERS)
    if layout.categories:
        wide = ["N", len(layout.categories)]
        inputs.append(helper.make_tensor_value_info(CATEGORIES, TensorProto.INT64, wide))
        parts.append(writer.add("Cast", CATEGORIES, to=TensorProto.FLOAT))
    cells = writer.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    nodes = _Nodes()
    number = 0
    longest = max(len(trees) for by_output in forest.trees for trees in by_output)
    blocks = max(1, -(-longest // BLOCK))
    for group, by_output in enumerate(forest.trees):
        for output, trees in enumerate(by_output):
            first = (group * forest.outputs + output) * blocks
            for place, tree in enumerate(trees):
                nodes.add(number, tree, first + place // BLOCK)
                number += 1
    sums = writer.add(
        "TreeEnsembleRegressor",
        cells,
        domain="ai.onnx.ml",
        n_targets=forest.groups * forest.outputs * blocks,
        post_transform="NONE",
        aggregate_function="SUM",
        **nodes.attributes(),
    )
    name = members_name(component)
    by_block = writer.integers([-1, forest.groups, forest.outputs, blocks], "member_shape")
    sums = writer.add("Reshape", sums, by_block)
    writer.add("ReduceSum", sums, writer.integers([3], "block_axis"), keepdims=0, output=name)
    made = helper.make_tensor_value_info(
        name, TensorProto.FLOAT, ["N", forest.groups, forest.outputs]
    )
    return writer.model(component, inputs, [made])
