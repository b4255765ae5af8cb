"""Prove that the welded graph answers as the trained network does.

Compared: onnxruntime on the welded graph against feature graph → torch and LightGBM → head in
NumPy, on real rows, on rows made worse (missing, unseen, infinite), on one row and on many; and
every row alone against the same row in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.errors import ParityError
from steadynet.export.head import ClassificationHead, Head, RegressionHead, apply_head
from steadynet.export.interval import Sides
from steadynet.export.sets import unsure_cells
from steadynet.features.fit import FeatureGraph
from steadynet.features.run import Tensors, run_features
from steadynet.table.schema import (
    MISSING_DATETIME,
    PREDICTION_SET,
    Column,
    Schema,
    Target,
    output_name,
)

TOLERANCE = 1e-5
"""Of probabilities; of a regression's outputs in deviations of the target."""
BOUND_SLACK = 5.0
"""An adaptive interval's bound multiplies a spread, which is an exponential of a sum of trees, by a
quantile: its rounding may be as many times larger. Promised coverage does not feel it."""
MANY_ROWS = 4_000
"""More than the largest batch of the serving path, and than a chunk of any library here."""
ALONE_ROWS = 16
UNSEEN_CATEGORY = "steadynet: a category that no table holds"
LATE = 253_402_300_799
"""The last second of the year 9999, in seconds since 1970."""

ROUNDED_SHARE = 0.05
"""Of a row's largest output: `TOLERANCE` of it is a few units in the last place."""
SMALLEST_SLOPE = 1e-3
"""Where a prediction hardly moves with the answer, its own rounding is larger."""

Floats = npt.NDArray[np.float64]
Columns = dict[str, npt.NDArray[Any]]
Answers = dict[str, npt.NDArray[Any]]
Run = Callable[[Columns], Answers]
AnswersOf = Callable[[Tensors], Sequence[npt.NDArray[np.float64]]]
"""From the feature graph's tensors to each target's blended answer (N, C), by the libraries that
it was fitted with."""


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """How far apart graph and network were at most."""

    rows: int
    largest_difference: float
    largest_alone: float
    """Between a row alone and the same row in a batch."""


def check_parity(
    run: Run,
    features: FeatureGraph,
    answers_of: AnswersOf,
    heads: Sequence[Head],
    schema: Schema,
    columns: Columns,
    sides_of: Callable[[Tensors], Sides] = lambda _: Sides(),
) -> Parity:
    """Compare `run`, the welded graph, with the parts that it was welded from.

    `sides_of` gives what the main target's interval needs. `columns` (N, 1) are real rows, one at
    least. Raises `ParityError` where an answer is not
    finite or differs by more than `TOLERANCE`.
    """
    worse = stress_rows(columns, schema)
    many = {
        name: np.concatenate([worse[name], _repeat(values, MANY_ROWS)])
        for name, values in columns.items()
    }
    answers = run(many)
    largest = alone = 0.0
    count = min(ALONE_ROWS + len(next(iter(worse.values()))), MANY_ROWS)
    singles = [
        run({name: values[row : row + 1] for name, values in many.items()}) for row in range(count)
    ]
    tensors = run_features(features, many)
    sides: Sides | None = sides_of(tensors)
    for target, answer, head in zip(schema.targets, answers_of(tensors), heads, strict=True):
        wanted = _wanted(answer, head, sides, answers, schema, target)
        sides = None
        apart = _difference(answers, wanted.outputs, wanted.unit, "the trained network")
        largest = max(largest, apart)
        for row, single in enumerate(singles):
            alone = max(alone, _difference_alone(row, single, answers, wanted))
    return Parity(
        rows=len(next(iter(many.values()))), largest_difference=largest, largest_alone=alone
    )


class _Wanted(NamedTuple):
    """What the graph must answer of one target."""

    outputs: Answers
    unit: float | Floats
    """What differences are measured in."""
    unsure: npt.NDArray[np.bool_] | None
    """Cells of prediction sets that rounding decides, (N, C)."""


def _wanted(
    answer: Floats,
    head: Head,
    sides: Sides | None,
    answers: Answers,
    schema: Schema,
    target: Target,
) -> _Wanted:
    """Return the head's outputs by NumPy, with the graph's own where rounding decides."""
    expected = {
        output_name(schema, target, output): values
        for output, values in apply_head(answer, head, sides).items()
    }
    unsure = None
    if isinstance(head, ClassificationHead) and head.sets is not None:
        # The main target's alone, so that its name is plain.
        unsure = unsure_cells(expected["probabilities"], head.sets)
        expected[PREDICTION_SET] = np.where(
            unsure, answers[PREDICTION_SET], expected[PREDICTION_SET]
        )
    unit: float | Floats = 1.0
    if isinstance(head, RegressionHead):
        prediction = expected[output_name(schema, target, "prediction")]
        unit = head.scale * np.maximum(head.inverse.slope(prediction), SMALLEST_SLOPE)
        if head.inverse.kind != "identity":
            # A bound far from a small prediction is rounded at the bound's size.
            farthest = np.max([np.abs(values) for values in expected.values()], axis=0)
            unit = np.maximum(unit, ROUNDED_SHARE * farthest)
    return _Wanted(expected, unit, unsure)


def _difference_alone(row: int, single: Answers, answers: Answers, wanted: _Wanted) -> float:
    """Return how far a row alone is from the same row in a batch."""
    same = {name: answers[name][row : row + 1] for name in wanted.outputs}
    if wanted.unsure is not None:
        same[PREDICTION_SET] = np.where(
            wanted.unsure[row : row + 1], single[PREDICTION_SET], same[PREDICTION_SET]
        )
    unit = wanted.unit if isinstance(wanted.unit, float) else wanted.unit[row : row + 1]
    return _difference(single, same, unit, "the same row in a batch")


def stress_rows(columns: Columns, schema: Schema) -> Columns:
    """Return rows made worse from the first rows of `columns`, as many whatever the schema.

    Each kind's values in turn are all missing, extreme and (categories) unseen, then all at once.
    """
    variants: list[tuple[str, int]] = [("none", 0)]
    variants += [(kind, place) for kind, made in _WORSE.items() for place in range(len(made))]
    variants += [("all", place) for place in range(2)]
    rows = np.arange(len(variants)) % len(next(iter(columns.values())))
    worse = {name: values[rows].copy() for name, values in columns.items()}
    for row, (kind, place) in enumerate(variants):
        for column in schema.features:
            if kind in (column.kind, "all"):
                made = _WORSE[column.kind]
                worse[column.name][row, 0] = made[place % len(made)](column)
    return worse


def _low(column: Column) -> float:
    return -1.0 if column.minimum is None else column.minimum


def _high(column: Column) -> float:
    return 1.0 if column.maximum is None else column.maximum


_WORSE: dict[str, tuple[Callable[[Column], object], ...]] = {
    "number": (
        lambda _: np.nan,
        lambda _: np.inf,
        lambda _: -np.inf,
        lambda _: np.float32(3e38),
        lambda _: np.float32(-3e38),
        lambda _: np.float32(1e-40),
        _low,
        _high,
        lambda column: _high(column) + 10 * (_high(column) - _low(column)),
    ),
    "boolean": (lambda _: np.nan, lambda _: 0.0, lambda _: 1.0),
    "category": (lambda _: "", lambda _: UNSEEN_CATEGORY),
    "datetime": (lambda _: MISSING_DATETIME, lambda _: 0, lambda _: LATE),
}
"""Kind → what its values are made into; the first is missing."""


def _repeat(values: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    times = -(-rows // len(values))
    return np.concatenate([values] * times)[:rows]


def _difference(answers: Answers, expected: Answers, unit: float | Floats, what: str) -> float:
    """Return the largest difference in units, one for all rows or one a row (N,)."""
    largest = 0.0
    for name, wanted in expected.items():
        got, wanted = answers[name].astype(np.float64), wanted.astype(np.float64)
        if got.shape != wanted.shape or not np.isfinite(got).all():
            raise ParityError(
                f"the welded graph's {name!r} is not finite or of another shape",
                expected=str(wanted.shape),
                got=str(got.shape),
            )
        # Rounding to float32 in the target's unit is no disagreement.
        slack = np.abs(wanted) * np.finfo(np.float32).eps
        apart = np.maximum(np.abs(got - wanted) - slack, 0) / unit
        if name.endswith(("lower", "upper")):
            apart = apart / BOUND_SLACK
        largest = max(largest, float(apart.max()))
    if largest > TOLERANCE:
        raise ParityError(
            f"the welded graph's answers differ from {what}",
            expected=f"at most {TOLERANCE:g}",
            got=f"{largest:g}",
        )
    return largest
