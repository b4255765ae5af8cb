"""Opening the control store, and its transactions.

Invariants:
- A writing transaction takes the write lock at its start: what it reads stays true until it
  commits, and two writers never deadlock.
- A transaction that is given a lease does nothing unless that lease is still held (fencing).
- A commit survives the death of the process and of the machine.
- Every database error leaves here as a `StoreError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import SQLAlchemyError

from steadynet.control.store import tables
from steadynet.control.store.databases import (
    BUSY_TIMEOUT_S,
    WRITES,
    database_url,
    make_engine,
    shown,
)
from steadynet.control.store.lease import Lease, check_lease
from steadynet.control.store.outbox import new_message_id
from steadynet.control.store.place import store_url
from steadynet.control.store.retention import draw_of
from steadynet.control.store.transaction import Transaction
from steadynet.errors import StoreError
from steadynet.home import Home


def _add_values(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE labels ADD COLUMN value DOUBLE PRECISION")


def _add_influenced(connection: Connection) -> None:
    connection.exec_driver_sql(
        "ALTER TABLE labels ADD COLUMN influenced BOOLEAN DEFAULT false NOT NULL"
    )


def _name_messages(connection: Connection) -> None:
    """Give messages ids, and room for several alerts."""
    connection.exec_driver_sql(
        "ALTER TABLE deliveries ADD COLUMN message_id TEXT DEFAULT '' NOT NULL"
    )
    table = tables.deliveries
    for row in connection.execute(sa.select(table).where(table.c.state == "waiting")).all():
        told = msgspec.json.decode(row.payload_json)
        message = {
            "model": row.model,
            "event": told["event"],
            "at": row.created,
            "alerts": [told["alert"]],
        }
        connection.execute(
            sa.update(table)
            .where(table.c.number == row.number)
            .values(message_id=new_message_id(), payload_json=msgspec.json.encode(message).decode())
        )


def _add_draws(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE rows ADD COLUMN draw BIGINT DEFAULT 0 NOT NULL")
    rows = tables.rows
    drawn = sa.update(rows).where(rows.c.number == sa.bindparam("row"))
    values = [
        {"row": number, "draw": draw_of(row_id)}
        for number, row_id in connection.execute(sa.select(rows.c.number, rows.c.id))
    ]
    if values:
        connection.execute(drawn.values(draw=sa.bindparam("draw")), values)


MIGRATIONS: MappingProxyType[int, Callable[[Connection], None]] = MappingProxyType(
    {1: _add_values, 2: _add_influenced, 3: _name_messages, 4: _add_draws}
)
"""Layout number → the step that makes the next layout of it."""


class Store:
    """The control store behind a database URL; an SQLite file is made where there is none."""

    def __init__(self, url: str | URL) -> None:
        """Open the database and bring its tables to this version's layout.

        Raises `StoreError` where it cannot be opened, is damaged or is of a newer version, and
        `UserError` where the URL is none of a database that is known.
        """
        self._url = database_url(url)
        self._engine = make_engine(self._url)
        with ExitStack() as on_error:
            on_error.callback(self.close)
            with self._transaction(writes=True) as connection:
                _bring_up_to_date(connection)
            on_error.pop_all()

    @classmethod
    def of(cls, home: Home) -> Store:
        """Open the home's store; see `place.store_url`."""
        url = store_url(home)
        if url.get_backend_name() == "sqlite" and url.database is not None:
            return cls.at(Path(url.database))
        return cls(url)

    @classmethod
    def at(cls, path: Path) -> Store:
        """Open the SQLite file at `path`."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the folder {path.parent} cannot be made", got=error.strerror or str(error)
            ) from error
        return cls(URL.create("sqlite", database=str(path)))

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a transaction that sees one state of the database throughout."""
        with self._transaction(writes=False) as connection:
            yield Transaction(connection)

    @contextmanager
    def write(self, lease: Lease | None = None) -> Iterator[Transaction]:
        """Open a transaction that commits when the block ends and undoes all on an error.

        Raises `LeaseLost` where `lease` is given and is no longer held, before anything is done.
        """
        with self._transaction(writes=True) as connection:
            if lease is not None:
                check_lease(connection, lease)
            yield Transaction(connection)

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        try:
            with (
                self._engine.connect().execution_options(**{WRITES: writes}) as connection,
                connection.begin(),
            ):
                yield connection
        except SQLAlchemyError as error:
            raise self._translated(error) from error

    def _translated(self, error: SQLAlchemyError) -> StoreError:
        text = str(error.__cause__ or error).splitlines()[0]
        where = shown(self._url)
        damaged = "malformed" in text or "not a database" in text or "disk I/O" in text
        if damaged:
            return StoreError(
                f"the control database {where} is damaged",
                got=text,
                do="Stop the server, move the file and its -wal and -shm neighbours away, and "
                "start again: models, versions and aliases are kept elsewhere and stay; the "
                "journal, logged rows and a running rollout are lost unless you restore a copy.",
            )
        if "locked" in text or "lock timeout" in text:
            return StoreError(
                f"the control database {where} is busy",
                expected=f"the write lock within {BUSY_TIMEOUT_S:.0f} s",
                got=text,
                do="See which other process holds it (fuser; pg_stat_activity), and try again.",
            )
        return StoreError(f"the control database {where} could not be used", got=text)


def _bring_up_to_date(connection: Connection) -> None:
    tables.metadata.create_all(connection, tables=[tables.about])
    key = "schema_version"
    found = connection.scalar(sa.select(tables.about.c.value).where(tables.about.c.key == key))
    if found is None:
        tables.metadata.create_all(connection)
        connection.execute(
            sa.insert(tables.about).values(key=key, value=str(tables.SCHEMA_VERSION))
        )
        return
    version = int(found)
    if version > tables.SCHEMA_VERSION:
        raise StoreError(
            "the control database was written by a newer steadynet",
            expected=f"layout {tables.SCHEMA_VERSION} or older",
            got=f"layout {version}",
            do="Install that version or a newer one.",
        )
    while version < tables.SCHEMA_VERSION:
        MIGRATIONS[version](connection)
        version += 1
    connection.execute(
        sa.update(tables.about).where(tables.about.c.key == key).values(value=str(version))
    )
