"""Adversarial validation: can a model tell two sets of rows apart, and by which columns?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steadynet.doctor.folds import out_of_fold
from steadynet.doctor.report import Symptom
from steadynet.table.leak import area_under_roc

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

SHIFTED = 0.6
"""Area under the ROC curve from which the sets are worth a warning."""
TOLD = 0.55
"""Area from which a column is named among those that tell the sets apart."""
TOLD_COLUMNS = 5
BINS = 32


@dataclass(frozen=True)
class Cells:
    """What trees take (N, F), and the column that each of the F comes from."""

    values: npt.NDArray[np.float32]
    names: Sequence[str]

    def without(self, names: Sequence[str]) -> Cells:
        """Return the cells of the other columns."""
        kept = [place for place, name in enumerate(self.names) if name not in names]
        return Cells(self.values[:, kept], [self.names[place] for place in kept])


@dataclass(frozen=True)
class Sides:
    """Two sets of rows, and what is to be said of them."""

    first: str
    second: str
    do: str


HALVES = Sides(
    "the first half of the file",
    "the second half",
    "If rows come in the order of time, split by it (--time-column): a random split hides the "
    "shift. If files were put together or sorted by place or kind, nothing is wrong.",
)
PARTS = Sides(
    "the training part",
    "the test part",
    "The test part shows what the model does on rows unlike those it was fitted on. Expect to "
    "retrain often, or leave out the columns named, if they do not matter.",
)
TABLES = Sides(
    "the table",
    "the compared table",
    "A model of the first may do worse on the second: train on rows of both, or leave out the "
    "columns named, if they do not matter.",
)


def tell_apart(cells: npt.NDArray[np.float32], second: Flags) -> tuple[float, float]:
    """Return the out-of-fold area under the ROC curve and its standard error.

    The error is Hanley and McNeil's (1982).
    """
    rows = np.arange(len(second))
    answers = out_of_fold(cells, second.astype(np.int64), rows, classes=2)
    area = area_under_roc(answers[:, 1], second.astype(np.float64))
    ones, zeros = int(second.sum()), int((~second).sum())
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = area * (1 - area) + (ones - 1) * (q1 - area**2) + (zeros - 1) * (q2 - area**2)
    return area, math.sqrt(max(variance, 0.0) / (ones * zeros))


def columns_in_order(cells: Cells) -> list[str]:
    """Return the columns whose values never fall (or never rise) down the file.

    The one of most values comes first.
    """
    found: dict[str, int] = {}
    for place, name in enumerate(cells.names):
        values = cells.values[:, place]
        steps = np.diff(values[np.isfinite(values)])
        if len(steps) and steps.any() and ((steps >= 0).all() or (steps <= 0).all()):
            found[name] = max(found.get(name, 0), len(np.unique(values)))
    return sorted(found, key=lambda name: -found[name])


def order_symptoms(ordered: Sequence[str]) -> list[Symptom]:
    """Return what is to be said of the columns in whose order the file stands."""
    if not ordered:
        return []
    listed = ", ".join(repr(name) for name in ordered)
    return [
        Symptom(
            level="note",
            code="in_order",
            column=ordered[0],
            message=f"the rows stand in the order of {listed}",
            do=f"If that is time, --time-column {ordered[0]!r} tests on the newest rows, as the "
            "model will be used.",
        )
    ]


def shift_symptoms(cells: Cells, second: Flags, sides: Sides) -> list[Symptom]:
    """Return what is to be said where `second` rows (N,) can be told from the others."""
    if not cells.names:
        return []
    area, error = tell_apart(cells.values, second)
    if area - 2 * error < SHIFTED:
        return []
    single: dict[str, float] = {}
    for place, name in enumerate(cells.names):
        single[name] = max(single.get(name, 0.5), single_area(cells.values[:, place], second))
    telling = sorted(single, key=lambda name: -single[name])[:TOLD_COLUMNS]
    told = [f"{name} ({single[name]:.2f})" for name in telling if single[name] > TOLD]
    by = f"by {', '.join(told)}" if told else "by several columns together, none of them alone"
    return [
        Symptom(
            level="warning",
            code="shift",
            message=(
                f"{sides.second} can be told from {sides.first}: area under the ROC curve "
                f"{area:.2f} ± {2 * error:.2f} (0.5 is chance), {by}"
            ),
            count=int(second.sum()),
            do=sides.do,
        )
    ]


def single_area(values: npt.NDArray[np.float32], second: Flags) -> float:
    """Return how well one column (N,) tells the sets apart, by bins, across two folds."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if len(finite) == 0:
        return 0.5
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, BINS + 1)[1:]))
    bins = np.where(np.isnan(values), 0, np.searchsorted(edges, values) + 1)
    folds = np.random.default_rng(0).integers(0, 2, len(values))
    score = np.full(len(values), 0.5)
    for fold in (0, 1):
        fitted = folds != fold
        size = int(bins.max()) + 1
        rows = np.bincount(bins[fitted], minlength=size)
        ones = np.bincount(bins[fitted], weights=second[fitted], minlength=size)
        share = (ones + 0.5) / (rows + 1)
        score[~fitted] = share[bins[~fitted]]
    return area_under_roc(score, second.astype(np.float64))
