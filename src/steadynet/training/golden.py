"""Golden rows: real rows and rows made worse, with the welded graph's answers to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from steadynet.bundle.golden import Answer, Cell, GoldenRow
from steadynet.export.parity import stress_rows
from steadynet.export.sets import PredictionSets, unsure_cells
from steadynet.runtime.columns import decode_rows
from steadynet.table.schema import MISSING_DATETIME, PREDICTION_SET, Column, Schema
from steadynet.training.answers import Answers, Columns, WeldedGraph, take_rows

REAL_ROWS = 12


def golden_rows(
    graph: WeldedGraph, schema: Schema, columns: Columns, sets: PredictionSets | None = None
) -> tuple[GoldenRow, ...]:
    """Return golden rows from `columns` (N, 1), rows of the test part.

    The answers are computed from the cells as a caller would send them, so that loading a bundle
    checks decoding too. Of `sets` only those are kept that no rounding decides.
    """
    rows = len(next(iter(columns.values())))
    real = take_rows(columns, np.linspace(0, rows - 1, min(REAL_ROWS, rows)).astype(np.int64))
    worse = stress_rows(columns, schema)
    cells = [*_cells(schema, real), *_cells(schema, worse)]
    answers = graph.run(decode_rows(schema, cells))
    unsure: set[int] = set()
    if sets is not None:
        probabilities = answers["probabilities"].astype(np.float64)
        unsure = set(np.flatnonzero(unsure_cells(probabilities, sets).any(axis=1)).tolist())
    found = []
    for place, row in enumerate(cells):
        outputs = _answers(answers, place)
        if place in unsure:
            del outputs[PREDICTION_SET]
        found.append(GoldenRow(inputs=row, outputs=outputs))
    return tuple(found)


def _cells(schema: Schema, columns: Columns) -> list[dict[str, Cell]]:
    rows = len(next(iter(columns.values())))
    return [
        {column.name: _cell(column, columns[column.name][row, 0]) for column in schema.features}
        for row in range(rows)
    ]


def _cell(column: Column, value: Any) -> Cell:
    """Return a graph input as a caller would send it."""
    if column.kind == "category":
        return str(value) if value != "" else None
    if column.kind == "datetime":
        return int(value) if value != MISSING_DATETIME else None
    if np.isnan(value):
        return None
    return bool(value) if column.kind == "boolean" else float(value)


def _answers(answers: Answers, row: int) -> dict[str, Answer]:
    return {name: _answer(values[row]) for name, values in answers.items()}


def _answer(value: npt.NDArray[Any] | str | float) -> Answer:
    if isinstance(value, str):
        return value
    if isinstance(value, np.ndarray):
        return tuple(float(item) for item in value)
    return float(value)
