"""Watching the champion: drift, quality, SLOs, and the alerts made of them.

What a verdict used up and its state are stored together, so that a restarted controller neither
looks at the same rows twice nor forgets how long a drift has lasted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from steadynet.control.champion import Champion
from steadynet.control.facts import WATCH, WatchNotes
from steadynet.control.labels import labelled_rows
from steadynet.control.replay import DriftInputs, QualityInputs, quality_inputs
from steadynet.control.store import StoredAlert, Transaction
from steadynet.control.tally import Tally
from steadynet.control.turn import Turn
from steadynet.monitoring.alerts import (
    decide_alerts,
    drift_condition,
    quality_condition,
    rollback_condition,
    slo_conditions,
)
from steadynet.monitoring.drift import assess_drift
from steadynet.monitoring.quality import LONGEST_WINDOW, assess_quality
from steadynet.monitoring.reports import Alert, Condition
from steadynet.monitoring.slo import SloEvents, assess_slo, compact_events, slo_events
from steadynet.monitoring.windows import Window
from steadynet.rollout.state import Rollout
from steadynet.spec.model import Slo

KEPT_S = 4 * 86_400.0
"""Windows older than this are of no use to any rule."""
RECENT_ROLLOUT_S = 600.0
LOOK_EVERY_S = 1.0
"""Verdicts change with thousands of rows; looking at them more often only costs."""


class Watch:
    """What is being watched of one model's champion."""

    def __init__(self) -> None:
        self._notes: WatchNotes | None = None
        self._traffic = Tally("", 0.0)
        self._events: tuple[SloEvents, ...] | None = None
        self._joined = -1
        self._looked = float("-inf")
        self._inputs: dict[str, DriftInputs | QualityInputs] = {}

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
        self._traffic.add(windows)
        slo = champion.manifest.slo
        self._events = self._with_events(turn, slo, windows)
        if 0 <= turn.now - self._looked < LOOK_EVERY_S:
            self._notes = notes
            return notes
        self._looked = turn.now
        after = self._judge_quality(turn, champion, self._judge_drift(turn, champion, notes))
        after = msgspec.structs.replace(after, slo=assess_slo(slo, self._events, turn.now))
        with turn.write() as tx:
            _journal_changes(turn, tx, after, self._inputs)
            tx.decisions.remember(turn.model, WATCH, after)
            found = [*conditions, *_conditions(after), *_rollback(turn, tx)]
            _decide(turn, tx, found)
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
            notes = WatchNotes(version=champion.version, drift_since=turn.now, labels_since=joined)
            self._traffic = Tally(turn.model, turn.now)
            self._joined = -1
        return notes

    def _with_events(
        self, turn: Turn, slo: Slo, windows: tuple[Window, ...]
    ) -> tuple[SloEvents, ...]:
        if self._events is None:
            with turn.store.read() as tx:
                stored = tx.observations.windows(turn.model, turn.now - KEPT_S)
            return compact_events(_events_of(slo, stored), now=turn.now)
        return compact_events([*self._events, *_events_of(slo, windows)], now=turn.now)

    def _judge_drift(self, turn: Turn, champion: Champion, notes: WatchNotes) -> WatchNotes:
        seen = self._traffic.of(champion.version, "champion")
        report = assess_drift(
            champion.profile, [seen] if seen.rows else [], turn.spec.monitoring, notes.drift_state
        )
        if not report.complete:
            return notes
        self._inputs["drift"] = DriftInputs(
            champion=champion.endpoint,
            window=seen,
            plan=turn.spec.monitoring,
            state=notes.drift_state,
        )
        self._traffic = Tally(turn.model, seen.end)
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
        if report.complete:
            # More rows than one window holds may wait already.
            self._joined = -1
            used = labelled[-1].number
            notes = msgspec.structs.replace(notes, labels_since=used, quality_state=report.state)
        return msgspec.structs.replace(notes, quality=report)


def _events_of(slo: Slo, windows: Iterable[Window]) -> list[SloEvents]:
    return [slo_events(slo, window) for window in windows if window.role != "shadow"]


def _conditions(notes: WatchNotes) -> list[Condition]:
    found = [
        None if notes.drift is None else drift_condition(notes.drift),
        None if notes.quality is None else quality_condition(notes.quality),
        *(() if notes.slo is None else slo_conditions(notes.slo)),
    ]
    return [condition for condition in found if condition is not None]


def _rollback(turn: Turn, tx: Transaction) -> list[Condition]:
    """Return the condition of a rollback that nobody was told of yet."""
    last = tx.decisions.last_rollout(turn.model, Rollout)
    if last is None or last.phase != "aborted" or last.ended is None:
        return []
    condition = rollback_condition(
        rollout=last.id, version=last.challenger, champion=last.champion, reason=last.reason
    )
    recent = turn.now - last.ended < RECENT_ROLLOUT_S
    return [condition] if recent and not tx.alerts.known(turn.model, condition.key) else []


def _decide(turn: Turn, tx: Transaction, conditions: Iterable[Condition]) -> None:
    held = [msgspec.msgpack.decode(item.body, type=Alert) for item in tx.alerts.open(turn.model)]
    decision = decide_alerts(turn.model, held, conditions, turn.now)
    for alert in (*decision.opened, *decision.still, *decision.resolved):
        tx.alerts.save(
            StoredAlert(
                model=turn.model,
                key=alert.key,
                opened=alert.opened,
                resolved=alert.resolved,
                body=msgspec.msgpack.encode(alert),
            )
        )
    for event, alerts in (("opened", decision.opened), ("resolved", decision.resolved)):
        for alert in alerts:
            word = f"{alert.kind} {event}"
            tx.journal.append(
                turn.model,
                at=turn.now,
                kind=f"alert.{event}",
                text=f"{word}: {alert.summary or alert.cause}",
                data={"alert": alert},
            )
            if turn.spec.alerts.webhook is not None:
                payload = msgspec.json.encode({"event": event, "alert": alert}).decode()
                tx.deliveries.send(turn.model, payload, at=turn.now)


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
