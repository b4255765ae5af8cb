"""Runs of a graph of numbers whose inputs are bound once for each number of rows.

A session that is handed an array per column looks each of them up, checks and wraps it again on
every run; for a row of some tens of columns that takes longer than a small network. Bound inputs
are copied into one buffer instead.

Invariant: a buffer belongs to one run at a time, so that runs in several threads don't meet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

MAX_BOUND_ROWS = 64
"""Larger batches are bound anew by the session: there it hardly counts, and buffers stay few."""


class BoundRuns:
    """Runs a session on arrays (D, N) of float32, of N up to `MAX_BOUND_ROWS`."""

    def __init__(
        self, session: ort.InferenceSession, inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        self._session = session
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._free: dict[int, list[tuple[np.ndarray, ort.IOBinding]]] = {}

    def run(self, columns: np.ndarray) -> list[np.ndarray]:
        """Return the outputs in order. Raises what onnxruntime raises."""
        rows = columns.shape[1]
        free = self._free.setdefault(rows, [])
        try:
            buffer, binding = free.pop()
        except IndexError:
            buffer, binding = self._bind(rows)
        np.copyto(buffer, columns)
        self._session.run_with_iobinding(binding)
        # What a bound output holds is overwritten by the next run.
        answers = [value.numpy().copy() for value in binding.get_outputs()]
        free.append((buffer, binding))
        return answers

    def _bind(self, rows: int) -> tuple[np.ndarray, ort.IOBinding]:
        buffer = np.empty((len(self._inputs), rows), np.float32)
        binding = self._session.io_binding()
        for position, name in enumerate(self._inputs):
            pointer = buffer[position].ctypes.data
            binding.bind_input(name, "cpu", 0, np.float32, (rows, 1), pointer)
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        return buffer, binding
