"""Metrics of a graph's answers: overall with intervals, and by slice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from steadynet.bundle.card import SliceMetrics
from steadynet.bundle.manifest import Interval
from steadynet.runtime.loss_metrics import MetricOptions
from steadynet.runtime.metrics import with_intervals
from steadynet.spec.losses import Loss
from steadynet.table.schema import Column, Schema
from steadynet.training.answers import Answers, Columns

FEWEST_SLICE_ROWS = 30
"""Smaller slices say nothing; their intervals would be as wide as the scale."""
MOST_SLICE_VALUES = 10
"""A column with more distinct values in the test part is not sliced."""
MOST_SLICED_COLUMNS = 12
SLICE_RESAMPLES = 100
MISSING_NAME = "(missing)"


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How answers are measured."""

    threshold: float | None
    """Binary: the probability from which the label is the last class."""
    loss: Loss | None = None
    weights: npt.NDArray[np.float64] | None = None
    """What each row counts (N,); None: all the same."""

    def of(self, rows: npt.NDArray[np.int64]) -> Measuring:
        """Return it for some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, weights=weights)


def evaluate(
    answers: Answers, target: npt.NDArray[Any], schema: Schema, how: Measuring
) -> dict[str, Interval]:
    """Return metric → value with its interval over all rows."""
    return _measure(answers, target, schema, how)


def evaluate_slices(
    answers: Answers,
    target: npt.NDArray[Any],
    columns: Columns,
    schema: Schema,
    how: Measuring,
) -> tuple[SliceMetrics, ...]:
    """Return the metrics of every large enough slice of the first low-cardinality columns."""
    found: list[SliceMetrics] = []
    sliced = 0
    for column in schema.features:
        if column.kind not in ("category", "boolean") or sliced == MOST_SLICED_COLUMNS:
            continue
        slices = list(_slices(column, columns[column.name][:, 0]))
        sliced += bool(slices)
        for value, rows in slices:
            picked = {name: output[rows] for name, output in answers.items()}
            found.append(
                SliceMetrics(
                    column=column.name,
                    value=value,
                    rows=len(rows),
                    metrics=_measure(picked, target[rows], schema, how.of(rows), SLICE_RESAMPLES),
                )
            )
    return tuple(found)


def _slices(
    column: Column, values: npt.NDArray[Any]
) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    names = values.astype(str)
    if column.kind == "boolean":
        names = np.where(np.isnan(values), "", np.where(values > 0, "true", "false"))
    distinct, counts = np.unique(names, return_counts=True)
    if not 1 < len(distinct) <= MOST_SLICE_VALUES:
        return
    for value, count in zip(distinct, counts, strict=True):
        if count >= FEWEST_SLICE_ROWS:
            yield str(value) or MISSING_NAME, np.flatnonzero(names == value)


def _measure(
    answers: Answers,
    target: npt.NDArray[Any],
    schema: Schema,
    how: Measuring,
    resamples: int = 200,
) -> dict[str, Interval]:
    options = MetricOptions(loss=how.loss, ordered=schema.target.ordered)
    if schema.target.task == "regression":
        return with_intervals(
            target,
            answers["prediction"],
            resamples=resamples,
            options=options,
            weights=how.weights,
        )
    return with_intervals(
        target,
        answers["probabilities"],
        schema.target.classes,
        decision_threshold=0.5 if how.threshold is None else how.threshold,
        resamples=resamples,
        options=options,
        weights=how.weights,
    )
