"""What is explained: one number per row, answered by the graph that serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from steadynet.table.schema import Schema

Columns = dict[str, npt.NDArray[Any]]
"""Graph inputs by column name, (N, 1) each."""
Answers = dict[str, npt.NDArray[Any]]
Run = Callable[[Columns], Answers]
"""As `Predictor.run` or `WeldedGraph.run`."""
Floats = npt.NDArray[np.float64]
Score = Callable[[Columns], Floats]
"""From columns to the explained number (N,)."""

CHUNK_ROWS = 8192


def score_of(run: Run, schema: Schema, place: int | None = None) -> Score:
    """Return the number that is explained.

    A regression's prediction; else the probability of the class at `place` (default: the last,
    which is a binary target's positive class).
    """

    def score(columns: Columns) -> Floats:
        answers = run_chunked(run, columns)
        if schema.target.task == "regression":
            prediction: Floats = answers["prediction"].astype(np.float64)
            return prediction
        chosen: Floats = answers["probabilities"][:, -1 if place is None else place].astype(
            np.float64
        )
        return chosen

    return score


def run_chunked(run: Run, columns: Columns) -> Answers:
    """Run a graph over any number of rows in chunks."""
    rows = row_count(columns)
    parts = [
        run({name: values[start : start + CHUNK_ROWS] for name, values in columns.items()})
        for start in range(0, rows, CHUNK_ROWS)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def row_count(columns: Columns) -> int:
    """Return N."""
    return len(next(iter(columns.values())))


def take(columns: Columns, rows: npt.NDArray[np.int64]) -> Columns:
    """Return some rows."""
    return {name: values[rows] for name, values in columns.items()}
