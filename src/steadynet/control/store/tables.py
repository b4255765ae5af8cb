"""The tables of the control store, and the number of their layout.

All timestamps are seconds UTC. Texts that hold JSON end in `_json`; `body` holds MessagePack.
"""

from __future__ import annotations

import sqlalchemy as sa

SCHEMA_VERSION = 5
"""Raise it with every change of a table, and add the step to `engine.MIGRATIONS`."""

metadata = sa.MetaData()

# Automatic numbers are INTEGER on SQLite (its row id) and BIGINT elsewhere.
_Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")

about = sa.Table(
    "about",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)

journal = sa.Table(
    "journal",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("data_json", sa.Text, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
)

journal_heads = sa.Table(
    "journal_heads",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
)

routes = sa.Table(
    "routes",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("started", sa.Double, nullable=False),
    sa.Column("ended", sa.Double),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("rollouts_by_model", "model", "started"),
)

facts = sa.Table(
    "facts",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value_json", sa.Text, nullable=False),
)

cursors = sa.Table(
    "cursors",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("cursor_json", sa.Text, nullable=False),
)

windows = sa.Table(
    "windows",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, primary_key=True),
    sa.Column("bucket", sa.BigInteger, primary_key=True),
    sa.Column("width", sa.Integer, primary_key=True),
    sa.Column("start", sa.Double, nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("windows_by_start", "model", "start"),
)

rows = sa.Table(
    "rows",
    metadata,
    sa.Column("number", _Number, primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("draw", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("model", "id", "role", name="rows_by_id"),
    sqlite_autoincrement=True,
)

labels = sa.Table(
    "labels",
    metadata,
    sa.Column("number", _Number, primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("label_json", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("influenced", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.UniqueConstraint("model", "id", name="labels_by_id"),
    sqlite_autoincrement=True,
)

joins = sa.Table(
    "joins",
    metadata,
    sa.Column("number", _Number, primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("row", sa.BigInteger, nullable=False, unique=True),
    sa.Column("label", sa.BigInteger, nullable=False),
    sa.Index("joins_by_model", "model", "number"),
    sqlite_autoincrement=True,
)

commands = sa.Table(
    "commands",
    metadata,
    sa.Column("number", _Number, primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("arguments_json", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Index("commands_by_state", "model", "state"),
    sqlite_autoincrement=True,
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("opened", sa.Double, primary_key=True),
    sa.Column("resolved", sa.Double),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("number", _Number, primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("message_id", sa.Text, nullable=False, server_default=""),
    sa.Column("payload_json", sa.Text, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", sa.Double, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Index("deliveries_by_state", "model", "state"),
    sqlite_autoincrement=True,
)
