"""Intervals that cover: their width from held-out residuals, its method chosen on them.

What is promised of a row that is exchangeable with the held-out rows, whatever the distribution:

- constant, one group: covered with at least the coverage (split conformal, Lei et al. 2018), were
  the held-out rows used for nothing else. They also chose where the fit stopped and the blend's
  weights; the simulation in `tests/simulation` and the test part tell what that costs.
- constant, cross-fitted groups: no theorem, since the served answer is the groups' mean and the
  residuals are those of single groups. The mean errs no more than its groups do on average.
- cross: with at least 1 - 2 (1 - coverage) - sqrt(2 / n) (CV+, Barber et al. 2021, theorem 4), in
  practice about the coverage.
- adaptive, one group: as constant; the spread is fitted on one half of the held-out rows and the
  half width is found on the other. With groups: as constant with groups.
- sets of classes: as constant. Scores are of probabilities that were calibrated without their row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.errors import SpecError
from steadynet.export.interval import IntervalShape, crossed_of
from steadynet.export.sets import PredictionSets, SetMethod, set_scores
from steadynet.spec.model import CalibrationSpec
from steadynet.table.layout import FeatureLayout
from steadynet.training.spread import FittedSpread, fit_spread

ADAPTIVE_ROWS = 400
"""Held-out rows from which the adaptive width is tried."""
CROSS_CELLS = 1024
"""Residuals that a graph holds for `cross`: each costs time in every answer."""
ALL_CLASSES = 1e6
"""A limit above every score."""
CHOICE_FOLDS = 5
NOISE = 1.96
"""Standard errors of the paired difference by which the adaptive width must be better: its trees
cost time in every answer."""

Floats = npt.NDArray[np.float64]


class WidthScore(msgspec.Struct, frozen=True, kw_only=True):
    """How a method's intervals did on held-out rows that they were not fitted on."""

    method: str
    score: float
    """Mean interval score (Gneiting and Raftery 2007), in the target's unit: the width, and what
    lies outside by how far; less is better."""
    width: float
    """Mean width, in the target's unit."""
    worse_by: float
    """Mean score above the best method's."""
    worse_by_error: float
    """Standard error of that paired difference, over rows."""


@dataclass(frozen=True, kw_only=True)
class HeldRows:
    """What intervals are fitted on, beside predictions and targets."""

    cells: npt.NDArray[np.float32] | None
    """(n, D + K): what the trees of the spread read; None where no trees are wanted."""
    layout: FeatureLayout
    groups: int
    """Groups that the rows come from, one after the other and equally many of each."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class FittedInterval:
    """An interval, and how its method was chosen."""

    shape: IntervalShape
    spread: FittedSpread | None = None
    scores: tuple[WidthScore, ...] = ()
    """Every method that was tried; none where there was no choice."""


def fit_interval(
    prediction: Floats, target: Floats, held: HeldRows | None, spec: CalibrationSpec
) -> FittedInterval:
    """Fit the interval on held-out rows (n,); without `held` it is constant.

    Raises `SpecError` where the spec's method does not fit the folds.
    """
    residuals = np.abs(target - prediction)
    constant = FittedInterval(
        shape=IntervalShape(half_width=conformal_half_width(residuals, spec.coverage))
    )
    if held is None or spec.interval == "constant":
        return constant
    if spec.interval == "cross":
        return _crossed(residuals, held, constant.shape.half_width, spec.coverage)
    cells = held.cells
    if cells is None or (spec.interval == "auto" and len(residuals) < ADAPTIVE_ROWS):
        return constant
    # Held-out rows come in the order of their target.
    order = np.random.default_rng(held.seed).permutation(len(residuals))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    if len(first) < 2:
        return constant
    spread = fit_spread(cells[first], residuals[first], held.layout, seed=held.seed)
    spreads = np.exp(spread.of_cells(cells[second]))
    adaptive = FittedInterval(
        shape=IntervalShape(
            half_width=conformal_half_width(residuals[second] / spreads, spec.coverage),
            adaptive=True,
        ),
        spread=spread,
    )
    if spec.interval == "adaptive":
        return adaptive
    scores = score_widths(residuals[second], spreads, spec.coverage)
    chosen = next(score for score in scores if score.worse_by <= NOISE * score.worse_by_error)
    taken = adaptive if chosen.method == "adaptive" else constant
    return FittedInterval(shape=taken.shape, spread=taken.spread, scores=scores)


def score_widths(residuals: Floats, spreads: Floats, coverage: float) -> tuple[WidthScore, ...]:
    """Return the cross-validated interval scores of constant and adaptive width, in this order.

    `residuals` and `spreads` are (n,), of rows that the spread was not fitted on.
    """
    folds = np.arange(len(residuals)) % CHOICE_FOLDS
    found: dict[str, tuple[Floats, Floats]] = {}
    for method, unit in (("constant", np.ones_like(spreads)), ("adaptive", spreads)):
        half = np.empty(len(residuals))
        for fold in range(CHOICE_FOLDS):
            out = folds == fold
            others = (residuals / unit)[~out]
            half[out] = conformal_half_width(others, coverage) * unit[out]
        outside = np.maximum(residuals - half, 0.0)
        found[method] = (2 * half + 2 / (1 - coverage) * outside, 2 * half)
    best = min((score for score, _ in found.values()), key=lambda score: float(score.mean()))
    return tuple(
        WidthScore(
            method=method,
            score=float(score.mean()),
            width=float(width.mean()),
            worse_by=float((score - best).mean()),
            worse_by_error=float((score - best).std() / math.sqrt(len(score))),
        )
        for method, (score, width) in found.items()
    )


def fit_sets(
    probabilities: Floats, target: npt.NDArray[np.int64], method: SetMethod, coverage: float
) -> PredictionSets:
    """Return sets that hold a new row's class with probability `coverage` or more.

    Split conformal prediction on calibrated probabilities (n, C) of held-out rows and their classes
    (n,). With too few rows for the promise every class is in every set.
    """
    scores = set_scores(probabilities, method)[np.arange(len(target)), target]
    rank = math.ceil((len(scores) + 1) * coverage)
    if rank > len(scores):
        return PredictionSets(method=method, limit=ALL_CLASSES)
    return PredictionSets(method=method, limit=float(np.sort(scores)[rank - 1]))


def conformal_half_width(residuals: Floats, coverage: float) -> float:
    """Return the half width that covers a new row with probability `coverage` or more.

    Split conformal prediction (Lei et al. 2018): the ceil((n + 1) * coverage)-th smallest absolute
    residual of n held-out rows that are exchangeable with the new one. Where n is too small for
    the promise the largest residual is returned, which promises n / (n + 1).
    """
    rank = math.ceil((len(residuals) + 1) * coverage)
    return float(np.sort(residuals)[min(rank, len(residuals)) - 1])


def _crossed(
    residuals: Floats, held: HeldRows, half_width: float, coverage: float
) -> FittedInterval:
    if held.groups < 2:
        raise SpecError(
            "calibration.interval 'cross' needs cross-fitted groups",
            expected="training.folds of 2 or more and no split by time, or another interval",
            got="one group",
        )
    crossed = crossed_of(residuals.reshape(held.groups, -1), coverage, CROSS_CELLS)
    return FittedInterval(shape=IntervalShape(half_width=half_width, crossed=crossed))
