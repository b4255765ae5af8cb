"""What labels say of champion and challenger in one rollout, as the labels come. Pure.

A row that both answered (the shadow) is paired by its id. A row that one of them answered counts
for that one alone, in the canary stage in which it was answered, so that both arms of a stage saw
the same time however late the label comes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from steadynet.control.labels import row_biases, row_losses
from steadynet.control.slices import Slicer
from steadynet.control.store import LabelledRow
from steadynet.monitoring.windows import Role
from steadynet.rollout.evidence import LabelledLoss, TwoArms
from steadynet.statistics.moments import Moments, add
from steadynet.table.schema import Target

MOST_WAITING = 100_000
"""Rows that wait for the other version's answer before the oldest are given up."""

ArmName = Literal["challenger", "champion"]


@dataclass
class _Sums:
    """Losses on all rows, or on those of one slice."""

    paired: Moments = field(default_factory=Moments)
    stages: list[TwoArms] = field(default_factory=list)

    def losses(self, holdout: Moments) -> LabelledLoss:
        return LabelledLoss(paired=self.paired, stages=tuple(self.stages), holdout=holdout)


class LabelTally:
    """The sums over one rollout's labelled rows."""

    def __init__(
        self,
        target: Target,
        champion: str,
        challenger: str,
        *,
        holdout: Moments,
        after: int,
        slicer: Slicer | None = None,
    ) -> None:
        self.after = after
        """Number of the last labelled row that was added."""
        self._target = target
        self._versions: dict[str, ArmName] = {champion: "champion", challenger: "challenger"}
        self._holdout = holdout
        self._slicer = slicer or Slicer(())
        self._whole = _Sums()
        self._slices: dict[str, _Sums] = {}
        self._bias: list[TwoArms] = []
        self._value: list[TwoArms] = []
        self._waiting: dict[str, tuple[ArmName, float]] = {}
        self._counted: dict[tuple[str, Role], None] = {}
        """The newest rows: one whose label was put right comes again, and counts once."""

    @property
    def losses(self) -> LabelledLoss:
        """The losses so far."""
        return self._whole.losses(self._holdout)

    @property
    def slices(self) -> dict[str, LabelledLoss]:
        """The losses of each slice that has any."""
        return {name: sums.losses(Moments()) for name, sums in sorted(self._slices.items())}

    @property
    def value(self) -> tuple[TwoArms, ...]:
        """The callers' own number, per canary stage."""
        return tuple(self._value)

    def bias(self, stages: int) -> TwoArms:
        """Return score minus what happened in the shadow (0) or in the canary stage before
        `stages`."""
        return self._bias[stages] if stages < len(self._bias) else TwoArms()

    def add(self, rows: Sequence[LabelledRow], *, canary_starts: Sequence[float]) -> None:
        """Add labelled rows; `canary_starts` says when each canary stage began, seconds UTC."""
        losses, biases = row_losses(self._target, rows), row_biases(self._target, rows)
        for item, loss, bias in zip(rows, losses, biases, strict=True):
            self.after = max(self.after, item.number)
            arm = self._versions.get(item.row.version)
            # Whoever asks for a version by its number is no sample of all callers.
            if loss is None or bias is None or arm is None or item.row.role == "pinned":
                continue
            if (item.row.role == "champion") != (arm == "champion"):
                continue
            key = item.row.id, item.row.role
            if key in self._counted:
                continue
            self._counted[key] = None
            if len(self._counted) > MOST_WAITING:
                del self._counted[next(iter(self._counted))]
            stage = 0 if item.row.role == "shadow" else bisect_right(canary_starts, item.row.at)
            _grow(self._bias, stage, arm, bias)
            names = self._slicer.slices_of(item.row.row)
            sums = [self._whole, *(self._slices.setdefault(name, _Sums()) for name in names)]
            if stage == 0:
                self._pair(item.row.id, arm, loss, sums)
                continue
            for one in sums:
                _grow(one.stages, stage - 1, arm, loss)
            if item.value is not None:
                _grow(self._value, stage - 1, arm, item.value)

    def _pair(self, row_id: str, arm: ArmName, loss: float, sums: Sequence[_Sums]) -> None:
        other = self._waiting.pop(row_id, None)
        if other is None:
            self._waiting[row_id] = (arm, loss)
            if len(self._waiting) > MOST_WAITING:
                del self._waiting[next(iter(self._waiting))]
        elif other[0] != arm:
            difference = loss - other[1] if arm == "challenger" else other[1] - loss
            for one in sums:
                one.paired = add(one.paired, _one(difference))


def _grow(stages: list[TwoArms], stage: int, arm: ArmName, value: float) -> None:
    """Add a value to an arm of a stage; stages before it without rows are empty."""
    stages.extend(TwoArms() for _ in range(stage + 1 - len(stages)))
    before = stages[stage]
    if arm == "challenger":
        stages[stage] = TwoArms(
            challenger=add(before.challenger, _one(value)), champion=before.champion
        )
    else:
        stages[stage] = TwoArms(
            challenger=before.challenger, champion=add(before.champion, _one(value))
        )


def _one(value: float) -> Moments:
    return Moments(1, value, value * value)
