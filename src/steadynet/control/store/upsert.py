"""Insert-or-update, in the dialect of the database at hand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

FEW = 10
"""Fewer rows than this are sent by a statement that is compiled already."""


def upsert(
    connection: Connection, table: sa.Table, values: Sequence[dict[str, Any]], keys: Sequence[str]
) -> None:
    """Insert rows; where `keys` exist already, set the row's other columns instead."""
    others = tuple(name for name in values[0] if name not in keys)
    _send(connection, _insert(connection.dialect.name, table, tuple(keys), others), values)


def insert_new(
    connection: Connection, table: sa.Table, values: Sequence[dict[str, Any]], keys: Sequence[str]
) -> None:
    """Insert the rows whose `keys` do not exist yet; leave the others as they are."""
    _send(connection, _insert(connection.dialect.name, table, tuple(keys), ()), values)


def _send(
    connection: Connection,
    insert: sqlite.Insert | postgresql.Insert,
    values: Sequence[dict[str, Any]],
) -> None:
    """Hand rows to the driver as they are: thousands a second come this way."""
    if len(values) < FEW:
        connection.execute(insert, list(values))
        return
    compiled = insert.compile(dialect=connection.dialect, column_keys=list(values[0]))
    names = compiled.positiontup
    if names is None:
        connection.exec_driver_sql(str(compiled), list(values))
    else:
        connection.exec_driver_sql(str(compiled), list(map(itemgetter(*names), values)))


@lru_cache(maxsize=64)
def _insert(
    dialect: str, table: sa.Table, keys: tuple[str, ...], others: tuple[str, ...]
) -> sqlite.Insert | postgresql.Insert:
    """Return the statement. A dozen a second are sent; making one costs more than sending it."""
    insert = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    if not others:
        return insert.on_conflict_do_nothing(index_elements=list(keys))
    replaced = {name: insert.excluded[name] for name in others}
    return insert.on_conflict_do_update(index_elements=list(keys), set_=replaced)
