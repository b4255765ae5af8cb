"""Columns that alone tell the target: mostly they are written after the fact.

A column is scored on a sample by how well its own value predicts the target across two folds:
the target's mean is learnt per bin (numbers, by quantile) or per category on one fold and used on
the other. Binary and multiclass: the area under the ROC curve, one class against the rest, mean
over classes. Regression: R², or the squared correlation of values or ranks where that is higher.

A regression's target can also be the sum of columns that are each innocent; a linear fit finds it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from steadynet.table.convert import parse_column
from steadynet.table.findings import Finding
from steadynet.table.frame import Frame
from steadynet.table.schema import Column, Schema

LEAK_SCORE = 0.99
SAMPLE_ROWS = 5000
BINS = 64
MAX_CLASSES_SCORED = 10
MIN_ROWS_SCORED = 50
SUM_SCORE = 0.9999
"""R² of a linear fit from which the target is a sum of columns."""
MAX_COLUMNS_SUMMED = 200
SUMMAND = 0.01
"""Share of the largest standardised coefficient from which a column is part of the sum."""

Floats = npt.NDArray[np.float64]


def find_leaks(
    frame: Frame, schema: Schema, target: npt.NDArray[np.generic], *, main: bool = True
) -> list[Finding]:
    """Return a warning for each feature whose score is above `LEAK_SCORE`.

    Of a target that is not the `main` one, the warning says its name.
    """
    if frame.height < MIN_ROWS_SCORED:
        return []
    generator = np.random.default_rng(0)
    rows = generator.permutation(frame.height)[:SAMPLE_ROWS]
    sample = frame[rows]
    wanted = _one_per_class(target[rows], schema)
    what = "the target" if main else f"the target {schema.target.name!r}"
    findings = []
    for column in schema.features:
        score = _score(sample[column.name], column, schema, wanted)
        if score > LEAK_SCORE:
            measure = "R²" if schema.target.task == "regression" else "AUC"
            findings.append(
                Finding(
                    level="warning",
                    code="leak",
                    column=column.name,
                    message=f"{column.name!r} alone predicts {what} ({measure} {score:.3f}):"
                    " if it is only known afterwards, leave it out with --drop",
                )
            )
    if schema.target.task == "regression" and not findings:
        findings.extend(_find_sum(sample, schema, wanted[0], what))
    return findings


def _find_sum(sample: pl.DataFrame, schema: Schema, target: Floats, what: str) -> list[Finding]:
    """Return a warning where the target is a linear combination of number columns."""
    columns = [column for column in schema.features if column.kind == "number"]
    if not 2 <= len(columns) <= min(MAX_COLUMNS_SUMMED, sample.height // 10):
        return []
    matrix = np.stack([_standardised(sample[c.name], c, schema) for c in columns], axis=1)
    centred = target - target.mean()
    total = float((centred**2).sum())
    coefficients, *_ = np.linalg.lstsq(matrix, centred, rcond=1e-6)
    if total == 0 or 1 - ((centred - matrix @ coefficients) ** 2).sum() / total <= SUM_SCORE:
        return []
    size = np.abs(coefficients)
    names = [c.name for c, part in zip(columns, size, strict=True) if part > SUMMAND * size.max()]
    listed = ", ".join(repr(name) for name in names)
    message = (
        f"{what} is a weighted sum of {listed}: if they are only known afterwards, leave them"
        " out with --drop"
    )
    return [Finding(level="warning", code="leak_sum", column=names[0], message=message)]


def _standardised(series: pl.Series, column: Column, schema: Schema) -> Floats:
    """Return a number column with mean 0 and deviation 1; missing and infinite values are 0."""
    parsed = parse_column(series, column, schema.missing_spellings).values
    values = parsed.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(len(values))
    mean, deviation = values[finite].mean(), values[finite].std()
    result: Floats = np.where(finite, (values - mean) / (deviation or 1.0), 0.0)
    return result


def _one_per_class(target: npt.NDArray[np.generic], schema: Schema) -> list[Floats]:
    """Return what to predict: the target, or for each class whether a row is of it."""
    if schema.target.task == "regression":
        return [target.astype(np.float64)]
    classes, counts = np.unique(target, return_counts=True)
    if schema.target.task == "binary":
        return [(target == len(schema.target.classes) - 1).astype(np.float64)]
    frequent = classes[np.argsort(-counts)][:MAX_CLASSES_SCORED]
    return [(target == name).astype(np.float64) for name in frequent]


def _score(series: pl.Series, column: Column, schema: Schema, wanted: list[Floats]) -> float:
    parsed = parse_column(series, column, schema.missing_spellings).values
    cells = _cells(parsed, column)
    scores = []
    for target in wanted:
        predicted = _predict_across_folds(cells, target)
        if schema.target.task == "regression":
            scores.append(_explained(predicted, target))
            if column.kind != "category":
                scores[-1] = max(scores[-1], _correlation(parsed, target))
        else:
            scores.append(area_under_roc(predicted, target))
    return float(np.mean(scores)) if scores else 0.0


def _cells(parsed: pl.Series, column: Column) -> npt.NDArray[np.int64]:
    """Return each row's bin or category as a number from 0; missing values are one of their own."""
    if column.kind == "category":
        return parsed.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    values = parsed.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    present, finite = ~np.isnan(values), values[np.isfinite(values)]
    edges = np.empty(0)
    if finite.size:
        edges = np.unique(np.quantile(finite, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.where(present, np.searchsorted(edges, values, side="left") + 1, 0)


def _predict_across_folds(cells: npt.NDArray[np.int64], target: Floats) -> Floats:
    """Return each row's prediction: the mean target of its cell on the other fold's rows."""
    folds = np.arange(len(cells)) % 2
    predicted = np.empty(len(cells))
    for fold in (0, 1):
        fitted = folds != fold
        size = int(cells.max()) + 1
        rows = np.bincount(cells[fitted], minlength=size)
        sums = np.bincount(cells[fitted], weights=target[fitted], minlength=size)
        overall = target[fitted].mean()
        means = np.where(rows > 0, sums / np.maximum(rows, 1), overall)
        predicted[~fitted] = means[cells[~fitted]]
    return predicted


def area_under_roc(score: Floats, positive: Floats) -> float:
    """Return the probability that a positive row's score is above a negative's (ties half)."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return 0.5
    ranks = _mean_ranks(score)
    above = ranks[positive == 1].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def _mean_ranks(values: Floats) -> Floats:
    return pl.Series(values).rank("average").to_numpy()


def _explained(predicted: Floats, target: Floats) -> float:
    total = ((target - target.mean()) ** 2).sum()
    return float(1 - ((target - predicted) ** 2).sum() / total) if total > 0 else 0.0


def _correlation(parsed: pl.Series, target: Floats) -> float:
    """Return the squared correlation of values or of ranks, whichever is higher."""
    values = parsed.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    kept = np.isfinite(values)
    if kept.mean() < LEAK_SCORE or np.ptp(values[kept]) == 0 or np.ptp(target[kept]) == 0:
        return 0.0
    pairs = ((values[kept], target[kept]), (_mean_ranks(values[kept]), _mean_ranks(target[kept])))
    return max(float(np.corrcoef(a, b)[0, 1] ** 2) for a, b in pairs)
