"""What was decided and must be remembered: the route, the rollouts, and facts by key."""

from __future__ import annotations

from typing import TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from steadynet.control.store import tables
from steadynet.control.store.upsert import upsert
from steadynet.rollout.route import Route

T = TypeVar("T")

# Asked many times a second: a statement that is made once is not compiled anew.
_FACT = sa.select(tables.facts.c.value_json).where(
    (tables.facts.c.model == sa.bindparam("of")) & (tables.facts.c.key == sa.bindparam("named"))
)
_ROUTE = sa.select(tables.routes.c.body).where(tables.routes.c.model == sa.bindparam("of"))
_NEWEST_ROLLOUT = (
    sa.select(tables.rollouts.c.body)
    .where(tables.rollouts.c.model == sa.bindparam("of"))
    .order_by(tables.rollouts.c.started.desc())
    .limit(1)
)
_RUNNING_ROLLOUT = _NEWEST_ROLLOUT.where(tables.rollouts.c.ended.is_(None))


class Decisions:
    """Routes, rollouts and facts of all models within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def route(self, model: str) -> Route | None:
        """Return the route that the model's workers shall apply."""
        body = self._connection.scalar(_ROUTE, {"of": model})
        return None if body is None else msgspec.msgpack.decode(body, type=Route)

    def save_route(self, route: Route) -> None:
        """Replace the model's route."""
        values = {
            "model": route.model,
            "generation": route.generation,
            "body": msgspec.msgpack.encode(route),
        }
        upsert(self._connection, tables.routes, [values], keys=("model",))

    def running_rollout(self, model: str, kind: type[T]) -> T | None:
        """Return the model's rollout that has not ended, as a `kind`."""
        return self._rollout(model, kind, _RUNNING_ROLLOUT)

    def last_rollout(self, model: str, kind: type[T]) -> T | None:
        """Return the model's newest rollout, ended or not, as a `kind`."""
        return self._rollout(model, kind, _NEWEST_ROLLOUT)

    def _rollout(self, model: str, kind: type[T], query: sa.Select[bytes]) -> T | None:
        body = self._connection.scalar(query, {"of": model})
        return None if body is None else msgspec.msgpack.decode(body, type=kind)

    def save_rollout(
        self,
        rollout: msgspec.Struct,
        *,
        rollout_id: str,
        model: str,
        started: float,
        ended: float | None,
    ) -> None:
        """Insert or replace a rollout."""
        values = {
            "id": rollout_id,
            "model": model,
            "started": started,
            "ended": ended,
            "body": msgspec.msgpack.encode(rollout),
        }
        upsert(self._connection, tables.rollouts, [values], keys=("id",))

    def fact(self, model: str, key: str, kind: type[T]) -> T | None:
        """Return what was remembered under the key, as a `kind`."""
        text = self._connection.scalar(_FACT, {"of": model, "named": key})
        return None if text is None else msgspec.json.decode(text, type=kind)

    def remember(self, model: str, key: str, value: object) -> None:
        """Remember a value that JSON can hold."""
        values = {
            "model": model,
            "key": key,
            "value_json": msgspec.json.encode(value).decode(),
        }
        upsert(self._connection, tables.facts, [values], keys=("model", "key"))
