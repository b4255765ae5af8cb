"""How much a graph needs a column, and how its answers go with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.explain.answering import Columns, Floats, Run, Score, row_count, run_chunked, take
from steadynet.runtime.metrics import per_row_loss
from steadynet.table.schema import MISSING_DATETIME, Column, Schema

GRID = 16
"""Values that a dependence is looked at."""
DEPENDENCE_ROWS = 400
REPEATS = 5
"""How often a column is shuffled."""


class ColumnImportance(msgspec.Struct, frozen=True, kw_only=True):
    """What permuting a column costs."""

    column: str
    loss: float
    """Rise of the mean loss (log-loss, or squared error) where the column is shuffled."""
    error: float
    """Standard error of the rise, over rows and repeats."""


class Dependence(msgspec.Struct, frozen=True, kw_only=True):
    """How answers go with one column, the others being as they are."""

    column: str
    values: tuple[str, ...]
    """What the column was set to, as text."""
    mean: tuple[float, ...]
    low: tuple[float, ...]
    """The lowest tenth of the rows' answers."""
    high: tuple[float, ...]
    share: tuple[float, ...]
    """Share of the rows that are nearest to the value."""
    at: tuple[float, ...] = ()
    """The values as numbers (dates: seconds since 1970); none for categories and booleans."""
    dated: bool = False


def permutation_importance(
    run: Run,
    schema: Schema,
    columns: Columns,
    target: npt.NDArray[Any],
    *,
    repeats: int = REPEATS,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[ColumnImportance, ...]:
    """Return every feature's importance, the largest first (Breiman 2001; Fisher et al. 2019).

    `columns` (N, 1) and `target` (N,) should be rows that nothing was fitted on. Columns that say
    the same share their importance: each can stand in for the other.
    """
    random = np.random.default_rng(seed)
    output = "prediction" if schema.target.task == "regression" else "probabilities"
    base = per_row_loss(target, run_chunked(run, columns)[output])
    found = []
    for column in schema.features:
        tell(column.name)
        rises = np.zeros(len(target))
        for _ in range(repeats):
            order = random.permutation(len(target))
            changed = columns | {column.name: columns[column.name][order]}
            rises += per_row_loss(target, run_chunked(run, changed)[output]) - base
        found.append(mean_rise(column.name, rises / repeats))
    return tuple(sorted(found, key=lambda item: -item.loss))


def mean_rise(column: str, rises: Floats) -> ColumnImportance:
    """Return the mean of rows' rises of the loss (N,), with its error."""
    return ColumnImportance(
        column=column,
        loss=float(rises.mean()),
        error=float(rises.std(ddof=1) / math.sqrt(len(rises))) if len(rises) > 1 else 0.0,
    )


def dependence(
    score: Score,
    column: Column,
    columns: Columns,
    *,
    most_rows: int = DEPENDENCE_ROWS,
    seed: int = 0,
) -> Dependence:
    """Return the partial dependence (Friedman 2001) on one column, with the rows' spread."""
    random = np.random.default_rng(seed)
    rows = random.permutation(row_count(columns))[:most_rows]
    sample = take(columns, rows)
    grid, shares = _grid(column, columns[column.name][:, 0])
    means, lows, highs = [], [], []
    for value in grid:
        filled = np.full_like(sample[column.name], value)
        answers = score(sample | {column.name: filled})
        low, high = np.quantile(answers, [0.1, 0.9])
        means.append(float(answers.mean()))
        lows.append(float(low))
        highs.append(float(high))
    return Dependence(
        column=column.name,
        values=tuple(_text(column, value) for value in grid),
        mean=tuple(means),
        low=tuple(lows),
        high=tuple(highs),
        share=tuple(shares),
        at=() if column.kind in ("category", "boolean") else tuple(map(float, grid)),
        dated=column.kind == "datetime",
    )


def _grid(column: Column, values: npt.NDArray[Any]) -> tuple[list[Any], list[float]]:
    """Return the values to look at, and the share of rows nearest to each."""
    if column.kind in ("category", "boolean"):
        present = values[values == values]  # NaN is not itself
        distinct, counts = np.unique(present.astype(object), return_counts=True)
        order = np.argsort(-counts, kind="stable")[:GRID]
        return distinct[order].tolist(), (counts[order] / len(values)).tolist()
    numbers = values.astype(np.float64)
    missing = values == MISSING_DATETIME if column.kind == "datetime" else ~np.isfinite(numbers)
    numbers = numbers[~missing]
    if len(numbers) == 0:
        return [], []
    grid: Floats = np.unique(np.quantile(numbers, np.linspace(0.02, 0.98, GRID)))
    nearest = np.abs(numbers[:, None] - grid[None]).argmin(axis=1)
    shares = np.bincount(nearest, minlength=len(grid)) / len(values)
    return grid.tolist(), shares.tolist()


def _text(column: Column, value: object) -> str:
    if column.kind == "boolean":
        return "true" if value else "false"
    if column.kind == "datetime" and isinstance(value, float):
        return str(np.datetime64(round(value), "s"))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
