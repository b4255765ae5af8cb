"""torch → ONNX: a network's graph, written from its weights.

The graph maps `steadynet/numbers` float32 (N, D) and `steadynet/categories` int64 (N, K) to
`steadynet/<component>/members` float32 (N, G * M, C), what `TabularNetwork.forward` gives in eval
mode.
A layout without numbers or without categories leaves that input out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import onnx
from onnx import TensorProto, helper

from steadynet.errors import TrainingError
from steadynet.export.architectures import (
    write_mixture,
    write_realmlp,
    write_residual,
    write_tabm,
    write_transformer,
)
from steadynet.export.nodes import GraphWriter
from steadynet.export.parts import (
    CATEGORIES,
    NUMBERS,
    array_of,
    write_bins,
    write_first_product,
    write_heads,
    write_linear,
)
from steadynet.networks import TabularNetwork
from steadynet.networks.ensemble import Ensemble
from steadynet.networks.ft_transformer import FtTransformer
from steadynet.networks.mlp import Perceptron
from steadynet.networks.moe import MixtureOfExperts
from steadynet.networks.realmlp import RealMlp
from steadynet.networks.resnet import ResidualNetwork
from steadynet.networks.tabm import TabM
from steadynet.table.layout import FeatureLayout


def hidden_name(component: str) -> str:
    """Return the name of a network's last hidden layer."""
    return f"steadynet/{component}/hidden"


def members_name(component: str) -> str:
    """Return the name of the tensor that a component of a blend ends in."""
    return f"steadynet/{component}/members"


def export_network(
    module: TabularNetwork,
    layout: FeatureLayout,
    component: str = "network",
    *,
    with_hidden: bool = False,
) -> onnx.ModelProto:
    """Return the network's graph; the batch is dynamic. Its inner names carry `component`.

    `with_hidden` adds the tensor `hidden_name`, float32 (N, H): what the last layer takes, of the
    first member of the first group.
    """
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
    if with_hidden:
        _write_hidden(writer, component)
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


def _write_hidden(writer: GraphWriter, component: str) -> None:
    """Write the last hidden layer of the first group's first member as (N, H)."""
    single = [0, 2] if writer.hidden_of_members else [0]
    axes = writer.integers(single, "single")
    starts, ends = (writer.integers([place] * len(single), "ends") for place in (0, 1))
    # One slice copies the first member alone, where gathering one axis by one copies them all.
    found = writer.add("Slice", writer.hidden, starts, ends, axes)
    writer.add("Squeeze", found, axes, output=hidden_name(component))


def _write_ensemble(writer: GraphWriter, module: TabularNetwork) -> str:
    """Write `Ensemble.grouped` in eval mode; groups stand first, as (G, N, ...)."""
    if not isinstance(module, Ensemble):
        raise TypeError("this exporter writes an Ensemble")
    groups, members, width = module.groups, module.members, module.heads.shape[2]
    linear = write_linear(writer, module.linear, module.layout)  # (G, N, C)
    product = write_first_product(
        writer,
        write_bins(writer, module.bins, module.layout),
        module.embedding,
        module.matrices[0],
        module.layout,
    )
    axis = writer.integers([2], "axis")
    hidden = writer.add("Unsqueeze", product, axis)  # (G, N, 1, H)
    for layer, matrix in enumerate(module.matrices):
        if layer > 0:
            flat = writer.add("Reshape", hidden, writer.integers([groups, -1, width], "flat"))
            product = writer.add("MatMul", flat, writer.constant(array_of(matrix), "matrix"))
            unflat = writer.integers([groups, -1, members, width], "unflat")
            hidden = writer.add("Reshape", product, unflat)
        scale = writer.constant(array_of(module.scales[layer])[:, None], "scale")
        bias = writer.constant(array_of(module.biases[layer])[:, None], "bias")
        scaled = writer.add("Mul", hidden, scale)
        hidden = writer.add("Relu", writer.add("Add", scaled, bias))  # (G, N, M, H)
    writer.hidden, writer.hidden_of_members = hidden, True
    deep = write_heads(writer, hidden, module.heads)
    head_bias = writer.constant(array_of(module.head_biases)[:, None], "head_bias")
    return writer.add(
        "Add", writer.add("Add", deep, head_bias), writer.add("Unsqueeze", linear, axis)
    )


def _write_perceptron(writer: GraphWriter, module: TabularNetwork) -> str:
    """Write `Perceptron.grouped` in eval mode."""
    if not isinstance(module, Perceptron):
        raise TypeError("this exporter writes a Perceptron")
    encoded = [NUMBERS] if module.layout.numbers else []
    hidden = write_first_product(
        writer, encoded, module.embedding, module.matrices[0], module.layout
    )
    for layer, bias in enumerate(module.biases):
        if layer > 0:
            matrix = writer.constant(array_of(module.matrices[layer]), "matrix")
            writer.hidden = writer.add("Relu", hidden)
            hidden = writer.add("MatMul", writer.hidden, matrix)
        hidden = writer.add("Add", hidden, writer.constant(array_of(bias), "bias"))
    return writer.add("Unsqueeze", hidden, writer.integers([2], "axis"))


EXPORTERS: Mapping[type[TabularNetwork], Callable[[GraphWriter, TabularNetwork], str]] = (
    MappingProxyType(
        {
            Ensemble: _write_ensemble,
            Perceptron: _write_perceptron,
            TabM: write_tabm,
            ResidualNetwork: write_residual,
            MixtureOfExperts: write_mixture,
            RealMlp: write_realmlp,
            FtTransformer: write_transformer,
        }
    )
)
"""How each network of `steadynet.networks.NETWORKS` is written."""
