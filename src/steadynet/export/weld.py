"""Weld feature graph, components, blend and head into one model with the table's inputs.

All inner names stand under `steadynet/` (features), `steadynet/<component>/`, `steadynet/blend/`
and `steadynet/head/`, so that welding is joining lists: the tensors in the seams carry the same
name on both sides. A further target's blend and head stand under `steadynet/target-<number>/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import helper

from steadynet.errors import TrainingError
from steadynet.export.blend import ANSWER
from steadynet.export.nodes import finished
from steadynet.features.draft import ML_OPSET, OPSET, PREFIX


def weld(
    features: onnx.ModelProto,
    components: Sequence[onnx.ModelProto],
    blends: Sequence[onnx.ModelProto],
    heads: Sequence[onnx.ModelProto],
) -> onnx.ModelProto:
    """Return one checked model: the inputs of `features`, the outputs of `heads`.

    There is one head per target, and one more where the graph also says how new a row is.

    Raises `TrainingError` where they do not fit together.
    """
    parts = (features, *components, *blends, *heads)
    for part in parts:
        versions = {entry.domain: entry.version for entry in part.opset_import}
        if versions != {"": OPSET, "ai.onnx.ml": ML_OPSET}:
            raise TrainingError(
                f"the graph {part.graph.name!r} is of other operator sets",
                expected=f"{OPSET} and ai.onnx.ml {ML_OPSET}",
                got=str(versions),
            )
    names = [name for part in parts for name in _made(part.graph)]
    twice = sorted({name for name in names if names.count(name) > 1}) if _clash(names) else []
    if twice:
        raise TrainingError("parts of the graph use the same name", got=", ".join(twice[:5]))
    graph = helper.make_graph(
        [node for part in parts for node in part.graph.node],
        "steadynet",
        list(features.graph.input),
        [output for head in heads for output in head.graph.output],
        [constant for part in parts for constant in part.graph.initializer],
    )
    return finished(graph)


def for_further_target(
    part: onnx.ModelProto, number: int, outputs: Mapping[str, str]
) -> onnx.ModelProto:
    """Return a blend or head with names of its own, for the target with a number from 1.

    `outputs` says what the plain outputs of a head are called.
    """
    made = set(_made(part.graph)) | {ANSWER}

    def renamed(name: str) -> str:
        if name in outputs:
            return outputs[name]
        return f"{PREFIX}target-{number}/{name.removeprefix(PREFIX)}" if name in made else name

    own = onnx.ModelProto()
    own.CopyFrom(part)
    for node in own.graph.node:
        entering, leaving = map(renamed, node.input), map(renamed, node.output)
        node.name = renamed(node.output[0]) + "/node"
        node.input[:], node.output[:] = list(entering), list(leaving)
    for named in (*own.graph.initializer, *own.graph.input, *own.graph.output):
        named.name = renamed(named.name)
    return own


def _made(graph: onnx.GraphProto) -> list[str]:
    """Return the names that a graph makes: outputs of nodes and constants."""
    made = [name for node in graph.node for name in node.output if name]
    return made + [constant.name for constant in graph.initializer]


def _clash(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)
