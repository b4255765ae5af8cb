"""How a time limit is shared out. Pure: times in, times out."""

from __future__ import annotations

import math

from steadynet.features.run import Tensors
from steadynet.spec.model import TrainingSpec
from steadynet.training.presets import PRESETS

TAIL_S = 1.5
"""What calibrating, welding, judging and writing take on a small table."""
TAIL_PER_CELL_S = 8e-7
"""And more for each row and column: references, importance, intervals."""
MOST_TAIL_SHARE = 0.5
"""Of the limit; below, a limit is too short to be kept by anything but a few steps."""


def time_limit(training: TrainingSpec) -> float:
    """Return the limit of a training in seconds, infinite where there is none."""
    limit = training.time_limit_s
    if limit is None:
        limit = PRESETS[training.preset].time_limit_s
    return math.inf if limit is None else limit


def fit_deadline(training: TrainingSpec, started: float, now: float, tensors: Tensors) -> float:
    """Return when the fit must be done, so that the whole training keeps the limit.

    `started` and `now` are of one clock, and so is the answer, infinite without a limit.
    """
    limit = time_limit(training)
    if math.isinf(limit):
        return limit
    cells = int(tensors.numbers.size) + int(tensors.categories.size)
    tail = min(TAIL_S + TAIL_PER_CELL_S * cells, MOST_TAIL_SHARE * limit)
    return max(now, started + limit - tail)
