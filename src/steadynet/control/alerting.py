"""From what was found to alerts: decided, kept, written down, and sent on their way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from steadynet.control.delivering import MOST_WAITING
from steadynet.control.facts import WatchNotes
from steadynet.control.store import StoredAlert, Transaction
from steadynet.control.turn import Turn
from steadynet.monitoring.alerts import (
    decide_alerts,
    drift_condition,
    quality_condition,
    rollback_condition,
    slo_conditions,
)
from steadynet.monitoring.messages import Event, Message, gather, send_at
from steadynet.monitoring.reports import Alert, Condition
from steadynet.monitoring.silences import Silence
from steadynet.rollout.state import Rollout

RECENT_ROLLOUT_S = 600.0


def _conditions(notes: WatchNotes, candidate: str) -> list[Condition]:
    found = [
        None if notes.drift is None else drift_condition(notes.drift),
        None if notes.quality is None else quality_condition(notes.quality),
        *(() if notes.slo is None else slo_conditions(notes.slo, candidate=candidate)),
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


def decide(
    turn: Turn,
    tx: Transaction,
    notes: WatchNotes,
    conditions: Iterable[Condition],
    silences: Sequence[Silence] = (),
) -> None:
    """Open, keep and resolve alerts by what was found; `conditions` come from elsewhere."""
    found = [*conditions, *_conditions(notes, _candidate(turn, tx)), *_rollback(turn, tx)]
    known = [msgspec.msgpack.decode(item.body, type=Alert) for item in tx.alerts.open(turn.model)]
    decision = decide_alerts(turn.model, known, found, turn.now, silences)
    for alert in (*decision.open, *decision.resolved):
        tx.alerts.save(
            StoredAlert(
                model=turn.model,
                key=alert.key,
                opened=alert.opened,
                resolved=alert.resolved,
                body=msgspec.msgpack.encode(alert),
            )
        )
    for alert in decision.held:
        word = "silenced" if alert.silenced else "held"
        _write_down(turn, tx, alert, word, f"{alert.summary}; {alert.kept_back}")
    for alert in decision.resolved:
        if not alert.told:
            _write_down(turn, tx, alert, "resolved", f"{alert.summary}; nobody was told")
    _tell(turn, tx, "opened", decision.opened)
    _tell(turn, tx, "resolved", tuple(alert for alert in decision.resolved if alert.told))


def _candidate(turn: Turn, tx: Transaction) -> str:
    """Return the version of a rollout that goes on by itself; one that waits for a person holds
    nothing back, since the person has to know.
    """
    rollout = tx.decisions.running_rollout(turn.model, Rollout)
    waits = rollout is None or rollout.phase == "awaiting_approval" or rollout.paused_at is not None
    return "" if rollout is None or waits else rollout.challenger


def _write_down(turn: Turn, tx: Transaction, alert: Alert, word: str, text: str) -> None:
    tx.journal.append(
        turn.model,
        at=turn.now,
        kind=f"alert.{word}",
        text=f"{alert.kind} {word}: {text}",
        data={"alert": alert},
    )


def _tell(turn: Turn, tx: Transaction, event: Event, alerts: tuple[Alert, ...]) -> None:
    """Write alerts down, and send them with what still waits to be sent."""
    for alert in alerts:
        _write_down(turn, tx, alert, event, alert.summary or alert.cause)
    if turn.spec.alerts.webhook is None or not alerts:
        return
    own = {alert.id for alert in alerts}
    for waiting in reversed(tx.deliveries.waiting(turn.model, limit=MOST_WAITING)):
        known = msgspec.json.decode(waiting.payload_json, type=Message)
        if known.event == event and waiting.attempts == 0 and waiting.next_at > turn.now:
            message = gather(known, event, alerts, turn.now)
            payload = msgspec.json.encode(message).decode()
            tx.deliveries.rewrite(waiting.number, payload, send_at=send_at(message))
            return
        if any(alert.id in own for alert in known.alerts):
            # The new message follows this one, which its receiver may take by now.
            if waiting.attempts:
                tx.deliveries.hurry(waiting.number, turn.now)
            break
    message = gather(None, event, alerts, turn.now)
    payload = msgspec.json.encode(message).decode()
    tx.deliveries.send(turn.model, payload, at=turn.now, send_at=send_at(message))
