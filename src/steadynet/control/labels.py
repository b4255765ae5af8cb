"""Losses of champion and challenger on the same labelled rows, as the labels come. Pure.

A row that both answered (the shadow) is paired by its id. A row that one of them answered counts
for that one alone, from the first canary stage on, so that both arms saw the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from steadynet.control.store import LabelledRow
from steadynet.monitoring.quality import LabelledRows
from steadynet.rollout.evidence import LabelledLoss
from steadynet.runtime.metrics import per_row_loss
from steadynet.statistics.moments import Moments, add
from steadynet.table.schema import Target

MOST_WAITING = 100_000
"""Rows that wait for the other version's answer before the oldest are given up."""


def row_losses(target: Target, rows: Sequence[LabelledRow]) -> list[float | None]:
    """Return each row's log-loss or absolute error; None where label or answer do not fit."""
    usable = [position for position, row in enumerate(rows) if _truth(target, row) is not None]
    losses: list[float | None] = [None] * len(rows)
    if not usable:
        return losses
    truth = [_truth(target, rows[position]) for position in usable]
    if target.task == "regression":
        answers = np.array([rows[position].row.prediction for position in usable], dtype=np.float64)
        values = per_row_loss(np.array(truth, dtype=np.float64), answers)
    else:
        answers = np.array([rows[position].row.probabilities for position in usable])
        values = per_row_loss(np.array(truth, dtype=np.int64), answers)
    for position, value in zip(usable, values.tolist(), strict=True):
        losses[position] = value
    return losses


def _truth(target: Target, item: LabelledRow) -> float | None:
    """Return the row's truth, where the row has an answer to hold against it."""
    answered = (
        item.row.prediction is not None
        if target.task == "regression"
        else len(item.row.probabilities) == len(target.classes)
    )
    return truth_of(target, item.label) if answered else None


def truth_of(target: Target, label: str | float) -> float | None:
    """Return a label as class index or number; None where it is neither of the target's.

    A class may come as a number: 1.0 from JSON means the class "1".
    """
    if target.task != "regression":
        spellings = [str(label)]
        if isinstance(label, float) and label.is_integer():
            spellings.append(str(int(label)))
        return next((float(n) for n, name in enumerate(target.classes) if name in spellings), None)
    try:
        value = float(label)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def moments_of(values: Iterable[float]) -> Moments:
    """Return the moments of some values."""
    kept = list(values)
    return Moments(len(kept), sum(kept), sum(value * value for value in kept))


def labelled_rows(target: Target, rows: Iterable[LabelledRow]) -> LabelledRows:
    """Return answers and truths as arrays; rows whose label or answer do not fit are left out."""
    truths: list[float] = []
    answers: list[float | tuple[float, ...]] = []
    at: list[float] = []
    for item in sorted(rows, key=lambda item: item.row.at):
        truth = truth_of(target, item.label)
        answer = item.row.prediction if target.task == "regression" else item.row.probabilities
        if truth is None or answer is None:
            continue
        if isinstance(answer, tuple) and len(answer) != len(target.classes):
            continue
        truths.append(truth)
        answers.append(answer)
        at.append(item.row.at)
    shape = (len(at),) if target.task == "regression" else (len(at), len(target.classes))
    floats = np.array(truths, np.float64)
    return LabelledRows(
        target=floats if target.task == "regression" else floats.astype(np.int64),
        answers=np.array(answers, np.float64).reshape(shape),
        at=np.array(at, np.float64),
        classes=target.classes,
    )


class LabelTally:
    """The losses of one rollout's two versions."""

    def __init__(
        self, target: Target, champion: str, challenger: str, *, holdout: Moments, after: int
    ) -> None:
        self.after = after
        """Number of the last labelled row that was added."""
        self._target = target
        self._champion = champion
        self._challenger = challenger
        self._sums = LabelledLoss(holdout=holdout)
        self._waiting: dict[str, tuple[bool, float]] = {}

    @property
    def losses(self) -> LabelledLoss:
        """The sums so far."""
        return self._sums

    def add(self, rows: Sequence[LabelledRow], *, canary_since: float | None) -> None:
        """Add labelled rows; those answered since `canary_since` count for their arm alone."""
        for item, loss in zip(rows, row_losses(self._target, rows), strict=True):
            self.after = max(self.after, item.number)
            if loss is None:
                continue
            if item.row.role == "shadow":
                if item.row.version == self._challenger:
                    self._pair(item.row.id, True, loss)
            elif item.row.role == "challenger":
                if item.row.version == self._challenger:
                    self._grow("challenger", moments_of([loss]))
            elif item.row.version == self._champion:
                if canary_since is not None and item.row.at >= canary_since:
                    self._grow("champion", moments_of([loss]))
                else:
                    self._pair(item.row.id, False, loss)

    def _pair(self, row_id: str, is_challenger: bool, loss: float) -> None:
        other = self._waiting.pop(row_id, None)
        if other is None:
            self._waiting[row_id] = (is_challenger, loss)
            if len(self._waiting) > MOST_WAITING:
                del self._waiting[next(iter(self._waiting))]
        elif other[0] != is_challenger:
            difference = loss - other[1] if is_challenger else other[1] - loss
            self._grow("paired", moments_of([difference]))

    def _grow(self, name: str, by: Moments) -> None:
        sums = {
            "paired": self._sums.paired,
            "challenger": self._sums.challenger,
            "champion": self._sums.champion,
            "holdout": self._sums.holdout,
        }
        sums[name] = add(sums[name], by)
        self._sums = LabelledLoss(**sums)
