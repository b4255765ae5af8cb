"""How each database begins its transactions, so that the store's invariants hold on all of them.

- One writer at a time: SQLite takes the file's write lock (BEGIN IMMEDIATE); on PostgreSQL writers
  take an advisory lock first.
- A reader sees one state: a transaction in WAL mode; REPEATABLE READ.
- A commit survives: synchronous=FULL; the server's own synchronous_commit.
- A writer that sleeps within a transaction keeps SQLite's lock until it wakes or dies; PostgreSQL
  ends its transaction after `SLEEP_LIMIT_S`.
"""

from __future__ import annotations

import sqlite3
from importlib.util import find_spec
from types import MappingProxyType

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from steadynet.errors import MissingDependency, UserError

BUSY_TIMEOUT_S = 10.0
SLEEP_LIMIT_S = 10.0
"""How long a writer may do nothing within a transaction before PostgreSQL ends it."""
LIMITS = MappingProxyType({"connect_timeout": 10, "tcp_user_timeout": 10_000})
"""How long a silent server is waited for, in libpq's own units; the URL may say otherwise."""
CACHE_KB = 16_384
"""What SQLite may keep of the file in memory, per connection."""
CHECKPOINT_PAGES = 4_000
"""Pages of 4 KB in SQLite's log from which they are brought into the file. A page of the index of
ids is written many times until then, and into the file once."""
WRITES = "steadynet_writes"
"""Execution option of a connection: whether its transaction writes."""
WRITER_LOCK = 0x5EAD_0001
"""The advisory lock of writers; one database holds one control store."""
POSTGRESQL = "postgresql"


def database_url(text: str | URL) -> URL:
    """Return a database's URL with the driver that is used for it.

    Raises `UserError` where it is none of SQLite or PostgreSQL (the text, which may hold a
    password, is not shown) and `MissingDependency` where the driver is not installed.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UserError(
            "the control store's URL cannot be read",
            expected="postgresql://user:password@host/database or sqlite:///file",
        ) from None
    if url.get_backend_name() in (POSTGRESQL, "postgres"):
        if find_spec("psycopg") is None:
            raise MissingDependency("psycopg", "postgres")
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite":
        return url
    raise UserError(
        "the control store is kept in another kind of database",
        expected="a URL that begins with postgresql:// or sqlite:///",
        got=url.get_backend_name(),
    )


def shown(url: URL) -> str:
    """Return a URL for people: without its password, and without parameters, which may hold one."""
    return url.set(query={}).render_as_string(hide_password=True)


def make_engine(url: URL) -> Engine:
    """Return an engine whose connections begin their transactions as the module says."""
    if url.get_backend_name() == POSTGRESQL:
        given = {key: value for key, value in LIMITS.items() if key not in url.query}
        engine = sa.create_engine(url, pool_pre_ping=True, connect_args=given)
        sa.event.listen(engine, "begin", _begin_postgresql)
        return engine
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _begin_postgresql(connection: Connection) -> None:
    if not connection.get_execution_options().get(WRITES, False):
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return
    # What is read after the lock is what the last writer committed: READ COMMITTED looks anew
    # with each statement.
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(1000 * BUSY_TIMEOUT_S)}")
    connection.exec_driver_sql(
        f"SET LOCAL idle_in_transaction_session_timeout = {int(1000 * SLEEP_LIMIT_S)}"
    )
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    # The driver shall not begin transactions by itself: `_begin_sqlite` says how they begin.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL").close()
    connection.execute("PRAGMA synchronous=FULL").close()
    # Ids are random, so that a second's rows touch a thousand pages of their index.
    connection.execute(f"PRAGMA cache_size=-{CACHE_KB}").close()
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}").close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
