"""Watching the champion: drift, quality, SLOs, and the alerts made of them.

What a verdict used up and its state are stored together, so that a restarted controller neither
looks at the same rows twice nor forgets how long a drift has lasted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from steadynet.control.alerting import decide
from steadynet.control.champion import Champion
from steadynet.control.estimating import Estimating
from steadynet.control.facts import QUALITY_DETAIL, WATCH, WatchNotes
from steadynet.control.labels import labelled_rows
from steadynet.control.objectives import Objectives
from steadynet.control.quality_detail import QualityDetail, quality_detail
from steadynet.control.replay import (
    DriftInputs,
    EstimateInputs,
    QualityInputs,
    quality_inputs,
)
from steadynet.control.season import Season
from steadynet.control.store import LabelledRow, Transaction
from steadynet.control.tally import Tally
from steadynet.control.turn import Turn
from steadynet.monitoring.drift import assess_drift
from steadynet.monitoring.estimate_verdict import EstimateReport
from steadynet.monitoring.quality import LONGEST_WINDOW, assess_quality
from steadynet.monitoring.reports import Condition, DriftReport, QualityReport
from steadynet.monitoring.silences import Silence
from steadynet.monitoring.windows import Window

InputsOf = Callable[[], DriftInputs | QualityInputs | EstimateInputs]
"""Makes what a verdict is recomputed from, where it is written down."""

DETAIL_EVERY_S = 30.0
"""The detail of quality draws samples, which costs more than a verdict."""
DETAIL_SOONEST_S = 10.0
"""The same where a window is complete."""
LOOK_EVERY_S = 1.0
"""Verdicts change with thousands of rows; looking at them more often only costs."""


SET_BACK_S = 60.0
"""From how far ahead of now the present window's start means that the clock was set back."""


class Watch:
    """What is being watched of one model's champion."""

    def __init__(self) -> None:
        self._notes: WatchNotes | None = None
        self._traffic = Tally("", 0.0)
        self._season: Season | None = None
        self._objectives = Objectives()
        self._joined = -1
        self._looked = float("-inf")
        self._inputs: dict[str, InputsOf] = {}
        self._told: dict[str, tuple[str, str]] = {}
        """`drift`, `quality`, `estimate` → kind and version of the journal's newest entry on it."""
        self._labelled: list[LabelledRow] = []
        self._labelled_since = -1
        """The labelled rows of the quality window that is not complete, and where it began."""
        self._estimating = Estimating()
        self._detail: QualityDetail | None = None

    def look(
        self,
        turn: Turn,
        champion: Champion,
        windows: tuple[Window, ...],
        conditions: Iterable[Condition],
        silences: Sequence[Silence],
    ) -> WatchNotes:
        """Take in new windows, judge what can be judged, and open or resolve alerts.

        `conditions` come from elsewhere (the healing) and are decided with the others; `silences`
        are those that hold.
        """
        notes = self._begin(turn, champion)
        self._estimating.begin(turn, champion)
        self._traffic.add(windows)
        self._add_to_season(turn, champion, windows)
        self._objectives.add(turn, champion.manifest.slo, windows)
        if 0 <= turn.now - self._looked < LOOK_EVERY_S:
            self._notes = notes
            return notes
        self._looked = turn.now
        after = self._judge_quality(turn, champion, self._judge_drift(turn, champion, notes))
        self._estimating.reconcile(turn, champion)
        after = self._objectives.judge(turn, champion, after)
        with turn.write() as tx:
            reports = {
                "drift": after.drift,
                "quality": after.quality,
                "estimate": self._estimating.report,
            }
            told = _journal_changes(turn, tx, champion, reports, self._inputs, self._told)
            tx.decisions.remember(turn.model, WATCH, after)
            self._estimating.store(turn, tx)
            if self._detail is not None and self._detail.at == turn.now:
                tx.decisions.remember(turn.model, QUALITY_DETAIL, self._detail)
            found = (*conditions, *self._estimating.conditions())
            decide(turn, tx, after, found, silences)
        self._notes, self._told = after, told
        return after

    def _begin(self, turn: Turn, champion: Champion) -> WatchNotes:
        """Return what is known of this champion; a new one starts without any past."""
        notes = self._notes
        if notes is None:
            with turn.store.read() as tx:
                notes = tx.decisions.fact(turn.model, WATCH, WatchNotes)
                since = turn.now if notes is None else notes.drift_since
                stored = tx.observations.windows(turn.model, since)
            self._traffic = Tally(turn.model, since, stored)
        if notes is None or notes.version != champion.version:
            with turn.store.read() as tx:
                joined = tx.observations.last_join(turn.model)
            notes = WatchNotes(
                version=champion.version,
                drift_since=turn.now,
                labels_since=joined,
                spent={} if notes is None else notes.spent,
            )
            self._traffic = Tally(turn.model, turn.now)
            self._joined = -1
        if notes.drift_since - turn.now > SET_BACK_S:
            notes = msgspec.structs.replace(notes, drift_since=turn.now)
            self._traffic = Tally(turn.model, turn.now)
        return notes

    def _add_to_season(self, turn: Turn, champion: Champion, windows: tuple[Window, ...]) -> None:
        length = turn.spec.monitoring.drift_season_s
        if self._season is None or self._season.version != champion.version:
            with turn.store.read() as tx:
                stored = tx.observations.windows(turn.model, turn.now - length) if length else ()
            self._season = Season(champion.version, length, stored)
        else:
            self._season.add(windows)

    def _judge_drift(self, turn: Turn, champion: Champion, notes: WatchNotes) -> WatchNotes:
        seen = self._traffic.of(champion.version, "champion")
        if seen.rows < turn.spec.monitoring.drift_window_rows:
            return notes
        season = None if self._season is None else self._season.whole()
        report = assess_drift(
            champion.profile, [seen], turn.spec.monitoring, notes.drift_state, season
        )
        inputs = DriftInputs(
            champion=champion.endpoint,
            window=seen,
            plan=turn.spec.monitoring,
            state=notes.drift_state,
            season=season if any(drift.kinds for drift in report.features) else None,
        )
        self._inputs["drift"] = lambda: inputs
        self._traffic = Tally(turn.model, seen.end)
        estimate = self._estimating.take(turn, champion, seen, report)
        self._inputs["estimate"] = lambda: estimate
        return msgspec.structs.replace(
            notes, drift=report, drift_state=report.state, drift_since=seen.end
        )

    def _judge_quality(self, turn: Turn, champion: Champion, notes: WatchNotes) -> WatchNotes:
        plan = turn.spec.monitoring
        with turn.store.read() as tx:
            joined = tx.observations.last_join(turn.model)
            if joined == self._joined:
                return notes
            # What was read for the last look is not read again.
            kept = self._labelled if self._labelled_since == notes.labels_since else []
            new = tx.observations.labelled_after(
                turn.model,
                after=kept[-1].number if kept else notes.labels_since,
                limit=plan.quality_window_rows * LONGEST_WINDOW - len(kept),
                version=champion.version,
            )
        self._joined = joined
        # A row whose label was put right comes again.
        anew = {(item.row.id, item.row.role) for item in new}
        kept = [item for item in kept if (item.row.id, item.row.role) not in anew]
        labelled = self._labelled = [*kept, *new]
        self._labelled_since = notes.labels_since
        rows = labelled_rows(champion.target, labelled)
        report = assess_quality(champion.profile, rows, plan, notes.quality_state)
        endpoint, state = champion.endpoint, notes.quality_state
        self._inputs["quality"] = lambda: quality_inputs(endpoint, rows, plan, state)
        age = DETAIL_EVERY_S if self._detail is None else turn.now - self._detail.at
        if age >= (DETAIL_SOONEST_S if report.complete else DETAIL_EVERY_S):
            self._detail = quality_detail(
                champion.version,
                turn.now,
                champion.profile,
                champion.target,
                labelled,
                plan,
                turn.spec.rollout.slices,
            )
        if report.complete:
            # More rows than one window holds may wait already.
            self._joined = -1
            used = labelled[-1].number
            notes = msgspec.structs.replace(notes, labels_since=used, quality_state=report.state)
        return msgspec.structs.replace(notes, quality=report)


def _journal_changes(
    turn: Turn,
    tx: Transaction,
    champion: Champion,
    reports: Mapping[str, DriftReport | QualityReport | EstimateReport | None],
    inputs: Mapping[str, InputsOf],
    told: Mapping[str, tuple[str, str]],
) -> dict[str, tuple[str, str]]:
    """Write down verdicts on this version that differ from the last one written down.

    A verdict that is not decided yet says nothing, so it stands between no two equal ones.
    Returns `told` with what the journal says now; what it lacks is read from the journal.
    """
    known = dict(told)
    for name, report in reports.items():
        if report is None or report.verdict == "not_yet":
            continue
        present = f"{name}.{report.verdict}", champion.version
        if name not in known:
            for entry in tx.journal.last(turn.model, 1, kinds=f"{name}.%"):
                known[name] = entry.kind, str(entry.data.get("version"))
        if known.get(name) == present:
            continue
        known[name] = present
        made = inputs.get(name)
        data = {
            "report": report,
            "version": champion.version,
            "inputs": None if made is None else made(),
        }
        tx.journal.append(turn.model, at=turn.now, kind=present[0], text=report.sentence, data=data)
    return known
