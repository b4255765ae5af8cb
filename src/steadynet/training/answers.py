"""A welded graph in memory, before there is a bundle: what evaluation, profile and golden rows ask.

Metrics come from here and not from torch, so that what training reports is what serving answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from steadynet.table.schema import HIDDEN, NOVELTY, Schema, input_name

CHUNK_ROWS = 4096

Columns = dict[str, npt.NDArray[Any]]
Answers = dict[str, npt.NDArray[Any]]


class WeldedGraph:
    """Runs the welded graph on columns, in chunks."""

    def __init__(self, model: bytes, schema: Schema, *, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {column.name: input_name(column.name) for column in schema.features}
        names = [node.name for node in self._session.get_outputs()]
        self._outputs = [name for name in names if name not in (HIDDEN, NOVELTY)]
        self.tells_novelty = NOVELTY in names

    def run(self, columns: Columns) -> Answers:
        """Return every answer [N] or [N, C] by name for columns (N, 1)."""
        return self._run(columns, self._outputs)

    def novelty(self, columns: Columns) -> Answers:
        """Return `NOVELTY` (N,) and `HIDDEN` (N, K); nothing where the graph has neither."""
        return self._run(columns, [NOVELTY, HIDDEN]) if self.tells_novelty else {}

    def _run(self, columns: Columns, outputs: list[str]) -> Answers:
        rows = len(next(iter(columns.values())))
        parts = []
        for start in range(0, rows, CHUNK_ROWS):
            feed = {
                entering: columns[name][start : start + CHUNK_ROWS]
                for name, entering in self._inputs.items()
            }
            parts.append(self._session.run(outputs, feed))
        return {
            name: np.concatenate([part[place] for part in parts])
            for place, name in enumerate(outputs)
        }


def take_rows(columns: Columns, rows: npt.NDArray[np.int64]) -> Columns:
    """Return the columns of some rows."""
    return {name: values[rows] for name, values in columns.items()}
