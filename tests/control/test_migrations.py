"""An old layout of the store is brought up to date, in SQLite and in a PostgreSQL server."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from layout3 import LABELLED, MESSAGES, ROWS, layout_of, make_layout3

from steadynet.control.journal import find_breaks
from steadynet.control.store import Retention, Store
from steadynet.control.store.tables import SCHEMA_VERSION
from steadynet.monitoring.messages import Message
from steadynet.monitoring.records import LoggedRow

PRESENT = (str(SCHEMA_VERSION), True, True)


@pytest.fixture
def old_url(any_url: str) -> str:
    """A database with layout 3 and what a running server had put into it."""
    make_layout3(any_url)
    return any_url


def test_what_an_old_layout_holds_is_kept(old_url: str) -> None:
    assert layout_of(old_url) == ("3", False, False)
    with Store(old_url) as store, store.write() as tx:
        check_content(store)
        # What the new layout does works on the old rows: draws keep an even sample of them.
        kept = Retention(newest=10, labelled=5, waiting=20, spread_since=0.0, oldest=0.0)
        dropped = tx.observations.drop_rows("m", kept)
        assert dropped == ROWS - 10 - 1 - 20
        assert [item.row.id for item in tx.observations.labelled("m", limit=9)] == [LABELLED]
        tx.observations.add_rows(
            "m", [LoggedRow(id="new", at=40.0, version="1", role="champion", row={})]
        )
        numbers = [number for number, _ in tx.observations.rows_after("m", after=0, limit=99)]
        assert max(numbers) == ROWS + 1
    assert layout_of(old_url) == PRESENT


def check_content(store: Store) -> None:
    """Assert that rows, labels, messages and the journal are those of layout 3."""
    with store.read() as tx:
        rows = tx.observations.rows_after("m", after=0, limit=2 * ROWS)
        labelled = tx.observations.labelled("m", limit=9)
        waiting = tx.deliveries.due("m", 32.0, limit=9)
        assert find_breaks(tx.journal.all("m"), tx.journal.head("m")) == []
        assert tx.observations.count_unknown_labels("m") == 1
    assert [row.id for _, row in rows] == [f"row-{number}" for number in range(ROWS)]
    assert [(item.row.id, item.label, item.labelled_at) for item in labelled] == [
        (LABELLED, "yes", 20.0)
    ]
    messages = [msgspec.json.decode(item.payload_json, type=Message) for item in waiting]
    assert [[alert.key for alert in message.alerts] for message in messages] == [
        [key] for key in MESSAGES
    ]
    assert {
        (item.attempts, message.event, message.at)
        for item, message in zip(waiting, messages, strict=True)
    } == {(1, "opened", 30.0)}
    assert len({item.message_id for item in waiting}) == len(MESSAGES)
    assert all(item.message_id.startswith("msg_") for item in waiting)


DIE = """
import os, signal, sys
import sqlalchemy as sa
from steadynet.control.store import Store

seen = 0

def die(connection, cursor, statement, parameters, context, many):
    global seen
    seen += statement.startswith(sys.argv[2])
    if seen == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

sa.event.listen(sa.Engine, "before_cursor_execute", die)
Store(sys.argv[1])
"""


@pytest.mark.parametrize(
    ("statement", "count"),
    [("UPDATE deliveries", 2), ("UPDATE rows", 1), ("UPDATE about", 1)],
    ids=["within the first step", "within the second step", "before the number"],
)
def test_a_kill_in_the_middle_leaves_the_old_layout(
    old_url: str, statement: str, count: int
) -> None:
    command = [sys.executable, "-c", DIE, old_url, statement, str(count)]
    died = subprocess.run(command, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert layout_of(old_url) == ("3", False, False)
    with Store(old_url) as store:
        check_content(store)
    assert layout_of(old_url) == PRESENT


def test_two_programs_that_start_at_once_change_it_once(old_url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        for opened in pool.map(Store, [old_url] * 2):
            with opened:
                check_content(opened)
    assert layout_of(old_url) == PRESENT
