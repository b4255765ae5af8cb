"""What people are told of alerts: one message for what is found together, in three formats.

Sources: Standard Webhooks, version 1 (https://www.standardwebhooks.com; the shape of the body);
Slack's incoming webhooks and Block Kit (https://docs.slack.dev); Alertmanager's API, version 2
(`POST /api/v2/alerts`). All here is pure; times are seconds UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from steadynet.monitoring.reports import Alert
from steadynet.monitoring.runbooks import command_of, runbook_of, runbook_url
from steadynet.spec.operating import AlertFormat

GATHER_S = 30.0
"""How long a ticket waits for others to be told with it. A page waits for nothing."""
RENEW_S = 60.0
"""How often Alertmanager is told that an alert is still open."""
EXPIRE_S = 4 * RENEW_S
"""After how long without news Alertmanager takes an alert for over; as Prometheus does, so that
neither one lost renewal ends it nor a program that is gone keeps it open."""

MOST_SHOWN = 10
"""Alerts of one Slack message; Slack itself allows 50 blocks of 3 000 characters."""
_LONGEST = 500
_CUT_ENTITY = re.compile(r"&[a-z]*$")

Event = Literal["opened", "open", "resolved"]
"""`open`: told already, and still so."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is told at once. This is what the store keeps until it is delivered."""

    model: str
    event: Event
    at: float
    """When the first of them was found."""
    alerts: tuple[Alert, ...]


def gather(before: Message | None, event: Event, alerts: Iterable[Alert], now: float) -> Message:
    """Return the message of alerts of one model, with those of one that still waits.

    An alert that is told anew takes its own earlier place; pages come first.
    """
    known = () if before is None else before.alerts
    by_id = {alert.id: alert for alert in (*known, *alerts)}
    ordered = sorted(by_id.values(), key=lambda alert: alert.kind != "page")
    at = now if before is None else before.at
    return Message(model=ordered[0].model, event=event, at=at, alerts=tuple(ordered))


def send_at(message: Message) -> float:
    """Return when a message may go out."""
    urgent = any(alert.kind == "page" for alert in message.alerts)
    return message.at if urgent else message.at + GATHER_S


def body_of(message: Message, style: AlertFormat, runbooks: str, now: float) -> bytes:
    """Return the body of one attempt at `now` to deliver a message.

    `runbooks` is `[alerts] runbooks`.
    """
    if style == "slack":
        shape: object = _slack(message, runbooks)
    elif style == "alertmanager":
        shape = _alertmanager(message, runbooks, now)
    else:
        shape = _standard(message, runbooks)
    return msgspec.json.encode(shape)


def _standard(message: Message, runbooks: str) -> dict[str, Any]:
    return {
        "type": f"alert.{message.event}",
        "timestamp": _iso(message.at),
        "data": {
            "model": message.model,
            "alerts": [_told(alert, runbooks) for alert in message.alerts],
        },
    }


def _told(alert: Alert, runbooks: str) -> dict[str, Any]:
    return {
        "id": alert.id,
        "model": alert.model,
        "key": alert.key,
        "kind": alert.kind,
        "cause": alert.cause,
        "since": _iso(alert.since),
        "resolved": None if alert.resolved is None else _iso(alert.resolved),
        "summary": alert.summary,
        "done": alert.done,
        "todo": alert.todo,
        "command": command_of(alert.model),
        "runbook_url": runbook_url(runbooks, alert.key, alert.model),
        "details": alert.details,
    }


def _slack(message: Message, runbooks: str) -> dict[str, Any]:
    over = message.event == "resolved"
    shown = message.alerts[:MOST_SHOWN]
    hidden = len(message.alerts) - len(shown)
    texts = [_slack_text(alert, runbooks, over=over) for alert in shown]
    if hidden:
        texts.append(f"… and {hidden} more: `{_plain(command_of(message.model))}`")
    first = message.alerts[0]
    more = f", and {len(message.alerts) - 1} more" if len(message.alerts) > 1 else ""
    word = "over" if over else first.kind
    return {
        # What a notification shows; the blocks are what the channel shows.
        "text": f"{word}: {_plain(f'{message.model}: {first.cause}')}{more}",
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}
            for text in texts
        ],
    }


def _slack_text(alert: Alert, runbooks: str, *, over: bool) -> str:
    cause = _plain(f"{alert.model}: {alert.cause}")
    if over and alert.resolved is not None:
        lasted = f"{_slack_time(alert.since)} to {_slack_time(alert.resolved)}"
        return f":white_check_mark: *over* · {cause}\n{lasted}"
    sign = ":rotating_light:" if alert.kind == "page" else ":warning:"
    lines = [f"{sign} *{alert.kind}* · {cause}, since {_slack_time(alert.since)}"]
    lines.append(_plain(alert.summary))
    if alert.done:
        lines.append(f"*Done:* {_plain(alert.done)}")
    if alert.todo:
        lines.append(f"*Do:* {_plain(alert.todo)}")
    page = _slack_page(runbook_url(runbooks, alert.key, alert.model))
    lines.append(f"{page} · `{command_of(alert.model)}`")
    return "\n".join(lines)


def _slack_page(url: str) -> str:
    return f"<{_plain(url)}|Runbook>" if "://" in url else f"Runbook: `{_plain(url)}`"


def _slack_time(moment: float) -> str:
    """Return a time that Slack shows in its reader's own zone."""
    return f"<!date^{int(moment)}^{{date_short_pretty}} {{time}}|{_iso(moment)}>"


def _plain(text: str) -> str:
    """Escape what Slack gives a meaning, so that no text mentions a channel or makes a link."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if len(escaped) <= _LONGEST:
        return escaped
    return _CUT_ENTITY.sub("", escaped[:_LONGEST]) + " …"


def _alertmanager(message: Message, runbooks: str, now: float) -> list[dict[str, Any]]:
    told = []
    for alert in message.alerts:
        ends = now + EXPIRE_S if message.event != "resolved" else alert.resolved or now
        told.append(_alert(alert, alert.kind, ends, runbooks))
        if message.event == "opened" and alert.raised is not None:
            # To Alertmanager another severity is another alert: the ticket has ended.
            told.append(_alert(alert, "ticket", alert.raised, runbooks))
    return told


def _alert(alert: Alert, severity: str, ends: float, runbooks: str) -> dict[str, Any]:
    annotations = {
        "summary": f"{alert.model}: {alert.cause}",
        "description": alert.summary,
        "done": alert.done,
        "todo": alert.todo,
        "command": command_of(alert.model),
        "runbook_url": runbook_url(runbooks, alert.key, alert.model),
    }
    runbook = runbook_of(alert.key)
    return {
        "labels": {
            "alertname": runbook.alertname,
            "model": alert.model,
            "severity": severity,
            "cause": runbook.cause,
            "service": "steadynet",
            "key": alert.key,
        },
        "annotations": {name: text for name, text in annotations.items() if text},
        "startsAt": _iso(alert.since),
        "endsAt": _iso(ends),
    }


def _iso(moment: float) -> str:
    """Return a time as RFC 3339 has it, in whole milliseconds."""
    told = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return told.replace("+00:00", "Z")
