"""How often intervals and sets of classes hold the truth, with 95 % intervals. NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from steadynet.bundle.manifest import Covered, Interval

_Z = 1.959964

Numbers = npt.NDArray[np.floating | np.integer]


def coverage_of(
    target: Numbers, answers: Mapping[str, npt.NDArray[Any]], *, method: str, promised: float
) -> Covered | None:
    """Return how often a graph's answers hold the target (N,).

    Looks at `lower` and `upper`, or at `prediction_set`; None where it answers neither.
    """
    if "prediction_set" in answers:
        return set_coverage(target, answers["prediction_set"], method=method, promised=promised)
    if "lower" not in answers:
        return None
    lower, upper = answers["lower"], answers["upper"]
    inside = (lower <= target) & (target <= upper)
    width = upper.astype(np.float64) - lower
    return Covered(
        method=method,
        promised=promised,
        measured=share_interval(int(inside.sum()), len(inside)),
        size=mean_interval(width),
    )


def set_coverage(
    target: Numbers, sets: npt.NDArray[np.bool_], *, method: str, promised: float
) -> Covered:
    """Return how often sets (N, C) hold the class that `target` (N,) indexes."""
    inside = sets[np.arange(len(target)), target.astype(np.int64)]
    return Covered(
        method=method,
        promised=promised,
        measured=share_interval(int(inside.sum()), len(inside)),
        size=mean_interval(sets.sum(axis=1).astype(np.float64)),
    )


def share_interval(hits: int, rows: int) -> Interval:
    """Return a share with its score interval (Wilson 1927)."""
    share, spread = hits / rows, _Z**2 / rows
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / rows + spread / (4 * rows)) / (1 + spread)
    return Interval(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half))


def mean_interval(values: npt.NDArray[np.float64]) -> Interval:
    """Return a mean with its interval by the normal approximation."""
    mean = float(values.mean())
    half = _Z * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Interval(value=mean, low=mean - half, high=mean + half)
