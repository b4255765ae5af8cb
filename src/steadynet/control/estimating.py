"""Estimating quality without labels as windows come, and holding the estimates against labels.

What was estimated and which labels were held against it are stored in the transaction that stores
what the drift verdict used up, so a restarted controller counts nothing twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from steadynet.control.champion import Champion
from steadynet.control.facts import ESTIMATES, LABEL_FLOW, EstimateNotes
from steadynet.control.labels import row_losses
from steadynet.control.replay import EstimateInputs, judge_inputs, without_features
from steadynet.control.store import LabelledRow, Transaction
from steadynet.control.turn import Turn
from steadynet.monitoring.estimate_verdict import EstimateReport, estimate_condition
from steadynet.monitoring.label_flow import LabelFlow, joined
from steadynet.monitoring.reconcile import with_estimate, with_labels
from steadynet.monitoring.reports import Condition, DriftReport
from steadynet.monitoring.windows import Window

MOST_LABELS = 5000
"""Labelled rows per look."""


class Estimating:
    """The estimates of one model's champion."""

    def __init__(self) -> None:
        self._notes: EstimateNotes | None = None
        self._stored: EstimateNotes | None = None
        self._delays: list[float] = []

    def begin(self, turn: Turn, champion: Champion) -> None:
        """Read what is known of this champion; a new one starts without any past."""
        if self._notes is None:
            with turn.store.read() as tx:
                self._notes = self._stored = tx.decisions.fact(turn.model, ESTIMATES, EstimateNotes)
        if self._notes is None or self._notes.version != champion.version:
            before = self._notes
            with turn.store.read() as tx:
                last = (
                    tx.observations.last_join(turn.model) if before is None else before.reconciled
                )
            self._notes = EstimateNotes(version=champion.version, reconciled=last)

    def take(
        self, turn: Turn, champion: Champion, window: Window, drift: DriftReport
    ) -> EstimateInputs:
        """Judge the quality of a window that was judged for drift; return what it was made of."""
        notes = self._notes
        assert notes is not None
        inputs = EstimateInputs(
            champion=champion.endpoint,
            task=champion.target.task,
            window=without_features(window),
            drifts=tuple(item for item in drift.features if item.kinds),
            plan=turn.spec.monitoring,
            state=None if notes.report is None else notes.report.state,
            past=tuple(item for item in notes.past if item.error is not None),
        )
        report = judge_inputs(champion.profile, inputs)
        self._notes = msgspec.structs.replace(
            notes,
            report=report,
            past=with_estimate(notes.past, report.estimate),
            output=_sum(notes.output, window.output),
        )
        return inputs

    def reconcile(self, turn: Turn, champion: Champion) -> None:
        """Hold the estimates against labels that came since the last look."""
        notes = self._notes
        assert notes is not None
        with turn.store.read() as tx:
            if tx.observations.last_join(turn.model) <= notes.reconciled:
                return
            rows = tx.observations.labelled_after(
                turn.model, after=notes.reconciled, limit=MOST_LABELS
            )
        if not rows:
            return
        self._delays += [
            max(0.0, item.labelled_at - item.row.at) for item in rows if item.row.role != "shadow"
        ]
        mine = [
            item
            for item in rows
            if item.row.version == champion.version and item.row.role == "champion"
        ]
        losses = [
            (item.row.at, loss)
            for item, loss in zip(mine, row_losses(champion.target, mine), strict=True)
            if loss is not None
        ]
        self._notes = msgspec.structs.replace(
            notes,
            reconciled=rows[-1].number,
            past=with_labels(notes.past, losses),
            labelled_output=_sum(notes.labelled_output, score_counts(champion, mine)),
        )

    def store(self, turn: Turn, tx: Transaction) -> None:
        """Write down what changed."""
        if self._notes is not None and self._notes is not self._stored:
            tx.decisions.remember(turn.model, ESTIMATES, self._notes)
            self._stored = self._notes
        if self._delays:
            flow = tx.decisions.fact(turn.model, LABEL_FLOW, LabelFlow) or LabelFlow()
            tx.decisions.remember(turn.model, LABEL_FLOW, joined(flow, self._delays))
            self._delays = []

    @property
    def report(self) -> EstimateReport | None:
        """Return the newest verdict."""
        return None if self._notes is None else self._notes.report

    def conditions(self) -> list[Condition]:
        """Return what should, or should no longer, be an alert."""
        found = estimate_condition(self.report)
        return [] if found is None else [found]


def score_counts(champion: Champion, rows: Sequence[LabelledRow]) -> tuple[int, ...]:
    """Return labelled rows per bin of the champion's output histogram."""
    edges, task = champion.profile.output.edges, champion.target.task
    counts = [0] * (len(edges) + 1)
    for item in rows:
        score = item.row.prediction
        if task != "regression" and item.row.probabilities:
            told = item.row.probabilities
            score = told[-1] if task == "binary" else max(told)
        if score is not None:
            counts[bisect_right(edges, score)] += 1
    return tuple(counts)


def _sum(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    if not a or not b:
        return a or b
    return tuple(x + y for x, y in zip(a, b, strict=True))
