"""Alerts: what people are told, once for each cause.

Reports are turned into *conditions* (`drift_condition`, `quality_condition`, `slo_conditions`,
`rollback_condition`), and `decide_alerts` compares these with the alerts that are open:

- a condition that is active and has no open alert opens one,
- one that has an alert keeps it open, silently; a ticket that has become a page is sent again,
- an alert whose condition has been looked at and was inactive for its `quiet_s` is resolved,
- an alert whose condition was *not looked at* (no data) stays: no data is not good news,
- a ticket that a running rollout explains is held: opened, and told when the rollout is over,
  after `MOST_HELD_S`, or once it is a page. Pages are never held, nor is what was told already,
- what is new while a person's silence covers it is opened, and told when the silence is over where
  it still holds, or happened meanwhile (see `silences`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from steadynet.monitoring.reports import (
    Alert,
    AlertDecision,
    AlertKind,
    Condition,
    DriftReport,
    QualityReport,
    SloReport,
)
from steadynet.monitoring.runbooks import runbook_of
from steadynet.monitoring.silences import Silence, silencing
from steadynet.monitoring.slo import QUIET_S, burn_sentence

_MOST_NAMED = 5
MOST_HELD_S = 6 * 3600.0
"""A rollout may be left standing; a ticket is to be seen on the same day."""


def decide_alerts(
    model: str,
    previous: Iterable[Alert],
    conditions: Iterable[Condition],
    now: float,
    silences: Sequence[Silence] = (),
) -> AlertDecision:
    """Return which alerts open, stay and end. Pass `decision.open` as `previous` next time."""
    opened: list[Alert] = []
    kept_back: list[Alert] = []
    still: list[Alert] = []
    resolved: list[Alert] = []
    open_ones = {alert.key: alert for alert in previous if alert.resolved is None}
    looked_at = {condition.key: condition for condition in conditions}
    for key, condition in looked_at.items():
        if condition.active and key not in open_ones:
            alert = _open(model, condition, now, silencing(silences, key, now))
            (kept_back if alert.kept_back else opened).append(alert)
    for key, alert in open_ones.items():
        current = looked_at.get(key)
        after = _go_on(alert, current, now, silencing(silences, key, now))
        if _is_over(after, current, now):
            resolved.append(msgspec.structs.replace(after, resolved=now))
        elif after.kept_back:
            (kept_back if after.kind != alert.kind else still).append(after)
        else:
            news = alert.kept_back or after.kind != alert.kind
            (opened if news else still).append(after)
    return AlertDecision(
        opened=tuple(opened), held=tuple(kept_back), still=tuple(still), resolved=tuple(resolved)
    )


def _open(model: str, condition: Condition, now: float, silenced: str) -> Alert:
    return Alert(
        id=f"{model}/{condition.key}/{int(now)}",
        model=model,
        key=condition.key,
        kind=condition.kind,
        cause=condition.cause,
        since=now if condition.since is None else condition.since,
        opened=now,
        seen=now,
        momentary=condition.momentary,
        quiet_s=condition.quiet_s,
        held=condition.held if condition.kind == "ticket" else "",
        silenced=silenced,
        summary=condition.summary,
        done=condition.done,
        todo=condition.todo,
        details=condition.details,
    )


def _go_on(alert: Alert, current: Condition | None, now: float, silenced: str) -> Alert:
    """Return an open alert as it is after this look, over or not.

    What was looked at and is not so now waits for its end; it is not told that late.
    """
    if current is not None and not current.active:
        return alert
    after = alert if current is None else _renew(alert, current, now)
    raised = after.kind != alert.kind
    if not alert.kept_back and not raised:
        return after
    if alert.silenced and not silenced:
        # It is told only now: its quiet time, where nobody looks, begins now.
        after = msgspec.structs.replace(after, seen=now)
    known = alert.known or (raised and not alert.kept_back)
    return msgspec.structs.replace(after, silenced=silenced, known=known)


def _renew(alert: Alert, condition: Condition, now: float) -> Alert:
    """Bring an open alert up to date; it never falls from page to ticket, nor is held anew."""
    kind: AlertKind = "page" if "page" in (alert.kind, condition.kind) else "ticket"
    waits = alert.held and kind == "ticket" and now - alert.opened < MOST_HELD_S
    return msgspec.structs.replace(
        alert,
        kind=kind,
        raised=now if kind != alert.kind else alert.raised,
        held=condition.held if waits else "",
        cause=condition.cause,
        seen=now,
        quiet_s=condition.quiet_s,
        summary=condition.summary,
        done=condition.done,
        todo=condition.todo,
        details=condition.details,
    )


def _is_over(alert: Alert, current: Condition | None, now: float) -> bool:
    if current is None and (alert.silenced or not alert.momentary):
        return False
    return (current is None or not current.active) and now - alert.seen >= alert.quiet_s


def drift_condition(report: DriftReport, *, done: str = "") -> Condition | None:
    """Turn a drift report into a condition; None where it says neither yes nor no."""
    if report.verdict in ("not_yet", "drifting"):
        return None
    if report.verdict == "steady":
        return Condition(key="drift", active=False)
    named = [drift for drift in report.features if drift.name in report.sustained]
    first = ", ".join(drift.name for drift in named[:_MOST_NAMED])
    more = len(named) - _MOST_NAMED
    names = f"{first} and {more} more" if more > 0 else first
    return Condition(
        key="drift",
        active=True,
        kind="ticket",
        cause="drift",
        summary=f"traffic has drifted away from training: {names}. {report.sentence}",
        since=report.since,
        done=done,
        todo=runbook_of("drift").todo,
        details={drift.name: drift.psi for drift in named},
    )


def quality_condition(report: QualityReport, *, done: str = "") -> Condition | None:
    """Turn a quality report into a condition; None where it says neither yes nor no."""
    if report.verdict == "not_yet":
        return None
    if report.verdict == "ok":
        return Condition(key="quality", active=False)
    return Condition(
        key="quality",
        active=True,
        kind="page",
        cause="lost quality",
        summary=report.sentence,
        since=report.since,
        done=done,
        todo=runbook_of("quality").todo,
        details={
            "loss": report.loss,
            "reference": report.loss_reference,
            "rows": report.rows,
        },
    )


def slo_conditions(
    report: SloReport, *, done: str = "", candidate: str = ""
) -> tuple[Condition, ...]:
    """Turn an SLO report into one condition per objective.

    `candidate` is the version that is being rolled out; a ticket that fires by its requests alone
    is held.
    """
    conditions = []
    for objective in sorted({burn.objective for burn in report.burns}):
        firing = [burn for burn in report.firing if burn.objective == objective]
        measured = any(b.total for b in report.burns if b.objective == objective)
        if not firing:
            if measured:
                conditions.append(Condition(key=f"slo/{objective}", active=False))
            continue
        worst = firing[0]
        explained = candidate and worst.kind == "ticket" and all(b.explained for b in firing)
        conditions.append(
            Condition(
                key=f"slo/{objective}",
                active=True,
                kind=worst.kind,
                cause=f"{objective} objective",
                summary=burn_sentence(worst),
                done=done,
                todo=runbook_of(f"slo/{objective}").todo,
                details={
                    "burn": worst.long_burn,
                    "limit": worst.limit,
                    "bad": worst.bad,
                    "requests": worst.total,
                },
                quiet_s=QUIET_S[worst.kind],
                held=(
                    f"it would not fire without the requests of version {candidate}, which is "
                    "being rolled out"
                    if explained
                    else ""
                ),
            )
        )
    return tuple(conditions)


def rollback_condition(*, rollout: str, version: str, champion: str, reason: str) -> Condition:
    """Return the condition that a rollout was rolled back: told once, then closed."""
    return Condition(
        key=f"rollout/{rollout}",
        active=True,
        kind="ticket",
        cause="rollback",
        summary=f"version {version} was rolled back: {reason}",
        done=f"version {champion} answers all requests",
        todo=f"Find out why version {version} fails before it is released again.",
        details={"rollout": rollout, "version": version},
        momentary=True,
    )
