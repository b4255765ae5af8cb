"""Insert-or-update, in the dialect of the database at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection


def upsert(
    connection: Connection, table: sa.Table, values: Sequence[dict[str, Any]], keys: Sequence[str]
) -> None:
    """Insert rows; where `keys` exist already, set the row's other columns instead."""
    insert = _insert(connection, table)
    others = {name: insert.excluded[name] for name in values[0] if name not in keys}
    connection.execute(
        insert.on_conflict_do_update(index_elements=list(keys), set_=others), list(values)
    )


def insert_new(
    connection: Connection, table: sa.Table, values: Sequence[dict[str, Any]], keys: Sequence[str]
) -> None:
    """Insert the rows whose `keys` do not exist yet; leave the others as they are."""
    insert = _insert(connection, table).on_conflict_do_nothing(index_elements=list(keys))
    compiled = insert.compile(dialect=connection.dialect, column_keys=list(values[0]))
    # Thousands of rows a second come this way: they go to the driver as they are.
    if compiled.positiontup is None:
        connection.exec_driver_sql(str(compiled), list(values))
        return
    names = compiled.positiontup
    connection.exec_driver_sql(
        str(compiled), [tuple(row[name] for name in names) for row in values]
    )


def _insert(connection: Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)
