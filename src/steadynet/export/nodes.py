"""A small writer of ONNX nodes: unique names under one prefix, constants once, shapes as they come.

The graph is written from the weights by hand rather than traced; see
`docs/adr/0008-graphs-from-weights.md`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from steadynet.features.draft import IR_VERSION, ML_OPSET, OPSET, PREFIX

Graph = onnx.ModelProto
"""A written graph, for those who only pass it on."""


class GraphWriter:
    """Collects nodes and constants; every method returns the name of what it made."""

    def __init__(self, part: str) -> None:
        """Start a graph whose inner names stand under `steadynet/<part>/`."""
        self._prefix = f"{PREFIX}{part}/"
        self._count = 0
        self._placed: dict[tuple[str, tuple[int, ...]], str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.hidden = ""
        """What a network's last layer takes, (G, N, H)."""
        self.hidden_of_members = False
        """Whether it is of several members, (G, N, M, H)."""

    def constant(self, values: npt.NDArray[np.generic], what: str) -> str:
        """Add a constant; `what` stands in its name."""
        name = self._name(what)
        self.constants.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def integers(self, values: Sequence[int], what: str) -> str:
        """Add a vector of int64."""
        return self.constant(np.array(values, np.int64), what)

    def texts(self, values: Sequence[str], what: str) -> str:
        """Add a vector of strings."""
        name = self._name(what)
        encoded = [value.encode() for value in values]
        self.constants.append(
            helper.make_tensor(name, onnx.TensorProto.STRING, [len(encoded)], encoded)
        )
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: object) -> str:
        """Add a node with one output, named by `output` or made up."""
        name = output or self._name(operator.lower())
        self.nodes.append(
            helper.make_node(operator, list(inputs), [name], name=f"{name}/node", **attributes)
        )
        return name

    def add_first(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Add a node with two outputs, of which only the first is used."""
        name = self._name(operator.lower())
        made = helper.make_node(
            operator, list(inputs), [name, f"{name}/second"], name=f"{name}/node", **attributes
        )
        self.nodes.append(made)
        return name

    def add_split(self, whole: str, sizes: str, first: str) -> str:
        """Add a node that splits the last dimension in two; the first part is named `first`."""
        rest = self._name("split")
        self.nodes.append(
            helper.make_node("Split", [whole, sizes], [first, rest], name=f"{rest}/node", axis=-1)
        )
        return rest

    def placed(self, offsets: Sequence[int], entries: str) -> str:
        """Add offsets (K,) to int64 entries (N, K), once however often it is asked for."""
        key = entries, tuple(offsets)
        if key not in self._placed:
            self._placed[key] = self.add("Add", entries, self.integers(offsets, "offsets"))
        return self._placed[key]

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{self._prefix}{what}_{self._count}"

    def model(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
    ) -> onnx.ModelProto:
        """Return the checked model."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        return finished(graph)


def finished(graph: onnx.GraphProto) -> onnx.ModelProto:
    """Wrap a graph into a model of our opset and check it."""
    model = helper.make_model(
        graph,
        producer_name="steadynet",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model
