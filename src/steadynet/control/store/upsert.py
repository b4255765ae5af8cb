"""Insert-or-update, in the dialect of the database at hand."""

from __future__ import annotations

from collections.abc import Sequence
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
    insert = _insert(connection, table)
    others = {name: insert.excluded[name] for name in values[0] if name not in keys}
    _send(connection, insert.on_conflict_do_update(index_elements=list(keys), set_=others), values)


def insert_new(
    connection: Connection, table: sa.Table, values: Sequence[dict[str, Any]], keys: Sequence[str]
) -> None:
    """Insert the rows whose `keys` do not exist yet; leave the others as they are."""
    insert = _insert(connection, table)
    _send(connection, insert.on_conflict_do_nothing(index_elements=list(keys)), values)


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


def _insert(connection: Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)
