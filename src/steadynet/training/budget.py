"""How a time limit is shared out. Pure: times in, times out."""

from __future__ import annotations

import math

from steadynet.features.run import Tensors
from steadynet.spec.model import TrainingSpec
from steadynet.training.presets import PRESETS, components_of
from steadynet.training.samples import JUDGED_ROWS, REFERENCE_ROWS

TAIL_S = 0.5
"""What calibrating, welding, judging, drawing and writing take on a small table."""
TAIL_PER_COMPONENT_S = 1.5
"""And more for each component: each is written as a graph, which is held against it."""
TAIL_PER_CELL_S = 3e-6
"""And more for each row and column: references, importance, intervals."""
MOST_PACE = 10.0
"""Reading a table that lies on a slow disk waits, too; what follows does not."""
MOST_TAIL_SHARE = 0.8
"""Of the limit; below, a limit is too short to be kept by anything but a few steps."""


def time_limit(training: TrainingSpec) -> float:
    """Return the limit of a training in seconds, infinite where there is none."""
    limit = training.time_limit_s
    if limit is None:
        limit = PRESETS[training.preset].time_limit_s
    return math.inf if limit is None else limit


def fit_deadline(
    training: TrainingSpec, started: float, now: float, tensors: Tensors, pace: float = 1.0
) -> float:
    """Return when the fit must be done, so that the whole training keeps the limit.

    `started` and `now` are of one clock, and so is the answer, infinite without a limit. `pace` is
    how many seconds a second of work has taken so far: more than 1 on a machine that is busy.
    """
    limit = time_limit(training)
    if math.isinf(limit):
        return limit
    columns = int(tensors.numbers.shape[1] + tensors.categories.shape[1])
    cells = min(len(tensors.numbers), REFERENCE_ROWS + 2 * JUDGED_ROWS) * columns
    components = len(components_of(training))
    slower = min(max(pace, 1.0), MOST_PACE)
    tail = min(
        (TAIL_S + TAIL_PER_COMPONENT_S * components + TAIL_PER_CELL_S * cells) * slower,
        MOST_TAIL_SHARE * limit,
    )
    return max(now, started + limit - tail)
