"""torch → ONNX: a network's graph, written from its weights.

The graph maps `steadynet/numbers` float32 (N, D) and `steadynet/categories` int64 (N, K) to
`steadynet/<component>/members` float32 (N, G * M, C), what `TabularNetwork.forward` gives in eval
mode.
A layout without numbers or without categories leaves that input out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper

from steadynet.errors import TrainingError
from steadynet.export.nodes import GraphWriter
from steadynet.networks import TabularNetwork
from steadynet.networks.encoding import GroupedTable, LinearPath
from steadynet.networks.ensemble import Ensemble
from steadynet.networks.mlp import Perceptron
from steadynet.table.layout import FeatureLayout

NUMBERS = "steadynet/numbers"
CATEGORIES = "steadynet/categories"


def members_name(component: str) -> str:
    """Return the name of the tensor that a component of a blend ends in."""
    return f"steadynet/{component}/members"


def export_network(
    module: TabularNetwork, layout: FeatureLayout, component: str = "network"
) -> onnx.ModelProto:
    """Return the network's graph; the batch is dynamic. Its inner names carry `component`."""
    write = EXPORTERS.get(type(module))
    if write is None:
        raise TrainingError(
            f"there is no exporter for {type(module).__name__}",
            expected="one of " + ", ".join(sorted(known.__name__ for known in EXPORTERS)),
        )
    writer = GraphWriter(component)
    grouped = write(writer, module)  # (G, N, M, C)
    rows_first = writer.add("Transpose", grouped, perm=[1, 0, 2, 3])
    shape = writer.integers([0, module.groups * module.members, module.outputs], "member_shape")
    writer.add("Reshape", rows_first, shape, output=members_name(component))
    inputs = []
    if layout.numbers:
        inputs.append(
            helper.make_tensor_value_info(NUMBERS, TensorProto.FLOAT, ["N", len(layout.numbers)])
        )
    if layout.categories:
        inputs.append(
            helper.make_tensor_value_info(
                CATEGORIES, TensorProto.INT64, ["N", len(layout.categories)]
            )
        )
    members = module.groups * module.members
    output = helper.make_tensor_value_info(
        members_name(component), TensorProto.FLOAT, ["N", members, module.outputs]
    )
    return writer.model(component, inputs, [output])


def _array(tensor: torch.Tensor) -> npt.NDArray[np.generic]:
    values: npt.NDArray[np.generic] = tensor.detach().cpu().numpy()
    return values


def _write_ensemble(writer: GraphWriter, module: TabularNetwork) -> str:
    """Write `Ensemble.grouped` in eval mode; groups stand first, as (G, N, ...)."""
    if not isinstance(module, Ensemble):
        raise TypeError("this exporter writes an Ensemble")
    groups, members, width = module.groups, module.members, module.heads.shape[2]
    linear = _write_linear(writer, module.linear, module.layout)  # (G, N, C)
    product = _write_first_product(
        writer, _write_bins(writer, module), module.embedding, module.matrices[0], module.layout
    )
    axis = writer.integers([2], "axis")
    hidden = writer.add("Unsqueeze", product, axis)  # (G, N, 1, H)
    for layer, matrix in enumerate(module.matrices):
        if layer > 0:
            flat = writer.add("Reshape", hidden, writer.integers([groups, -1, width], "flat"))
            product = writer.add("MatMul", flat, writer.constant(_array(matrix), "matrix"))
            unflat = writer.integers([groups, -1, members, width], "unflat")
            hidden = writer.add("Reshape", product, unflat)
        scale = writer.constant(_array(module.scales[layer])[:, None], "scale")
        bias = writer.constant(_array(module.biases[layer])[:, None], "bias")
        scaled = writer.add("Mul", hidden, scale)
        hidden = writer.add("Relu", writer.add("Add", scaled, bias))  # (G, N, M, H)
    members_first = writer.add("Transpose", hidden, perm=[0, 2, 1, 3])  # (G, M, N, H)
    heads = writer.constant(_array(module.heads), "heads")
    deep = writer.add("Transpose", writer.add("MatMul", members_first, heads), perm=[0, 2, 1, 3])
    head_bias = writer.constant(_array(module.head_biases)[:, None], "head_bias")
    return writer.add(
        "Add", writer.add("Add", deep, head_bias), writer.add("Unsqueeze", linear, axis)
    )


def _write_bins(writer: GraphWriter, module: Ensemble) -> list[str]:
    """Write the numbers' encodings (N, D) and (N, bins), as far as there are any."""
    if not module.layout.numbers:
        return []
    if not module.bins.size:
        return [NUMBERS]
    source = writer.constant(_array(module.bins.source), "bin_source")
    scale = writer.constant(_array(module.bins.scale), "bin_scale")
    shift = writer.constant(_array(module.bins.shift), "bin_shift")
    gathered = writer.add("Gather", NUMBERS, source, axis=1)
    line = writer.add("Add", writer.add("Mul", gathered, scale), shift)
    zero = writer.constant(np.array(0, np.float32), "zero")
    one = writer.constant(np.array(1, np.float32), "one")
    return [NUMBERS, writer.add("Clip", line, zero, one)]


def _write_first_product(
    writer: GraphWriter,
    encoded: list[str],
    embedding: GroupedTable,
    matrix: torch.Tensor,
    layout: FeatureLayout,
) -> str:
    """Write features times the first matrix (G, F, H) as (G, N, H).

    The numbers' part is the same for all groups and broadcasts; the categories' part is not.
    """
    entering = _array(matrix)
    split = entering.shape[1] - embedding.vectors.shape[2] * len(layout.categories)
    parts = []
    if encoded:
        shared = writer.add("Concat", *encoded, axis=1) if len(encoded) > 1 else encoded[0]
        parts.append(writer.add("MatMul", shared, writer.constant(entering[:, :split], "matrix")))
    if layout.categories:
        vectors = _write_lookup(writer, embedding)  # (G, N, K, E)
        flat = writer.integers([0, 0, entering.shape[1] - split], "flat")
        weights = writer.constant(entering[:, split:], "matrix")
        parts.append(writer.add("MatMul", writer.add("Reshape", vectors, flat), weights))
    return writer.add("Add", *parts) if len(parts) > 1 else parts[0]


def _write_lookup(writer: GraphWriter, table: GroupedTable) -> str:
    """Write the lookup of (N, K) indices as (G, N, K, E)."""
    offsets = writer.constant(_array(table.offsets)[None], "offsets")
    index = writer.add("Add", CATEGORIES, offsets)
    return writer.add("Gather", writer.constant(_array(table.vectors), "table"), index, axis=1)


def _write_linear(writer: GraphWriter, path: LinearPath, layout: FeatureLayout) -> str:
    """Write the linear path as (G, N, C)."""
    linear = writer.constant(_array(path.bias)[:, None], "linear_bias")  # (G, 1, C)
    if layout.numbers:
        weight = writer.constant(_array(path.weight), "linear_weight")
        linear = writer.add("Add", writer.add("MatMul", NUMBERS, weight), linear)
    if layout.categories:
        axis = writer.integers([2], "axis")
        summed = writer.add("ReduceSum", _write_lookup(writer, path.table), axis, keepdims=0)
        linear = writer.add("Add", linear, summed)
    return linear


def _write_perceptron(writer: GraphWriter, module: TabularNetwork) -> str:
    """Write `Perceptron.grouped` in eval mode."""
    if not isinstance(module, Perceptron):
        raise TypeError("this exporter writes a Perceptron")
    encoded = [NUMBERS] if module.layout.numbers else []
    hidden = _write_first_product(
        writer, encoded, module.embedding, module.matrices[0], module.layout
    )
    for layer, bias in enumerate(module.biases):
        if layer > 0:
            matrix = writer.constant(_array(module.matrices[layer]), "matrix")
            hidden = writer.add("MatMul", writer.add("Relu", hidden), matrix)
        hidden = writer.add("Add", hidden, writer.constant(_array(bias), "bias"))
    return writer.add("Unsqueeze", hidden, writer.integers([2], "axis"))


EXPORTERS: Mapping[type[TabularNetwork], Callable[[GraphWriter, TabularNetwork], str]] = (
    MappingProxyType({Ensemble: _write_ensemble, Perceptron: _write_perceptron})
)
"""How each network of `steadynet.networks.NETWORKS` is written."""
