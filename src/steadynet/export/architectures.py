"""How the further networks are written: TabM, residual, mixture of experts, RealMLP, transformer.

Each writes what its `grouped` does in eval mode, as (G, N, M, C); groups stand first.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from steadynet.export.nodes import GraphWriter
from steadynet.export.parts import (
    NUMBERS,
    array_of,
    write_bins,
    write_first_product,
    write_heads,
    write_linear,
    write_lookup,
    write_norm,
)
from steadynet.networks import TabularNetwork
from steadynet.networks.ft_transformer import HEADS, FtTransformer
from steadynet.networks.moe import MixtureOfExperts
from steadynet.networks.parts import EMBEDDING, EncodedInput
from steadynet.networks.realmlp import EMBEDDED, RealMlp
from steadynet.networks.resnet import ResidualNetwork
from steadynet.networks.tabm import TabM
from steadynet.table.layout import FeatureLayout


def write_tabm(writer: GraphWriter, module: TabularNetwork) -> str:
    """Write `TabM.grouped`."""
    if not isinstance(module, TabM):
        raise TypeError("this exporter writes a TabM")
    groups, members, width = module.groups, module.members, module.heads.shape[2]
    shared = _write_joined(writer, write_bins(writer, module.bins, module.layout))
    features = _write_features(writer, shared, module)  # (G, N, F)
    axis = writer.integers([2], "axis")
    entering = writer.constant(array_of(module.entering)[:, None], "entering")
    hidden = writer.add("Mul", writer.add("Unsqueeze", features, axis), entering)
    entry = module.matrices[0].shape[1]
    for layer, matrix in enumerate(module.matrices):
        size = entry if layer == 0 else width
        flat = writer.add("Reshape", hidden, writer.integers([groups, -1, size], "flat"))
        product = writer.add("MatMul", flat, writer.constant(array_of(matrix), "matrix"))
        unflat = writer.integers([groups, -1, members, width], "unflat")
        hidden = writer.add("Reshape", product, unflat)
        scale = writer.constant(array_of(module.scales[layer])[:, None], "scale")
        bias = writer.constant(array_of(module.biases[layer])[:, None], "bias")
        hidden = writer.add("Relu", writer.add("Add", writer.add("Mul", hidden, scale), bias))
    writer.hidden, writer.hidden_of_members = hidden, True
    deep = write_heads(writer, hidden, module.heads)
    head_bias = writer.constant(array_of(module.head_biases)[:, None], "head_bias")
    linear = write_linear(writer, module.linear, module.layout)
    return writer.add(
        "Add", writer.add("Add", deep, head_bias), writer.add("Unsqueeze", linear, axis)
    )


def write_residual(writer: GraphWriter, module: TabularNetwork) -> str:
    """Write `ResidualNetwork.grouped`."""
    if not isinstance(module, ResidualNetwork):
        raise TypeError("this exporter writes a ResidualNetwork")
    product = _write_entry(writer, module.encoded, module.first, module.layout)
    hidden = writer.add("Add", product, writer.constant(array_of(module.first_bias), "bias"))
    blocks = zip(
        module.norms,
        module.rises,
        module.rise_biases,
        module.falls,
        module.fall_biases,
        strict=True,
    )
    for norm, rise, rise_bias, fall, fall_bias in blocks:
        normed = write_norm(writer, norm, hidden, lead=2)  # type: ignore[arg-type]
        inner = writer.add("Relu", _write_layer(writer, normed, rise, rise_bias))
        hidden = writer.add("Add", hidden, _write_layer(writer, inner, fall, fall_bias))
    last = writer.add("Relu", write_norm(writer, module.last_norm, hidden, lead=2))
    writer.hidden = last
    answer = _write_layer(writer, last, module.head, module.head_bias)
    return writer.add("Unsqueeze", answer, writer.integers([2], "axis"))


def write_mixture(writer: GraphWriter, module: TabularNetwork) -> str:
    """Write `MixtureOfExperts.grouped`."""
    if not isinstance(module, MixtureOfExperts):
        raise TypeError("this exporter writes a MixtureOfExperts")
    groups, experts, width = module.groups, module.experts, module.width
    routed = _write_entry(writer, module.encoded, module.router, module.layout)
    routed = writer.add("Add", routed, writer.constant(array_of(module.router_bias), "bias"))
    shares = writer.add("Softmax", routed, axis=2)  # (G, N, E)
    risen = _write_entry(writer, module.encoded, module.rise, module.layout)
    risen = writer.add("Add", risen, writer.constant(array_of(module.rise_bias), "bias"))
    hidden = writer.add("Relu", risen)
    by_expert = writer.integers([groups, -1, experts, width], "by_expert")
    weighed = writer.add(
        "Mul",
        writer.add("Reshape", hidden, by_expert),
        writer.add("Unsqueeze", shares, writer.integers([3], "axis")),
    )
    flat = writer.add("Reshape", weighed, writer.integers([groups, -1, experts * width], "flat"))
    writer.hidden = flat
    answer = writer.add("MatMul", flat, writer.constant(array_of(module.fall), "fall"))
    bias = writer.add("MatMul", shares, writer.constant(array_of(module.fall_bias), "bias"))
    return writer.add("Unsqueeze", writer.add("Add", answer, bias), writer.integers([2], "axis"))


def write_realmlp(writer: GraphWriter, module: TabularNetwork) -> str:
    """Write `RealMlp.grouped`."""
    if not isinstance(module, RealMlp):
        raise TypeError("this exporter writes a RealMlp")
    parts = []
    if module.layout.numbers:
        parts.append(_write_periodic(writer, module))
    if module.layout.categories:
        vectors = write_lookup(writer, module.embedding)  # (G, N, K, E)
        size = EMBEDDING * len(module.layout.categories)
        parts.append(writer.add("Reshape", vectors, writer.integers([0, 0, size], "flat")))
    features = writer.add("Concat", *parts, axis=2) if len(parts) > 1 else parts[0]
    hidden = writer.add("Mul", features, writer.constant(array_of(module.scale), "scale"))
    for matrix, bias in zip(module.matrices, module.biases, strict=True):
        weights = array_of(matrix) / np.float32(math.sqrt(max(1, matrix.shape[1])))
        product = writer.add("MatMul", hidden, writer.constant(weights, "matrix"))
        made = writer.add("Add", product, writer.constant(array_of(bias), "bias"))
        hidden = writer.add("Mul", made, writer.add("Sigmoid", made))
    writer.hidden = hidden
    weights = array_of(module.head) / np.float32(math.sqrt(module.head.shape[1]))
    answer = writer.add("MatMul", hidden, writer.constant(weights, "head"))
    answer = writer.add("Add", answer, writer.constant(array_of(module.head_bias), "bias"))
    return writer.add("Unsqueeze", answer, writer.integers([2], "axis"))


def _write_periodic(writer: GraphWriter, module: RealMlp) -> str:
    """Write the numbers and their waves as (G, N, D * (1 + EMBEDDED))."""
    periodic = module.periodic
    count = len(module.layout.numbers)
    cells = writer.add("Unsqueeze", NUMBERS, writer.integers([0, 3], "axes"))  # (1, N, D, 1)
    turns = array_of(periodic.frequency)[:, None] * np.float32(2 * math.pi)
    angle = writer.add("Mul", cells, writer.constant(turns, "frequency"))
    angle = writer.add("Add", angle, writer.constant(array_of(periodic.phase)[:, None], "phase"))
    waves = writer.add("Transpose", writer.add("Cos", angle), perm=[0, 2, 1, 3])  # (G, D, N, F)
    made = writer.add("MatMul", waves, writer.constant(array_of(periodic.weight), "weight"))
    made = writer.add("Add", made, writer.constant(array_of(periodic.bias)[:, :, None], "bias"))
    made = writer.add("Transpose", made, perm=[0, 2, 1, 3])  # (G, N, D, E)
    zeros = writer.constant(np.zeros((module.groups, 1, 1, 1), np.float32), "groups")
    own = writer.add("Add", cells, zeros)  # (G, N, D, 1)
    joined = writer.add("Concat", own, made, axis=3)
    return writer.add("Reshape", joined, writer.integers([0, 0, count * (1 + EMBEDDED)], "flat"))


def write_transformer(writer: GraphWriter, module: TabularNetwork) -> str:
    """Write `FtTransformer.grouped`."""
    if not isinstance(module, FtTransformer):
        raise TypeError("this exporter writes an FtTransformer")
    tokens, count = _write_tokens(writer, module)  # (G, N, T, H)
    groups, width = module.groups, module.width
    flat = writer.integers([groups, -1, width], "flat")
    by_token = writer.integers([groups, -1, count, width], "by_token")
    for block in range(len(module.queries)):
        normed = write_norm(writer, module.norms[2 * block], tokens, lead=3)  # type: ignore[arg-type]
        mixed = _write_attention(writer, module, block, normed, count)
        tokens = writer.add("Add", tokens, mixed)
        normed = write_norm(writer, module.norms[2 * block + 1], tokens, lead=3)  # type: ignore[arg-type]
        rows = writer.add("Reshape", normed, flat)
        inner = _write_layer(writer, rows, module.rises[block], module.rise_biases[block])
        fallen = _write_layer(
            writer, writer.add("Relu", inner), module.falls[block], module.fall_biases[block]
        )
        tokens = writer.add("Add", tokens, writer.add("Reshape", fallen, by_token))
    place = writer.integers([0], "answer")
    last = writer.add("Gather", tokens, place, axis=2)
    last = writer.add("Squeeze", last, writer.integers([2], "axis"))  # (G, N, H)
    last = writer.add("Relu", write_norm(writer, module.last_norm, last, lead=2))
    writer.hidden = last
    answer = _write_layer(writer, last, module.head, module.head_bias)
    return writer.add("Unsqueeze", answer, writer.integers([2], "axis"))


def _write_tokens(writer: GraphWriter, module: FtTransformer) -> tuple[str, int]:
    """Write the tokens (G, N, T, H) and return how many there are."""
    layout = module.layout
    parts = []
    if layout.numbers:
        cells = writer.add("Unsqueeze", NUMBERS, writer.integers([0, 3], "axes"))  # (1, N, D, 1)
        weight = writer.constant(array_of(module.number_weight)[:, None], "number_weight")
        bias = writer.constant(array_of(module.number_bias)[:, None], "number_bias")
        parts.append(writer.add("Add", writer.add("Mul", cells, weight), bias))
    if layout.categories:
        bias = writer.constant(array_of(module.column_bias)[:, None], "column_bias")
        parts.append(writer.add("Add", write_lookup(writer, module.embedding), bias))
    # The answer's token must have as many rows as the others: theirs, times zero, plus it.
    first = writer.add("Gather", parts[0], writer.integers([0], "one"), axis=2)
    none = writer.add("Sub", first, first)
    own = writer.constant(array_of(module.answer_token)[:, None], "answer_token")
    parts.insert(0, writer.add("Add", none, own))
    count = 1 + len(layout.numbers) + len(layout.categories)
    return writer.add("Concat", *parts, axis=2), count


def _write_attention(
    writer: GraphWriter, module: FtTransformer, block: int, normed: str, count: int
) -> str:
    """Write what attention adds to tokens (G, N, T, H)."""
    groups, width, size = module.groups, module.width, module.width // HEADS
    flat = writer.integers([groups, -1, width], "flat")
    rows = writer.add("Reshape", normed, flat)
    by_head = writer.integers([groups, -1, count, HEADS, size], "by_head")

    def heads(matrix: str, perm: list[int]) -> str:
        made = writer.add("Reshape", writer.add("MatMul", rows, matrix), by_head)
        return writer.add("Transpose", made, perm=perm)

    query = heads(writer.constant(array_of(module.queries[block]), "query"), [0, 1, 3, 2, 4])
    key = heads(writer.constant(array_of(module.keys[block]), "key"), [0, 1, 3, 4, 2])
    value = heads(writer.constant(array_of(module.values[block]), "value"), [0, 1, 3, 2, 4])
    root = writer.constant(np.array(1 / math.sqrt(size), np.float32), "root")
    shares = writer.add(
        "Softmax", writer.add("Mul", writer.add("MatMul", query, key), root), axis=4
    )
    mixed = writer.add("Transpose", writer.add("MatMul", shares, value), perm=[0, 1, 3, 2, 4])
    mixed = writer.add("Reshape", mixed, flat)
    mix = writer.constant(array_of(module.mixes[block]), "mix")
    by_token = writer.integers([groups, -1, count, width], "by_token")
    return writer.add("Reshape", writer.add("MatMul", mixed, mix), by_token)


def _write_layer(writer: GraphWriter, hidden: str, matrix: torch.Tensor, bias: torch.Tensor) -> str:
    """Write hidden (G, N, A) times a matrix (G, A, B) plus a bias (G, 1, B)."""
    product = writer.add("MatMul", hidden, writer.constant(array_of(matrix), "matrix"))
    return writer.add("Add", product, writer.constant(array_of(bias), "bias"))


def _write_entry(
    writer: GraphWriter, encoded: EncodedInput, matrix: torch.Tensor, layout: FeatureLayout
) -> str:
    """Write the encoded features times a matrix (G, F, H) as (G, N, H)."""
    shared = write_bins(writer, encoded.bins, layout)
    return write_first_product(writer, shared, encoded.embedding, matrix, layout)


def _write_joined(writer: GraphWriter, parts: list[str]) -> str | None:
    """Write parts (N, ·) as one, None where there are none."""
    if not parts:
        return None
    return writer.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


def _write_features(writer: GraphWriter, shared: str | None, module: TabM) -> str:
    """Write all encoded features of every group as (G, N, F)."""
    parts = []
    if shared is not None:
        zeros = writer.constant(np.zeros((module.groups, 1, 1), np.float32), "groups")
        parts.append(writer.add("Add", shared, zeros))
    if module.layout.categories:
        size = EMBEDDING * len(module.layout.categories)
        vectors = write_lookup(writer, module.embedding)
        parts.append(writer.add("Reshape", vectors, writer.integers([0, 0, size], "flat")))
    return writer.add("Concat", *parts, axis=2) if len(parts) > 1 else parts[0]
