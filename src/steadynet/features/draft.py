"""Write down ONNX nodes one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 20
ML_OPSET = 4
IR_VERSION = 9
"""Read by onnxruntime 1.17 and later."""

PREFIX = "steadynet/"


class GraphDraft:
    """A list of nodes and constants.

    Invariant: every name that it hands out begins with `steadynet/` and is handed out once, so
    that no column's name can collide with it.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names: set[str] = set()

    def constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """Add a constant tensor and return its full name."""
        full = self._claim(name)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), full))
        return full

    def node(
        self, operator: str, inputs: list[str], name: str, *, domain: str = "", **attributes: Any
    ) -> str:
        """Add a node with one output and return the output's full name."""
        full = self._claim(name)
        self.nodes.append(
            helper.make_node(operator, inputs, [full], name=full, domain=domain, **attributes)
        )
        return full

    def concat(self, inputs: list[str], name: str, *, axis: int = 1) -> str:
        """Join tensors; a single one is passed on as it is."""
        return inputs[0] if len(inputs) == 1 else self.node("Concat", inputs, name, axis=axis)

    def _claim(self, name: str) -> str:
        full = PREFIX + name
        if full in self._names:
            raise ValueError(f"the graph has a {full} already")
        self._names.add(full)
        return full
