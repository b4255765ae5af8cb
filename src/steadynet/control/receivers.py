"""The receivers of alerts that a spec names, and one test alert through each of them.

The test takes the way that alerts take: the same body, address, headers and signature, sent once
and not kept. A Standard Webhook is told at once that the alert is over, where it was taken, so that
no incident is left open; Alertmanager forgets it by itself after `messages.EXPIRE_S`.
"""

from __future__ import annotations

import msgspec

from steadynet.control.delivering import address_of
from steadynet.control.signing import WebhookKeys
from steadynet.control.store.outbox import new_message_id
from steadynet.control.webhook import mask_url, post_json
from steadynet.monitoring.messages import Event, Message, body_of
from steadynet.monitoring.reports import Alert, AlertKind
from steadynet.monitoring.runbooks import TEST, runbook_of
from steadynet.spec.operating import AlertFormat, AlertsSpec


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a test alert at one receiver."""

    receiver: str
    """Its URL without what may be a secret."""
    format: AlertFormat
    signed: bool
    alert: str
    """The alert's id."""
    problem: str = ""
    """Why it was not taken; empty where it was."""


def try_receivers(
    model: str, alerts: AlertsSpec, keys: WebhookKeys, *, kind: AlertKind, now: float
) -> tuple[Tried, ...]:
    """Send a test alert of a model to each receiver that `alerts` names; none where it names none.

    `now` is in seconds UTC. Waits for each receiver for `webhook.TIMEOUT_S` at most.
    """
    if alerts.webhook is None:
        return ()
    alert = _test_alert(model, kind, now)
    problem = _post(alert, "opened", alerts, keys, now)
    if problem is None and alerts.format == "standard":
        over = msgspec.structs.replace(alert, resolved=now)
        problem = _post(over, "resolved", alerts, keys, now)
    return (
        Tried(
            receiver=mask_url(alerts.webhook),
            format=alerts.format,
            signed=alerts.format == "standard" and bool(keys),
            alert=alert.id,
            problem=problem or "",
        ),
    )


def _test_alert(model: str, kind: AlertKind, now: float) -> Alert:
    return Alert(
        id=f"{model}/{TEST}/{int(now)}",
        model=model,
        key=TEST,
        kind=kind,
        cause="TEST, nothing is wrong",
        since=now,
        opened=now,
        seen=now,
        summary="TEST: somebody wants to see whether alerts arrive. Nothing is wrong.",
        todo=runbook_of(TEST).todo,
        details={"test": "yes"},
    )


def _post(
    alert: Alert, event: Event, alerts: AlertsSpec, keys: WebhookKeys, now: float
) -> str | None:
    assert alerts.webhook is not None
    message = Message(model=alert.model, event=event, at=now, alerts=(alert,))
    body = body_of(message, alerts.format, alerts.runbooks, now)
    headers = keys.headers(new_message_id(), body, now) if alerts.format == "standard" else {}
    return post_json(address_of(alerts.webhook, alerts), body, headers)
