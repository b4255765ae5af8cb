"""What a model needs its columns for, on rows of the test part, and the pictures of its card."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from steadynet.bundle.picture import Picture
from steadynet.explain.illustrate import Shown, can_draw, illustrate
from steadynet.explain.importance import ColumnImportance, permutation_importance
from steadynet.explain.pictures import draw_learning
from steadynet.table.schema import Schema
from steadynet.training.answers import Columns, WeldedGraph, take_rows
from steadynet.training.loop import FitResult

IMPORTANCE_ROWS = 1000
FEWEST_IMPORTANCE_ROWS = 100
IMPORTANCE_ANSWERS = 50_000
"""Rows that are answered for importance, over all columns."""


def importance_rows(columns: int) -> int:
    """Return the rows that importance looks at, so that a wide table takes no longer."""
    return max(FEWEST_IMPORTANCE_ROWS, min(IMPORTANCE_ROWS, IMPORTANCE_ANSWERS // max(1, columns)))


def importance_of(
    graph: WeldedGraph,
    schema: Schema,
    columns: Columns,
    target: npt.NDArray[np.generic],
    *,
    seed: int,
) -> tuple[ColumnImportance, ...]:
    """Return every column's importance on a sample of the rows (N, 1) with their target (N,)."""
    chosen = np.random.default_rng(seed).permutation(len(target))
    chosen = chosen[: importance_rows(len(schema.features))]
    return permutation_importance(
        graph.run, schema, take_rows(columns, chosen), target[chosen], repeats=1, seed=seed
    )


def pictures_of(
    graph: WeldedGraph,
    shown: Shown,
    importance: tuple[ColumnImportance, ...],
    result: FitResult,
    *,
    seed: int,
) -> tuple[Picture, ...]:
    """Return the card's pictures; none where matplotlib is not there."""
    if not can_draw():
        return ()
    drawn = illustrate(graph.run, shown, importance, seed=seed)
    if not result.history:
        return drawn
    learning = draw_learning(
        [epoch.epoch for epoch in result.history],
        [epoch.train_loss for epoch in result.history],
        [epoch.held_loss for epoch in result.history],
        float(np.median(result.best_epochs)),
    )
    return (*drawn, learning)
