"""Many trees in one node: their float32 sum stays near the exact one."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from steadynet.export.trees import BLOCK, LEAF, Forest, Tree, export_trees
from steadynet.table.layout import FeatureLayout

LAYOUT = FeatureLayout(numbers=("a",), number_sources=("a",), categories=(), cardinalities=())
CLOSE = 4e-6


def stump(threshold: float, left: float, right: float) -> Tree:
    """Return a tree of one comparison."""
    return Tree(
        feature=np.array([0, LEAF, LEAF]),
        threshold=np.array([threshold, 0.0, 0.0]),
        left=np.array([1, 0, 0]),
        right=np.array([2, 0, 0]),
        value=np.array([0.0, left, right]),
    )


@pytest.mark.parametrize("count", [1, BLOCK, BLOCK + 1, 12 * BLOCK])
def test_sums_of_many_trees_are_near_the_exact_ones(count: int) -> None:
    random = np.random.default_rng(count)
    shrinking = 3.0 * 0.99 ** np.arange(count)
    groups = [
        [
            [stump(random.normal(), *(scale * random.normal(size=2) * 0.05)) for scale in shrinking]
            for _ in range(2)
        ]
        for _ in range(3)
    ]
    graph = export_trees(Forest(groups), LAYOUT, "trees")
    session = ort.InferenceSession(graph.SerializeToString())
    rows = random.normal(size=(40, 1)).astype(np.float32)
    found = session.run(None, {session.get_inputs()[0].name: rows})[0]
    assert found.shape == (40, 3, 2)
    for group, outputs in enumerate(groups):
        for output, trees in enumerate(outputs):
            leaves = [
                np.where(rows[:, 0].astype(np.float64) <= tree.threshold[0], *tree.value[1:])
                for tree in trees
            ]
            exact = np.sum(leaves, axis=0)
            np.testing.assert_allclose(found[:, group, output], exact, atol=CLOSE)
