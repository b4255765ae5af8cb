"""Run a feature graph to make training's tensors, by the runtime that will serve it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from steadynet.features.fit import CATEGORIES, NUMBERS, FeatureGraph
from steadynet.table.schema import input_name

CHUNK_ROWS = 16_384


class Tensors(NamedTuple):
    """What a network takes."""

    numbers: npt.NDArray[np.float32]
    """(N, D)."""
    categories: npt.NDArray[np.int64]
    """(N, K)."""


def run_features(
    graph: FeatureGraph, columns: dict[str, npt.NDArray[Any]], *, threads: int = 1
) -> Tensors:
    """Return the tensors of all rows of `columns` (N, 1), computed in chunks of rows."""
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
    numbers = np.empty((rows, len(graph.layout.numbers)), dtype=np.float32)
    categories = np.empty((rows, len(graph.layout.categories)), dtype=np.int64)
    for start in range(0, rows, CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        chunk = {name: values[part] for name, values in inputs.items()}
        numbers[part], categories[part] = session.run([NUMBERS, CATEGORIES], chunk)
    return Tensors(numbers, categories)
