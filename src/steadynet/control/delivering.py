"""Alerts on their way to the webhook."""

from __future__ import annotations

from steadynet.control.signing import WebhookKeys
from steadynet.control.store import DeliveryState
from steadynet.control.turn import Turn
from steadynet.control.webhook import MOST_ATTEMPTS, Courier, wait_after


class Delivering:
    """Posts what waits in the store, one message at a time."""

    def __init__(self, url: str | None, keys: WebhookKeys) -> None:
        self._courier = None if url is None else Courier(url, keys)

    def advance(self, turn: Turn) -> None:
        """Settle the attempt that has ended and start the next one that is due."""
        courier = self._courier
        if courier is None:
            return
        settled = courier.collect()
        if settled is not None:
            delivery, problem = settled
            attempts = delivery.attempts + 1
            given_up = problem is not None and attempts >= MOST_ATTEMPTS
            state: DeliveryState = (
                "done" if problem is None else "given_up" if given_up else "waiting"
            )
            with turn.write() as tx:
                tx.deliveries.settle(
                    delivery.number,
                    state,
                    attempts=attempts,
                    next_at=turn.now + wait_after(attempts),
                )
                if given_up or (problem is not None and attempts == 1):
                    word = "given up" if given_up else "tried again later"
                    tx.journal.append(
                        turn.model,
                        at=turn.now,
                        kind="alert.undelivered",
                        text=f"an alert could not be delivered and is {word}: {problem}",
                        data={"delivery": delivery.number, "attempts": attempts},
                    )
        if courier.idle:
            with turn.store.read() as tx:
                due = tx.deliveries.due(turn.model, turn.now, limit=1)
            if due:
                courier.post(due[0], turn.now)

    def close(self) -> None:
        """Stop; what was not settled is sent again by the next controller."""
        if self._courier is not None:
            self._courier.close()
