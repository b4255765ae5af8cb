"""Watching the champion: drift, quality, SLOs, and the alerts made of them.

What a verdict used up and its state are stored together, so that a restarted controller neither
looks at the same rows twice nor forgets how long a drift has lasted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from steadynet.control.alerting import decide
from steadynet.control.champion import Champion
from steadynet.control.estimating import Estimating
from steadynet.control.facts import QUALITY_DETAIL, WATCH, WatchNotes
from steadynet.control.labels import labelled_rows
from steadynet.control.objectives import Objectives
from steadynet.control.quality_detail import QualityDetail, quality_detail
from steadynet.control.replay import DriftInputs, QualityInputs, quality_inputs
from steadynet.control.season import Season
from steadynet.control.store import Transaction
from steadynet.control.tally import Tally
from steadynet.control.turn import Turn
from steadynet.monitoring.drift import assess_drift
from steadynet.monitoring.quality import LONGEST_WINDOW, assess_quality
from steadynet.monitoring.reports import Condition
from steadynet.monitoring.windows import Window

DETAIL_EVERY_S = 30.0
"""The detail of quality draws samples, which costs more than a verdict."""
LOOK_EVERY_S = 1.0
"""Verdicts change with thousands of rows; looking at them more often only costs."""


class Watch:
    """What is being watched of one model's champion."""

    def __init__(self) -> None:
        self._notes: WatchNotes | None = None
        self._traffic = Tally("", 0.0)
        self._season: Season | None = None
        self._objectives = Objectives()
        self._joined = -1
        self._looked = float("-inf")
        self._inputs: dict[str, DriftInputs | QualityInputs] = {}
        self._estimating = Estimating()
        self._detail: QualityDetail | None = None

    def look(
        self,
        turn: Turn,
        champion: Champion,
        windows: tuple[Window, ...],
        conditions: Iterable[Condition],
    ) -> WatchNotes:
        """Take in new windows, judge what can be judged, and open or resolve alerts.

        `conditions` come from elsewhere (the healing) and are decided with the others.
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
            _journal_changes(turn, tx, after, self._inputs)
            tx.decisions.remember(turn.model, WATCH, after)
            self._estimating.store(turn, tx)
            if self._detail is not None and self._detail.at == turn.now:
                tx.decisions.remember(turn.model, QUALITY_DETAIL, self._detail)
            decide(turn, tx, after, (*conditions, *self._estimating.conditions(turn)))
        self._notes = after
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
        self._inputs["drift"] = DriftInputs(
            champion=champion.endpoint,
            window=seen,
            plan=turn.spec.monitoring,
            state=notes.drift_state,
            season=season if any(drift.kinds for drift in report.features) else None,
        )
        self._traffic = Tally(turn.model, seen.end)
        self._estimating.take(turn, champion, seen, report)
        return msgspec.structs.replace(
            notes, drift=report, drift_state=report.state, drift_since=seen.end
        )

    def _judge_quality(self, turn: Turn, champion: Champion, notes: WatchNotes) -> WatchNotes:
        plan = turn.spec.monitoring
        with turn.store.read() as tx:
            joined = tx.observations.last_join(turn.model)
            if joined == self._joined:
                return notes
            labelled = tx.observations.labelled_after(
                turn.model,
                after=notes.labels_since,
                limit=plan.quality_window_rows * LONGEST_WINDOW,
                version=champion.version,
            )
        self._joined = joined
        rows = labelled_rows(champion.target, labelled)
        report = assess_quality(champion.profile, rows, plan, notes.quality_state)
        self._inputs["quality"] = quality_inputs(champion.endpoint, rows, plan, notes.quality_state)
        old = self._detail is None or turn.now - self._detail.at >= DETAIL_EVERY_S
        if old or report.complete:
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
    after: WatchNotes,
    inputs: Mapping[str, DriftInputs | QualityInputs],
) -> None:
    """Write down verdicts on this version that differ from the last one written down.

    A verdict that is not decided yet says nothing, so it stands between no two equal ones.
    """
    for name, report in (("drift", after.drift), ("quality", after.quality)):
        if report is None or report.verdict == "not_yet":
            continue
        kind = f"{name}.{report.verdict}"
        data = {"report": report, "version": after.version, "inputs": inputs.get(name)}
        told = tx.journal.last(turn.model, 1, kinds=f"{name}.%")
        if told and told[0].kind == kind and told[0].data.get("version") == after.version:
            continue
        tx.journal.append(turn.model, at=turn.now, kind=kind, text=report.sentence, data=data)
