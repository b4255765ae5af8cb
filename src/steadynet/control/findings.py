"""Publishing what was found, for the workers to tell Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from steadynet.control.champion import Champion
from steadynet.control.facts import (
    ESTIMATES,
    HEAL,
    LABEL_FLOW,
    EstimateNotes,
    HealNotes,
    WatchNotes,
)
from steadynet.control.objectives import created_at
from steadynet.control.policy import failures_in_a_row
from steadynet.control.store import Transaction
from steadynet.control.turn import Turn
from steadynet.files import write_atomic
from steadynet.monitoring.estimate import Estimated
from steadynet.monitoring.findings import (
    HEAL_OUTCOMES,
    ROLLOUT_OUTCOMES,
    Findings,
    HealingState,
    Rate,
    SecondsSpent,
)
from steadynet.monitoring.label_flow import LabelFlow
from steadynet.monitoring.reports import (
    Alert,
    AlertKind,
    DriftReport,
    QualityReport,
    QualityVerdict,
)
from steadynet.rollout.state import Rollout

PUBLISH_EVERY_S = 1.0


class Publishing:
    """Writes the findings file, at most once a second."""

    def __init__(self) -> None:
        self._published = float("-inf")
        self._counted = 0
        """Number of the newest entry of the journal in `_kinds`."""
        self._kinds: Counter[str] = Counter()

    def advance(self, turn: Turn, champion: Champion, notes: WatchNotes) -> None:
        """Publish what is known now."""
        if 0 <= turn.now - self._published < PUBLISH_EVERY_S:
            return
        self._published = turn.now
        with turn.store.read() as tx:
            self._count(turn, tx)
            found = _findings(turn, tx, champion, notes, self._kinds)
        path = turn.home.findings(turn.model)
        write_atomic(path, msgspec.json.encode(found), durable=False)

    def _count(self, turn: Turn, tx: Transaction) -> None:
        """Count what the journal says was done, each entry once."""
        head = tx.journal.head(turn.model)
        if head is not None and head[0] > self._counted:
            self._kinds += tx.journal.kinds_after(turn.model, self._counted)
            self._counted = head[0]


def _findings(
    turn: Turn, tx: Transaction, champion: Champion, notes: WatchNotes, kinds: Counter[str]
) -> Findings:
    rollout = tx.decisions.last_rollout(turn.model, Rollout)
    running = rollout is not None and not rollout.over
    heal = tx.decisions.fact(turn.model, HEAL, HealNotes) or HealNotes()
    quality, drift = notes.quality, notes.drift
    waiting = tx.deliveries.count(turn.model)
    alerts = _open_alerts(turn, tx)
    return Findings(
        model=turn.model,
        at=turn.now,
        champion=champion.version,
        trained=created_at(champion),
        quality=_quality(quality),
        loss=None if quality is None else quality.loss,
        loss_reference=None if quality is None else quality.loss_reference,
        labelled_rows=0 if quality is None else quality.rows,
        metrics={} if quality is None else quality.metrics,
        estimated=_estimated(turn, tx, champion),
        labels=tx.decisions.fact(turn.model, LABEL_FLOW, LabelFlow) or LabelFlow(),
        drift="not_yet" if drift is None else drift.verdict,
        psi={} if drift is None else {item.name: item.psi for item in drift.features},
        drifted=() if drift is None else drift.sustained,
        missing=_missing(champion, drift),
        unseen=_unseen(champion, drift),
        spent={
            objective: SecondsSpent(spent.seconds, spent.bad_seconds)
            for objective, spent in notes.spent.items()
        },
        phase="none" if rollout is None else rollout.phase,
        challenger=rollout.challenger if rollout is not None and running else "",
        share=rollout.share if rollout is not None and running else 0.0,
        rollouts={outcome: kinds[f"rollout.{outcome}"] for outcome in ROLLOUT_OUTCOMES},
        healing=_healing(heal),
        failed_retrains=failures_in_a_row(heal.attempts),
        heals={outcome: kinds[f"heal.{outcome}"] for outcome in HEAL_OUTCOMES},
        alerts=_by_kind(alert for alert in alerts if not alert.kept_back),
        silenced=_by_kind(alert for alert in alerts if alert.silenced),
        undelivered=waiting.get("waiting", 0),
        given_up=waiting.get("given_up", 0),
    )


def _estimated(turn: Turn, tx: Transaction, champion: Champion) -> dict[str, Estimated]:
    """Return the champion's newest estimates; what was estimated of another version is past."""
    notes = tx.decisions.fact(turn.model, ESTIMATES, EstimateNotes)
    if notes is None or notes.report is None or notes.version != champion.version:
        return {}
    return notes.report.estimate.metrics


def _missing(champion: Champion, drift: DriftReport | None) -> dict[str, Rate]:
    names = {feature.name for feature in champion.profile.features}
    return {
        item.name: Rate(item.missing, item.missing_reference)
        for item in (() if drift is None else drift.features)
        if item.name in names
    }


def _unseen(champion: Champion, drift: DriftReport | None) -> dict[str, Rate]:
    names = {feature.name for feature in champion.profile.features if feature.kind == "category"}
    return {
        item.name: Rate(item.unseen, item.unseen_reference)
        for item in (() if drift is None else drift.features)
        if item.name in names
    }


def _quality(report: QualityReport | None) -> QualityVerdict:
    """Return the verdict; `lost` goes on while the next window begins, as its alert does."""
    if report is None:
        return "not_yet"
    return "lost" if report.lost else report.verdict


def _healing(notes: HealNotes) -> HealingState:
    if notes.stopped:
        return "stopped"
    if notes.attempts and notes.attempts[-1].outcome == "running":
        return "running"
    return "waiting" if notes.waiting else "idle"


def _open_alerts(turn: Turn, tx: Transaction) -> list[Alert]:
    decode = msgspec.msgpack.decode
    return [decode(item.body, type=Alert) for item in tx.alerts.open(turn.model)]


def _by_kind(alerts: Iterable[Alert]) -> dict[AlertKind, int]:
    return dict(Counter(alert.kind for alert in alerts))
