"""Run a feature graph to make training's tensors, by the runtime that will serve it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from steadynet.features.fit import CATEGORIES, NUMBERS, FeatureGraph
from steadynet.table.cells import Allocate, Cells
from steadynet.table.schema import input_name

CHUNK_ROWS = 16_384


class Tensors(NamedTuple):
    """What a network takes."""

    numbers: npt.NDArray[np.float32]
    """(N, D)."""
    categories: npt.NDArray[np.int64]
    """(N, K)."""

    def rows(self, wanted: npt.NDArray[np.int64]) -> Tensors:
        """Return the tensors of some rows (n,)."""
        return Tensors(self.numbers[wanted], self.categories[wanted])


def run_features(
    graph: FeatureGraph,
    columns: Mapping[str, Cells],
    *,
    threads: int = 1,
    allocate: Allocate = np.empty,
) -> Tensors:
    """Return the tensors of all rows of `columns` (N, 1), computed in chunks of rows.

    They are arrays of `allocate`, so that those of a large table can lie in files.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    wanted = {node.name for node in session.get_inputs()}
    inputs = {input_name(name): values for name, values in columns.items()}
    inputs = {name: values for name, values in inputs.items() if name in wanted}
    rows = len(next(iter(inputs.values())))
    numbers = allocate((rows, len(graph.layout.numbers)), np.float32)
    categories = allocate((rows, len(graph.layout.categories)), np.int64)
    for start in range(0, rows, CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        chunk = {name: values[part] for name, values in inputs.items()}
        numbers[part], categories[part] = session.run([NUMBERS, CATEGORIES], chunk)
    return Tensors(numbers, categories)
