"""The peers' model: the same ONNX graph for all, run by onnxruntime with one thread.

`BENCH_MODEL` names the graph. It has either one input `x` [N, D] of numbers, or one input [N, 1]
per column, numbers and texts.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime as ort


class Network:
    """A session and the names and kinds of its inputs."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.environ["BENCH_MODEL"]
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        nodes = self.session.get_inputs()
        self.kinds = {
            node.name: object if node.type == "tensor(string)" else np.float32 for node in nodes
        }
        self.is_matrix = list(self.kinds) == ["x"]

    def rows(self, rows: list[list[float]]) -> dict[str, Any]:
        """Answer rows of numbers."""
        return self.run({"x": np.array(rows, dtype=np.float32)})

    def record(self, record: dict[str, Any]) -> dict[str, Any]:
        """Answer one row, column → value."""
        return self.run(
            {name: np.array([[record[name]]], dtype=kind) for name, kind in self.kinds.items()}
        )

    def run(self, feed: dict[str, Any]) -> dict[str, Any]:
        """Answer with labels and probabilities as lists."""
        label, probabilities = self.session.run(["label", "probabilities"], feed)
        return {"label": label.tolist(), "probabilities": probabilities.tolist()}
