"""What several networks' graphs are made of: constants, encodings, lookups, linear paths."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from steadynet.export.nodes import GraphWriter
from steadynet.networks.encoding import GroupedTable, LinearPath, PiecewiseLinear
from steadynet.networks.parts import SMALLEST_SPREAD, LayerNorm
from steadynet.table.layout import FeatureLayout

NUMBERS = "steadynet/numbers"
CATEGORIES = "steadynet/categories"


def array_of(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    """Return a weight as an array."""
    values: npt.NDArray[np.float32] = tensor.detach().cpu().numpy()
    return values


def write_bins(writer: GraphWriter, bins: PiecewiseLinear, layout: FeatureLayout) -> list[str]:
    """Write the numbers' encodings (N, D) and (N, bins), as far as there are any."""
    if not layout.numbers:
        return []
    if not bins.size:
        return [NUMBERS]
    source = writer.integers(bins.source.tolist(), "bin_source")
    scale = writer.constant(array_of(bins.scale), "bin_scale")
    shift = writer.constant(array_of(bins.shift), "bin_shift")
    gathered = writer.add("Gather", NUMBERS, source, axis=1)
    line = writer.add("Add", writer.add("Mul", gathered, scale), shift)
    zero = writer.constant(np.array(0, np.float32), "zero")
    one = writer.constant(np.array(1, np.float32), "one")
    return [NUMBERS, writer.add("Clip", line, zero, one)]


def write_first_product(
    writer: GraphWriter,
    encoded: list[str],
    embedding: GroupedTable,
    matrix: torch.Tensor,
    layout: FeatureLayout,
) -> str:
    """Write features times the first matrix (G, F, H) as (G, N, H).

    The numbers' part is the same for all groups and broadcasts; the categories' part is not.
    """
    entering = array_of(matrix)
    split = entering.shape[1] - embedding.vectors.shape[2] * len(layout.categories)
    parts = []
    if encoded:
        shared = writer.add("Concat", *encoded, axis=1) if len(encoded) > 1 else encoded[0]
        parts.append(writer.add("MatMul", shared, writer.constant(entering[:, :split], "matrix")))
    if layout.categories:
        vectors = write_lookup(writer, embedding)  # (G, N, K, E)
        flat = writer.integers([0, 0, entering.shape[1] - split], "flat")
        weights = writer.constant(entering[:, split:], "matrix")
        parts.append(writer.add("MatMul", writer.add("Reshape", vectors, flat), weights))
    return writer.add("Add", *parts) if len(parts) > 1 else parts[0]


def write_lookup(writer: GraphWriter, table: GroupedTable) -> str:
    """Write the lookup of (N, K) indices as (G, N, K, E)."""
    index = writer.placed(table.offsets.tolist(), CATEGORIES)
    return writer.add("Gather", writer.constant(array_of(table.vectors), "table"), index, axis=1)


def write_heads(writer: GraphWriter, hidden: str, heads: torch.Tensor) -> str:
    """Write every member's hidden units (G, N, M, H) times its head (G, M, H, C), (G, N, M, C)."""
    weights = array_of(heads)
    if weights.shape[3] == 1:
        # One column for each member: a sum, where a product is a call for each member, and moves
        # all units twice.
        rows = writer.constant(weights[:, None, :, :, 0], "heads")  # (G, 1, M, H)
        axis = writer.integers([3], "units")
        return writer.add("ReduceSum", writer.add("Mul", hidden, rows), axis, keepdims=1)
    members_first = writer.add("Transpose", hidden, perm=[0, 2, 1, 3])  # (G, M, N, H)
    products = writer.add("MatMul", members_first, writer.constant(weights, "heads"))
    return writer.add("Transpose", products, perm=[0, 2, 1, 3])


def write_linear(writer: GraphWriter, path: LinearPath, layout: FeatureLayout) -> str:
    """Write the linear path as (G, N, C)."""
    linear = writer.constant(array_of(path.bias)[:, None], "linear_bias")  # (G, 1, C)
    if layout.numbers:
        weight = writer.constant(array_of(path.weight), "linear_weight")
        linear = writer.add("Add", writer.add("MatMul", NUMBERS, weight), linear)
    if layout.categories:
        axis = writer.integers([2], "axis")
        summed = writer.add("ReduceSum", write_lookup(writer, path.table), axis, keepdims=0)
        linear = writer.add("Add", linear, summed)
    return linear


def write_norm(writer: GraphWriter, norm: LayerNorm, hidden: str, *, lead: int) -> str:
    """Write a normalisation of the last of `lead` + 1 dimensions; groups stand first."""
    mean = writer.add("ReduceMean", hidden, writer.integers([-1], "last"), keepdims=1)
    centred = writer.add("Sub", hidden, mean)
    squares = writer.add("Mul", centred, centred)
    spread = writer.add("ReduceMean", squares, writer.integers([-1], "last"), keepdims=1)
    smallest = writer.constant(np.array(SMALLEST_SPREAD, np.float32), "smallest_spread")
    even = writer.add("Div", centred, writer.add("Sqrt", writer.add("Add", spread, smallest)))
    gain, shift = array_of(norm.gain), array_of(norm.shift)
    for _ in range(lead - 2):
        gain, shift = gain[:, None], shift[:, None]
    scaled = writer.add("Mul", even, writer.constant(gain, "gain"))
    return writer.add("Add", scaled, writer.constant(shift, "shift"))
