"""Put another head behind a welded graph: the features, the networks and the blend stay.

Law: the new graph makes the very `steadynet/answer` of the old one, from the same nodes.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from steadynet.errors import TrainingError
from steadynet.export.blend import ANSWER
from steadynet.export.head import Head, export_head
from steadynet.export.nodes import finished
from steadynet.features.draft import PREFIX

BLEND = "blend"
"""Name of the blend's answer where it leaves a graph."""


def with_head(model: bytes, head: Head) -> bytes:
    """Return the graph with the head of its one target replaced.

    What only the old head needed is left out; what the graph tells beside its answers stays.
    """
    old = onnx.load_model_from_string(model)
    new = export_head(head)
    beside = [output for output in old.graph.output if output.name.startswith(PREFIX)]
    leaving = {output.name for output in new.graph.output}
    needed, kept = _needed(old.graph, {ANSWER, *(output.name for output in beside)})
    made = helper.make_graph(
        [*kept, *new.graph.node],
        old.graph.name,
        list(old.graph.input),
        [*new.graph.output, *beside],
        [
            *(constant for constant in old.graph.initializer if constant.name in needed),
            *new.graph.initializer,
        ],
    )
    clash = leaving & needed
    if clash:
        raise TrainingError("the graph's head cannot be replaced", got=", ".join(sorted(clash)))
    serialized: bytes = finished(made).SerializeToString()
    return serialized


def answer_graph(model: bytes, columns: int) -> bytes:
    """Return the graph whose one output `BLEND` is the blend's answer, float32 (N, `columns`)."""
    old = onnx.load_model_from_string(model)
    needed, kept = _needed(old.graph, {ANSWER})
    made = helper.make_graph(
        [*kept, helper.make_node("Identity", [ANSWER], [BLEND], name=f"{BLEND}/node")],
        old.graph.name,
        list(old.graph.input),
        [helper.make_tensor_value_info(BLEND, TensorProto.FLOAT, ["N", columns])],
        [constant for constant in old.graph.initializer if constant.name in needed],
    )
    serialized: bytes = finished(made).SerializeToString()
    return serialized


def _needed(graph: onnx.GraphProto, wanted: set[str]) -> tuple[set[str], list[onnx.NodeProto]]:
    """Return the names that the wanted tensors are made of, and the nodes that make them."""
    needed = set(wanted)
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    if not kept:
        raise TrainingError(
            "the graph has no blend in front of its head", expected=f"a tensor {ANSWER!r}"
        )
    return needed, kept[::-1]
