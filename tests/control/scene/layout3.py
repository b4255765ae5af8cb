"""A control store as the program with layout 3 left it: its tables and its data, in SQL of its own.

What stands here is the past: it is never brought up to date with `control.store.tables`.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from steadynet.control.store.databases import database_url

ROWS = 120
LABELLED = "row-7"
MESSAGES = ("drift", "quality", "slo/latency")
"""Keys of the alerts that wait to be told, each in a message of its own."""

TABLES = """
CREATE TABLE about (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE leases (model TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, token BIGINT NOT NULL,
    expires {double} NOT NULL);
CREATE TABLE journal (model TEXT NOT NULL, number BIGINT NOT NULL, at {double} NOT NULL,
    kind TEXT NOT NULL, text TEXT NOT NULL, data_json TEXT NOT NULL, previous TEXT NOT NULL,
    digest TEXT NOT NULL, PRIMARY KEY (model, number));
CREATE TABLE journal_heads (model TEXT NOT NULL PRIMARY KEY, number BIGINT NOT NULL,
    digest TEXT NOT NULL);
CREATE TABLE routes (model TEXT NOT NULL PRIMARY KEY, generation BIGINT NOT NULL,
    body {bytes} NOT NULL);
CREATE TABLE rollouts (id TEXT NOT NULL PRIMARY KEY, model TEXT NOT NULL, started {double} NOT NULL,
    ended {double}, body {bytes} NOT NULL);
CREATE INDEX rollouts_by_model ON rollouts (model, started);
CREATE TABLE facts (model TEXT NOT NULL, key TEXT NOT NULL, value_json TEXT NOT NULL,
    PRIMARY KEY (model, key));
CREATE TABLE cursors (model TEXT NOT NULL, kind TEXT NOT NULL, cursor_json TEXT NOT NULL,
    PRIMARY KEY (model, kind));
CREATE TABLE windows (model TEXT NOT NULL, version TEXT NOT NULL, role TEXT NOT NULL,
    bucket BIGINT NOT NULL, width INTEGER NOT NULL, start {double} NOT NULL,
    requests BIGINT NOT NULL, body {bytes} NOT NULL,
    PRIMARY KEY (model, version, role, bucket, width));
CREATE INDEX windows_by_start ON windows (model, start);
CREATE TABLE rows (number {number}, model TEXT NOT NULL, id TEXT NOT NULL, role TEXT NOT NULL,
    version TEXT NOT NULL, at {double} NOT NULL, body {bytes} NOT NULL,
    CONSTRAINT rows_by_id UNIQUE (model, id, role));
CREATE TABLE labels (number {number}, model TEXT NOT NULL, id TEXT NOT NULL,
    label_json TEXT NOT NULL, at {double} NOT NULL, value {double},
    influenced BOOLEAN DEFAULT false NOT NULL, CONSTRAINT labels_by_id UNIQUE (model, id));
CREATE TABLE joins (number {number}, model TEXT NOT NULL, row BIGINT NOT NULL UNIQUE,
    label BIGINT NOT NULL);
CREATE INDEX joins_by_model ON joins (model, number);
CREATE TABLE commands (number {number}, model TEXT NOT NULL, at {double} NOT NULL,
    kind TEXT NOT NULL, arguments_json TEXT NOT NULL, state TEXT NOT NULL, answer TEXT NOT NULL);
CREATE INDEX commands_by_state ON commands (model, state);
CREATE TABLE alerts (model TEXT NOT NULL, key TEXT NOT NULL, opened {double} NOT NULL,
    resolved {double}, body {bytes} NOT NULL, PRIMARY KEY (model, key, opened));
CREATE TABLE deliveries (number {number}, model TEXT NOT NULL, payload_json TEXT NOT NULL,
    created {double} NOT NULL, attempts INTEGER NOT NULL, next_at {double} NOT NULL,
    state TEXT NOT NULL);
CREATE INDEX deliveries_by_state ON deliveries (model, state);
INSERT INTO about VALUES ('schema_version', '3');
INSERT INTO journal VALUES ('m', 1, 1.0, 'champion', 'version 1 answers',
    '{{"steadynet":"0.1.0","version":"1"}}',
    '0000000000000000000000000000000000000000000000000000000000000000',
    'd2c0f210078fd65a357f7970f769a055dd27d0fe76a1ee4b5c195dce339d9a0a');
INSERT INTO journal_heads VALUES ('m', 1,
    'd2c0f210078fd65a357f7970f769a055dd27d0fe76a1ee4b5c195dce339d9a0a')
"""
WORDS = {
    "sqlite": {
        "number": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
        "double": "DOUBLE",
        "bytes": "BLOB",
    },
    "postgresql": {
        "number": "BIGSERIAL PRIMARY KEY",
        "double": "DOUBLE PRECISION",
        "bytes": "BYTEA",
    },
}


def make_layout3(url: str) -> None:
    """Fill an empty database as layout 3 had it: rows, labels, and messages that wait."""
    engine = sa.create_engine(database_url(url))
    with engine.begin() as connection:
        for statement in TABLES.format_map(WORDS[engine.dialect.name]).split(";\n"):
            connection.exec_driver_sql(statement)
        _add_rows(connection)
        _add_messages(connection)
    engine.dispose()


def layout_of(url: str) -> tuple[str, bool, bool]:
    """Return the layout's number, and whether messages have ids and rows have draws."""
    engine = sa.create_engine(database_url(url))
    with engine.connect() as connection:
        [number] = connection.scalars(sa.text("SELECT value FROM about"))
        look = sa.inspect(connection)
        named = {column["name"] for column in look.get_columns("deliveries")}
        kept = {column["name"] for column in look.get_columns("rows")}
    engine.dispose()
    return number, "message_id" in named, "draw" in kept


def _add_rows(connection: Connection) -> None:
    insert = sa.text(
        "INSERT INTO rows (model, id, role, version, at, body) "
        "VALUES ('m', :id, 'champion', '1', 10.0, :body)"
    )
    values: list[dict[str, str | bytes]] = []
    for number in range(ROWS):
        row = {"id": f"row-{number}", "at": 10.0, "version": "1", "role": "champion", "row": {}}
        values.append({"id": f"row-{number}", "body": msgspec.msgpack.encode(row)})
    connection.execute(insert, values)
    connection.execute(
        sa.text(
            "INSERT INTO labels (model, id, label_json, at, influenced) VALUES "
            f"('m', '{LABELLED}', '\"yes\"', 20.0, false), ('m', 'nobody', '\"no\"', 21.0, true)"
        )
    )
    connection.execute(
        sa.text(
            "INSERT INTO joins (model, row, label) SELECT 'm', rows.number, labels.number "
            "FROM rows JOIN labels ON rows.id = labels.id"
        )
    )


def _add_messages(connection: Connection) -> None:
    insert = sa.text(
        "INSERT INTO deliveries (model, payload_json, created, attempts, next_at, state) "
        "VALUES ('m', :payload, 30.0, 1, 32.0, :state)"
    )
    values = [
        {
            "payload": f'{{"event":"opened","alert":{{"id":"m/{key}/30","model":"m",'
            f'"key":"{key}","kind":"page","cause":"{key}","since":28.0,"opened":30.0,'
            '"seen":30.0,"resolved":null,"momentary":false,"quiet_s":300.0,'
            f'"summary":"{key} summary","done":"","todo":"","details":{{}}}}}}',
            "state": state,
        }
        for key, state in [*((key, "waiting") for key in MESSAGES), ("heal", "done")]
    ]
    connection.execute(insert, values)
