"""What waits to be done or told: commands, alerts, deliveries of alerts."""

from __future__ import annotations

import secrets
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from steadynet.control.store import tables
from steadynet.control.store.upsert import upsert

CommandState = Literal["waiting", "done", "refused"]
DeliveryState = Literal["waiting", "done", "given_up"]


# Asked in every turn: a statement that is made once is not compiled anew.
_OF: sa.BindParameter[str] = sa.bindparam("of")
_WAITING = (
    sa.select(tables.commands)
    .where((tables.commands.c.model == _OF) & (tables.commands.c.state == "waiting"))
    .order_by(tables.commands.c.number)
)
_OPEN_ALERTS = (
    sa.select(tables.alerts)
    .where((tables.alerts.c.model == _OF) & tables.alerts.c.resolved.is_(None))
    .order_by(tables.alerts.c.opened)
)
_COUNTS = (
    sa.select(tables.deliveries.c.state, sa.func.count())
    .where((tables.deliveries.c.model == _OF) & (tables.deliveries.c.state != "done"))
    .group_by(tables.deliveries.c.state)
)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asked the controller to do."""

    number: int
    model: str
    at: float
    kind: str
    arguments: dict[str, Any]
    state: CommandState
    answer: str
    """What was done, or why it was refused."""


class StoredAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as it is kept."""

    model: str
    key: str
    opened: float
    resolved: float | None
    body: bytes
    """The alert itself, in MessagePack."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message that a webhook shall get."""

    number: int
    model: str
    message_id: str
    """The same in all attempts, and of no other message: its receiver drops what comes twice."""
    payload_json: str
    created: float
    attempts: int
    next_at: float


class Commands:
    """Commands of all models within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, model: str, *, at: float, kind: str, arguments: dict[str, Any]) -> int:
        """Queue a command; return its number."""
        values = {
            "model": model,
            "at": at,
            "kind": kind,
            "arguments_json": msgspec.json.encode(arguments).decode(),
            "state": "waiting",
            "answer": "",
        }
        result = self._connection.execute(sa.insert(tables.commands).values(values))
        assert result.inserted_primary_key is not None
        return int(result.inserted_primary_key[0])

    def waiting(self, model: str) -> list[Command]:
        """Return the model's commands that nobody has answered, oldest first."""
        return [_command(row) for row in self._connection.execute(_WAITING, {"of": model})]

    def get(self, number: int) -> Command | None:
        """Return one command."""
        commands = tables.commands
        row = self._connection.execute(
            sa.select(commands).where(commands.c.number == number)
        ).one_or_none()
        return None if row is None else _command(row)

    def answer(self, number: int, state: CommandState, answer: str) -> None:
        """Say what became of a command."""
        commands = tables.commands
        self._connection.execute(
            sa.update(commands)
            .where(commands.c.number == number)
            .values(state=state, answer=answer)
        )


class Alerts:
    """Alerts of all models within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def save(self, alert: StoredAlert) -> None:
        """Insert or replace an alert by model, key and time of opening."""
        values = msgspec.structs.asdict(alert)
        upsert(self._connection, tables.alerts, [values], keys=("model", "key", "opened"))

    def open(self, model: str) -> list[StoredAlert]:
        """Return the model's alerts that are not resolved, oldest first."""
        found = self._connection.execute(_OPEN_ALERTS, {"of": model})
        return [StoredAlert(**row._mapping) for row in found]

    def known(self, model: str, key: str) -> bool:
        """Tell whether an alert with this key was ever opened."""
        alerts = tables.alerts
        query = sa.select(alerts.c.key).where((alerts.c.model == model) & (alerts.c.key == key))
        return self._connection.scalar(query.limit(1)) is not None


class Deliveries:
    """Messages to webhooks of all models within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(
        self, model: str, payload_json: str, *, at: float, send_at: float | None = None
    ) -> None:
        """Queue a message, to go out at `send_at` or at once."""
        values = {
            "model": model,
            "message_id": new_message_id(),
            "payload_json": payload_json,
            "created": at,
            "attempts": 0,
            "next_at": at if send_at is None else send_at,
            "state": "waiting",
        }
        self._connection.execute(sa.insert(tables.deliveries).values(values))

    def rewrite(self, number: int, payload_json: str, *, send_at: float) -> None:
        """Put another message, with an id of its own, in the place of one that was never tried."""
        table = tables.deliveries
        self._connection.execute(
            sa.update(table)
            .where(table.c.number == number)
            .values(message_id=new_message_id(), payload_json=payload_json, next_at=send_at)
        )

    def hurry(self, number: int, now: float) -> None:
        """Let a message's next attempt be due at `now`, where it is later."""
        table = tables.deliveries
        late = (table.c.number == number) & (table.c.next_at > now)
        self._connection.execute(sa.update(table).where(late).values(next_at=now))

    def waiting(self, model: str, *, limit: int) -> list[Delivery]:
        """Return the messages that wait, due or not, oldest first."""
        return self._some(model, sa.true(), limit=limit)

    def due(self, model: str, now: float, *, limit: int) -> list[Delivery]:
        """Return messages whose next attempt is due, oldest first."""
        return self._some(model, tables.deliveries.c.next_at <= now, limit=limit)

    def _some(
        self, model: str, chosen: sa.ColumnElement[bool], *, limit: int | None
    ) -> list[Delivery]:
        table = tables.deliveries
        columns = [table.c[name] for name in Delivery.__struct_fields__]
        query = (
            sa.select(*columns)
            .where((table.c.model == model) & (table.c.state == "waiting") & chosen)
            .order_by(table.c.number)
            .limit(limit)
        )
        return [Delivery(**row._mapping) for row in self._connection.execute(query)]

    def count(self, model: str) -> dict[str, int]:
        """Return how many of the model's messages wait (`waiting`) and how many were given up."""
        found = self._connection.execute(_COUNTS, {"of": model})
        return {str(state): int(number) for state, number in found}

    def settle(
        self, delivery: Delivery, state: DeliveryState, *, attempts: int, next_at: float
    ) -> None:
        """Say what became of an attempt; nothing where the message was rewritten meanwhile."""
        table = tables.deliveries
        self._connection.execute(
            sa.update(table)
            .where(
                (table.c.number == delivery.number) & (table.c.message_id == delivery.message_id)
            )
            .values(state=state, attempts=attempts, next_at=next_at)
        )


def new_message_id() -> str:
    """Return an id that no other message has."""
    return f"msg_{secrets.token_hex(12)}"


def _command(row: sa.Row[tuple[Any, ...]]) -> Command:
    values = dict(row._mapping)
    arguments = msgspec.json.decode(values.pop("arguments_json"), type=dict[str, Any])
    return Command(arguments=arguments, **values)
