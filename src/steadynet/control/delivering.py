"""Alerts on their way to the receiver: what waits in the store, and what must be said again.

Invariants:
- A message is in the store from the decision to the receiver's word that it has it.
- Messages of one alert arrive in the order in which they were decided: one waits until no earlier
  one of its alerts does, so that none is told as open that has ended.
- Alertmanager is told of open alerts again and again, since it forgets them otherwise; of those
  that have ended, once. What it is told anew is read from the store, so a message that was late
  opens no alert again that has ended meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

import msgspec

from steadynet.control.signing import WebhookKeys
from steadynet.control.store import Delivery, DeliveryState
from steadynet.control.turn import Turn
from steadynet.control.webhook import MOST_ATTEMPTS, Courier, wait_after
from steadynet.monitoring.messages import RENEW_S, Message, body_of
from steadynet.monitoring.reports import Alert
from steadynet.spec.operating import AlertsSpec

ALERTMANAGER_PATH = "/api/v2/alerts"
MOST_WAITING = 1000
"""Messages that are looked at when the next one is chosen: far more than two hours make."""


def address_of(url: str, alerts: AlertsSpec) -> str:
    """Return where messages go: of Alertmanager its API, below the address that was named."""
    parts = urlsplit(url)
    if alerts.format != "alertmanager" or parts.path.endswith(ALERTMANAGER_PATH):
        return url
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + ALERTMANAGER_PATH))


def next_in_order(waiting: Iterable[Delivery], now: float) -> tuple[Delivery, Message] | None:
    """Return the first message that is due and that follows no other one of its alerts. Pure.

    `waiting` are all that wait, oldest first, due or not.
    """
    before: set[str] = set()
    for delivery in waiting:
        message = msgspec.json.decode(delivery.payload_json, type=Message)
        own = {alert.id for alert in message.alerts}
        if delivery.next_at <= now and not own & before:
            return delivery, message
        before |= own
    return None


class Delivering:
    """Posts what waits in the store, one message at a time."""

    def __init__(self, alerts: AlertsSpec, keys: WebhookKeys) -> None:
        url = alerts.webhook
        self._courier = None if url is None else Courier(address_of(url, alerts))
        self._alerts = alerts
        self._keys = keys
        self._renewed = float("-inf")
        self._renewals_fail = False

    def advance(self, turn: Turn) -> None:
        """Settle the attempt that has ended and start the next one that is due."""
        courier = self._courier
        if courier is None:
            return
        ended = courier.collect()
        if ended is not None:
            delivery, problem = ended
            if delivery is None:
                self._note_renewal(turn, problem)
            else:
                _settle(turn, delivery, problem)
        if courier.idle and not self._post_waiting(turn, courier):
            self._renew(turn, courier)

    def close(self) -> None:
        """Stop; what was not settled is sent again by the next controller."""
        if self._courier is not None:
            self._courier.close()

    def _post_waiting(self, turn: Turn, courier: Courier) -> bool:
        """Start an attempt of the next message in order; tell whether there was one."""
        with turn.store.read() as tx:
            if not tx.deliveries.due(turn.model, turn.now, limit=1):
                return False
            waiting = tx.deliveries.waiting(turn.model, limit=MOST_WAITING)
        found = next_in_order(waiting, turn.now)
        if found is None:
            return False
        delivery, message = found
        if self._alerts.format == "alertmanager" and message.event == "opened":
            open_ids = {alert.id for alert in _open_alerts(turn)}
            still = tuple(alert for alert in message.alerts if alert.id in open_ids)
            message = msgspec.structs.replace(message, alerts=still)
        if not message.alerts:
            with turn.write() as tx:
                tx.deliveries.settle(delivery, "done", attempts=delivery.attempts, next_at=turn.now)
            return True
        self._post(turn, courier, delivery, message)
        return True

    def _renew(self, turn: Turn, courier: Courier) -> None:
        """Tell Alertmanager of all open alerts, where it is time to."""
        if self._alerts.format != "alertmanager" or 0 <= turn.now - self._renewed < RENEW_S:
            return
        self._renewed = turn.now
        alerts = _open_alerts(turn)
        if alerts:
            message = Message(model=turn.model, event="open", at=turn.now, alerts=alerts)
            self._post(turn, courier, None, message)

    def _post(
        self, turn: Turn, courier: Courier, delivery: Delivery | None, message: Message
    ) -> None:
        body = body_of(message, self._alerts.format, self._alerts.runbooks, turn.now)
        headers = {}
        if delivery is not None and self._alerts.format == "standard":
            headers = self._keys.headers(delivery.message_id, body, turn.now)
        courier.post(delivery, body, headers)

    def _note_renewal(self, turn: Turn, problem: str | None) -> None:
        """Write down when Alertmanager begins not to take renewals."""
        if problem is not None and not self._renewals_fail:
            with turn.write() as tx:
                tx.journal.append(
                    turn.model,
                    at=turn.now,
                    kind="alert.undelivered",
                    text=f"open alerts could not be told again, and soon count as over: {problem}",
                    data={},
                )
        self._renewals_fail = problem is not None


def _open_alerts(turn: Turn) -> tuple[Alert, ...]:
    """Return the open alerts that people are told of, as they know them."""
    with turn.store.read() as tx:
        stored = tx.alerts.open(turn.model)
    alerts = (msgspec.msgpack.decode(item.body, type=Alert) for item in stored)
    return tuple(
        msgspec.structs.replace(alert, kind="ticket") if alert.kept_back else alert
        for alert in alerts
        if alert.told
    )


def _settle(turn: Turn, delivery: Delivery, problem: str | None) -> None:
    """Keep what became of an attempt; the first failure and the last are written down."""
    attempts = delivery.attempts + 1
    given_up = problem is not None and attempts >= MOST_ATTEMPTS
    state: DeliveryState = "done" if problem is None else "given_up" if given_up else "waiting"
    with turn.write() as tx:
        next_at = turn.now + wait_after(attempts)
        tx.deliveries.settle(delivery, state, attempts=attempts, next_at=next_at)
        if given_up or (problem is not None and attempts == 1):
            word = "given up" if given_up else "tried again later"
            tx.journal.append(
                turn.model,
                at=turn.now,
                kind="alert.undelivered",
                text=f"an alert could not be delivered and is {word}: {problem}",
                data={"delivery": delivery.number, "attempts": attempts},
            )
