"""Expanding windows: folds for a table that is split by time.

Each window is fitted on the rows before its own block and answers that block. The last one is the
split's own cut, whose block is the validation part; earlier ones take their blocks off the end of
the training part. The rows before the first block have no answer out of fold, and weigh, calibrate
and bound nothing. What earlier windows fit is thrown away once it has answered: a network that
knows the old rows alone has no place in what is served, which is the last window's, or fitted once
more on everything (`training.refit`).

Laws: every row that a window fits is strictly older than every row of its block, so rows of one
moment are never divided; no row is in two blocks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from steadynet.spec.model import TrainingSpec
from steadynet.table.split import Split
from steadynet.training.components import FittedNetwork, Ground
from steadynet.training.data import ROWS_PER_FOLD, Floats, Folds, Indices
from steadynet.training.prepare import Table
from steadynet.training.progress import StepStarted
from steadynet.training.samples import JUDGED_ROWS, thinned
from steadynet.training.side_by_side import Made, Work, fit_all


def windows_of(table: Table, training: TrainingSpec) -> tuple[Folds, ...]:
    """Return the windows before the split's own, the newest first; none where none are asked for.

    Fewer than `training.folds` where there are too few moments or rows for as many.
    """
    if table.moments is None or training.folds is None:
        return ()
    return earlier_windows(table.split, table.moments, training.folds - 1)


def earlier_windows(split: Split, moments: Floats, count: int) -> tuple[Folds, ...]:
    """Return up to `count` windows (one group each) inside the training part, the newest first.

    `moments` (N,) are the rows' times. A block is as large as the validation part, or as an even
    share of the training part where that is less; cuts are moved to where a moment begins.
    """
    rows = split.train[np.argsort(moments[split.train], kind="stable")]
    times = moments[rows]
    starts = np.flatnonzero(times[1:] != times[:-1]) + 1
    block = min(len(split.validation), len(rows) // (count + 1))
    found: list[Folds] = []
    end = len(rows)
    for _ in range(count):
        starts = starts[(starts >= ROWS_PER_FOLD) & (starts <= end - ROWS_PER_FOLD)]
        if len(starts) == 0:
            break
        cut = _nearest(starts, end - block)
        held = thinned(rows[cut:end], JUDGED_ROWS)
        found.append(Folds(rows[:cut][None], held[None]))
        end = cut
    return tuple(found)


def _nearest(starts: Indices, wanted: int) -> int:
    return int(starts[np.argmin(np.abs(starts - wanted))])


def answer_windows(
    made: Sequence[Made], work: Work, windows: Sequence[Folds], seconds: float, kept_s: float
) -> tuple[list[Made], Ground]:
    """Fit `windows`, the newest first; return what was made, with every block's held answers.

    The components stay those of the last window, which took `seconds`. The ground's held rows are
    then those of all blocks, the oldest first. A window for which there is no time before `kept_s`
    seconds to the deadline, and every one before it, is left out; so is one that the user stops.
    """
    context, ground = work.context, work.ground
    answered = [list(made)]
    for number, window in enumerate(windows, start=1):
        share = window.fit.shape[1] / ground.folds.fit.shape[1]
        deadline = context.deadline - kept_s
        if context.stop() or time.perf_counter() + seconds * share > deadline:
            break
        step = f"fitting on the rows before an earlier block, {number} of {len(windows)}"
        context.progress.on(StepStarted(step=step))
        own = replace(context, checkpoints=None, deadline=deadline)
        found = fit_all(replace(work, ground=replace(ground, folds=window), context=own))
        if context.stop() or not _whole(found, made):
            break
        answered.append(found)
    used = tuple(reversed(windows[: len(answered) - 1]))
    joined = [
        Made(one.component, np.concatenate([each[place].held for each in reversed(answered)]))
        for place, one in enumerate(made)
    ]
    return joined, replace(ground, earlier=used)


def _whole(found: Sequence[Made], wanted: Sequence[Made]) -> bool:
    """Return whether a window has every component, none of them cut short by the clock."""
    return [one.component.name for one in found] == [
        one.component.name for one in wanted
    ] and not any(
        isinstance(one.component, FittedNetwork) and one.component.result.ending == "time"
        for one in found
    )


def windows_words(ground: Ground) -> str:
    """Say what the blend's weights and the calibration rest on, for the manifest's notes."""
    return (
        f"weights and calibration are of {len(ground.held_rows)} rows in {len(ground.earlier) + 1} "
        "blocks of time, each answered by a fit on the rows before it"
    )
