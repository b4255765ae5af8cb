"""The size of numbers on a logarithmic scale, by which a change of unit is told."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from steadynet.statistics.moments import Moments

STEPS = 64
"""Steps that a decade is counted in. Whole numbers add up the same in any order."""
MOST_VALUES = 4096
"""Values that are looked at of each array: enough for a mean, and few enough to cost nothing."""


def magnitude_of(values: npt.NDArray[np.floating]) -> Moments:
    """Return the moments of log10 |v| in `STEPS`, over the first finite values that are not 0.

    Where all values are multiplied by one factor the mean moves by its logarithm and the
    deviation stays: no other change of a column looks so.
    """
    sizes = np.abs(values[:MOST_VALUES].astype(np.float64))
    logs = np.round(STEPS * np.log10(sizes[(sizes > 0) & np.isfinite(sizes)]))
    return Moments(len(logs), float(logs.sum()), float((logs * logs).sum()))
