"""What a number goes through before it is fitted, and how that is chosen on held-out rows.

A transform makes a skewed target easier to fit. What is then estimated is an average on the fitted
scale, which after the way back is nearer to the median than to the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats

from steadynet.errors import SpecError
from steadynet.export.inverse import IDENTITY, Inverse
from steadynet.spec.losses import TransformName

Floats = npt.NDArray[np.float64]

MOST_BEYOND = math.log(10.0)
"""Logarithm of how far beyond the largest target seen a prediction goes at most."""
MOST_KNOTS = 200
NEAREST = 1e-12
"""Share of all numbers' span within which two of them are one."""
LEAST_STEP = 1e-300
NOISE = 1.0
"""Standard errors of the paired difference by which a transform must beat a simpler one."""
TRANSFORMS: tuple[TransformName, ...] = ("none", "log", "quantile")
"""The simplest first."""


class TransformScore(msgspec.Struct, frozen=True, kw_only=True):
    """How a network did whose target went through a transform."""

    transform: TransformName
    loss: float
    """Held-out loss of its predictions, in units of the plain target."""
    worse_by: float
    """Mean loss above the best one's."""
    worse_by_error: float
    """Standard error of that paired difference."""


def inverse_of(name: TransformName, target: Floats, fitted: Floats) -> Inverse:
    """Return the way back from a transform.

    `target` (N,) are all rows' numbers, `fitted` those that units are taken from. Raises
    `SpecError` where the numbers have no logarithm.
    """
    if name == "none":
        return IDENTITY
    if name == "quantile":
        return _normal_scores(fitted)
    below = int((target < 0).sum())
    if below:
        raise SpecError(
            "training.target_transform is 'log', but the target has values below 0",
            expected="no value below 0",
            got=f"{below} of {len(target)} rows below 0",
            do='Take "quantile" or "none".',
        )
    return Inverse(kind="expm1", high=float(np.log1p(fitted.max())) + MOST_BEYOND)


def fitting_transforms(target: Floats) -> tuple[TransformName, ...]:
    """Return the transforms that numbers (N,) can go through, the simplest first."""
    return tuple(name for name in TRANSFORMS if name != "log" or not (target < 0).any())


def choose_transform(
    names: tuple[TransformName, ...], losses_of: Callable[[TransformName], Floats]
) -> tuple[TransformName, tuple[TransformScore, ...]]:
    """Return the simplest transform that is not worse than the best one beyond the noise.

    `losses_of` gives each held-out row's loss (n,) in units of the plain target.
    """
    losses = {name: losses_of(name) for name in names}
    best = min(losses.values(), key=lambda loss: float(loss.mean()))
    scores = tuple(
        TransformScore(
            transform=name,
            loss=float(loss.mean()),
            worse_by=float((loss - best).mean()),
            worse_by_error=float((loss - best).std() / math.sqrt(len(loss))),
        )
        for name, loss in losses.items()
    )
    chosen = next(score for score in scores if score.worse_by <= NOISE * score.worse_by_error)
    return chosen.transform, scores


def _normal_scores(fitted: Floats) -> Inverse:
    """Return the line from normal scores to the quantiles of numbers (n,)."""
    rows = len(fitted)
    levels = (np.arange(1, min(rows, MOST_KNOTS) + 1) - 0.5) / min(rows, MOST_KNOTS)
    levels = np.r_[0.5 / rows, levels, 1 - 0.5 / rows] if rows > MOST_KNOTS else levels
    found = np.quantile(fitted, np.r_[0.0, levels[1:-1], 1.0])
    values, place = np.unique(found, return_inverse=True)
    # A line between numbers next to each other would be too steep for a float.
    apart = np.diff(values) > max(float(np.ptp(values)) * NEAREST, LEAST_STEP)
    values, place = values[np.r_[True, apart]], np.r_[0, np.cumsum(apart)][place]
    if len(values) < 2:
        return IDENTITY
    # Equal numbers share the middle of their levels.
    middle = np.bincount(place, weights=levels) / np.bincount(place)
    at = stats.norm.ppf(middle)
    return Inverse(kind="knots", at=tuple(at.tolist()), value=tuple(values.tolist()))
