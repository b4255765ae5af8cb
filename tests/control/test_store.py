"""The control store's invariants, in real databases: SQLite's files and a PostgreSQL server."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.control.journal import find_breaks
from steadynet.control.store import Retention, Store, StoredAlert
from steadynet.errors import LeaseLost, StoreError
from steadynet.monitoring.messages import Message
from steadynet.monitoring.records import Feedback, LoggedRow
from steadynet.monitoring.windows import Role, Window, merge
from steadynet.rollout.route import Endpoint, Route
from steadynet.runtime.spool import SpoolWriter, forget, read_spool


def window(start: float, requests: int = 1, role: Role = "champion", version: str = "1") -> Window:
    return Window(
        model="m", version=version, role=role, start=start, end=start + 1, requests=requests
    )


def row(row_id: str, role: Role = "champion", at: float = 10.0, version: str = "1") -> LoggedRow:
    return LoggedRow(
        id=row_id, at=at, version=version, role=role, row={"a": 1.5, "b": None, "c": "x"}
    )


# opening


def test_a_store_is_kept_between_openings(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "control.db"
    with Store.at(path) as first, first.write() as tx:
        tx.decisions.remember("m", "key", {"a": [1, 2]})
    with Store.at(path) as second, second.read() as tx:
        assert tx.decisions.fact("m", "key", dict[str, list[int]]) == {"a": [1, 2]}


def test_a_file_that_is_no_database_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(StoreError, match=r"control\.db is damaged.*move the file"):
        Store.at(path)


def test_a_torn_database_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    with Store.at(path) as store, store.write() as tx:
        tx.observations.add_rows("m", [row(str(i)) for i in range(3000)])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    with pytest.raises(StoreError, match="damaged"):
        count_labelled(path)


def count_labelled(path: Path) -> int:
    with Store.at(path) as store, store.read() as tx:
        return len(tx.observations.labelled("m", limit=10))


def test_the_first_layout_is_brought_up_to_date_and_keeps_its_labels(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    with Store.at(path) as store, store.write() as tx:
        tx.observations.add_labels("m", [Feedback(id="a", label="yes", at=1.0)], now=2.0)
        for key in ("drift", "quality"):
            alert = f'{{"id":"m/{key}/0","model":"m","key":"{key}","kind":"page","cause":"{key}",'
            alert += '"since":0.0,"opened":0.0,"seen":0.0}'
            tx.deliveries.send("m", f'{{"event":"opened","alert":{alert}}}', at=0.0)
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE labels DROP COLUMN value")
    connection.execute("ALTER TABLE labels DROP COLUMN influenced")
    connection.execute("ALTER TABLE deliveries DROP COLUMN message_id")
    connection.execute("ALTER TABLE rows DROP COLUMN draw")
    connection.execute("UPDATE about SET value = '1' WHERE key = 'schema_version'")
    connection.commit()
    connection.close()
    row = LoggedRow(id="a", at=0.5, version="1", role="champion", row={})
    with Store.at(path) as store, store.write() as tx:
        tx.observations.add_labels("m", [Feedback(id="b", label="no", value=2.5)], now=3.0)
        later = msgspec.structs.replace(row, id="b")
        tx.observations.add_rows("m", [row, later])
        found = tx.observations.labelled_after("m", after=0, limit=9)
        first, second = tx.deliveries.due("m", 0.0, limit=9)
    assert first.message_id.startswith("msg_")
    assert msgspec.json.decode(second.payload_json, type=Message).alerts[0].key == "quality"
    assert first.message_id != second.message_id
    assert [(item.row.id, item.label, item.value) for item in found] == [
        ("a", "yes", None),
        ("b", "no", 2.5),
    ]


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    Store.at(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE about SET value = '99' WHERE key = 'schema_version'")
    connection.close()
    with pytest.raises(StoreError, match="newer steadynet"):
        Store.at(path)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        Store.at(tmp_path / "file" / "control.db")


def test_an_error_in_a_transaction_undoes_all_of_it(store: Store) -> None:
    def fail_midway() -> None:
        with store.write() as tx:
            tx.decisions.remember("m", "key", 1)
            tx.journal.append("m", at=1.0, kind="k", text="t", data={})
            raise KeyError("midway")

    with pytest.raises(KeyError):
        fail_midway()
    with store.read() as tx:
        assert tx.decisions.fact("m", "key", int) is None
        assert tx.journal.head("m") is None


# the journal


def test_journals_of_two_models_are_chained_apart(store: Store) -> None:
    with store.write() as tx:
        for number in range(5):
            for model in ("a", "b"):
                tx.journal.append(model, at=number / 3, kind="k", text="t", data={"n": number / 7})
    with store.read() as tx:
        for model in ("a", "b"):
            entries = list(tx.journal.all(model))
            assert [entry.number for entry in entries] == [1, 2, 3, 4, 5]
            assert find_breaks(entries, tx.journal.head(model)) == []
        assert [entry.number for entry in tx.journal.last("a", 2)] == [4, 5]
        assert tx.journal.last("a", 2, kinds="other%") == []
        assert tx.journal.kinds_after("a", 0) == {"k": 5}
        assert tx.journal.kinds_after("a", 3) == {"k": 2}
        assert tx.journal.kinds_after("a", 5) == {}


def test_a_change_behind_the_stores_back_is_found(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    with Store.at(path) as store:
        with store.write() as tx:
            tx.journal.append("m", at=1.0, kind="k", text="2 % errors", data={})
            tx.journal.append("m", at=2.0, kind="k", text="rolled back", data={})
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE journal SET text = '0 % errors' WHERE number = 1")
        connection.close()
        with store.read() as tx:
            problems = find_breaks(tx.journal.all("m"), tx.journal.head("m"))
    assert problems == ["entry 1 was changed"]


def test_two_writers_keep_one_chain(any_url: str) -> None:
    def write() -> None:
        with Store(any_url) as store:
            for _ in range(25):
                with store.write() as tx:
                    tx.journal.append("m", at=1.0, kind="k", text="t", data={})

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Store(any_url) as store, store.read() as tx:
        entries = list(tx.journal.all("m"))
        assert len(entries) == 75
        assert find_breaks(entries, tx.journal.head("m")) == []


def test_a_reader_sees_one_state_throughout(any_url: str) -> None:
    with Store(any_url) as store, store.write() as tx:
        tx.decisions.remember("m", "key", 1)
    with Store(any_url) as reader, Store(any_url) as writer, reader.read() as seen:
        assert seen.decisions.fact("m", "key", int) == 1
        with writer.write() as tx:
            tx.decisions.remember("m", "key", 2)
        assert seen.decisions.fact("m", "key", int) == 1


# the lease


def test_one_of_two_holders_gets_the_lease(store: Store) -> None:
    with store.write() as tx:
        first = tx.acquire_lease("m", "a", now=100.0, length_s=5.0)
        assert first is not None
        assert tx.acquire_lease("m", "b", now=104.9, length_s=5.0) is None
        assert tx.acquire_lease("other", "b", now=104.9, length_s=5.0) is not None
        again = tx.acquire_lease("m", "a", now=104.0, length_s=5.0)
    assert again is not None
    assert (again.token, again.expires) == (first.token, 109.0)


def test_a_holder_that_slept_too_long_can_write_nothing(store: Store) -> None:
    with store.write() as tx:
        slept = tx.acquire_lease("m", "a", now=100.0, length_s=5.0)
        taken = tx.acquire_lease("m", "b", now=105.1, length_s=5.0)
    assert slept is not None
    assert taken is not None
    assert taken.token == slept.token + 1
    with pytest.raises(LeaseLost, match="another controller"), store.write(slept) as tx:
        tx.decisions.remember("m", "moved", True)
    with store.write(taken) as tx:
        assert tx.decisions.fact("m", "moved", bool) is None


def test_a_lease_given_back_is_free_at_once(store: Store) -> None:
    with store.write() as tx:
        lease = tx.acquire_lease("m", "a", now=100.0, length_s=5.0)
        assert lease is not None
        tx.release_lease(lease)
        assert tx.acquire_lease("m", "b", now=100.1, length_s=5.0) is not None


def test_giving_back_a_lost_lease_takes_nothing_from_its_new_holder(store: Store) -> None:
    with store.write() as tx:
        lost = tx.acquire_lease("m", "a", now=100.0, length_s=5.0)
        assert lost is not None
        held = tx.acquire_lease("m", "b", now=106.0, length_s=5.0)
        tx.release_lease(lost)
        assert tx.lease("m") == held


# windows


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 300, allow_nan=False),
            st.integers(0, 50),
            st.sampled_from(["champion", "challenger"]),
        ),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 5),
)
def test_stored_windows_add_up_to_what_was_added(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[float, int, Role]], parts: int
) -> None:
    windows = [window(start, requests, role) for start, requests, role in items]
    with Store.at(tmp_path_factory.mktemp("store") / "control.db") as store:
        for part in range(parts):
            with store.write() as tx:
                tx.observations.add_windows(windows[part::parts])
        with store.write() as tx:
            fine = tx.observations.windows("m", 0.0)
            tx.observations.compact_windows("m", fine_before=150.0, drop_before=0.0)
            coarse = tx.observations.windows("m", 0.0)
    for kept in (fine, coarse):
        for role in ("champion", "challenger"):
            mine = [item for item in windows if item.role == role]
            if mine:
                assert merge(item for item in kept if item.role == role) == merge(mine)
    assert len(coarse) <= len(fine)


def test_old_windows_are_dropped_and_new_ones_found_by_time(store: Store) -> None:
    with store.write() as tx:
        tx.observations.add_windows([window(float(second)) for second in range(10)])
        assert [item.start for item in tx.observations.windows("m", 7.0)] == [7.0, 8.0, 9.0]
        tx.observations.compact_windows("m", fine_before=0.0, drop_before=8.0)
        assert [item.start for item in tx.observations.windows("m", 0.0)] == [8.0, 9.0]


# rows and labels


def test_an_id_that_a_database_cannot_hold_still_gets_its_label(store: Store) -> None:
    with store.write() as tx:
        tx.observations.add_rows("m", [row("a\x00b"), row("ünïcode ✓")])
        labels = [Feedback(id="a\x00b", label="yes\x00"), Feedback(id="ünïcode ✓", label="no")]
        tx.observations.add_labels("m", labels, now=1.0)
        found = tx.observations.labelled("m", limit=9)
        tx.journal.append("m", at=1.0, kind="k", text="the class 'a\x00'", data={"a": "\x00"})
        entries = list(tx.journal.all("m"))
        head = tx.journal.head("m")
    assert [(item.row.id, item.label) for item in found] == [
        ("a\x00b", "yes\x00"),
        ("ünïcode ✓", "no"),
    ]
    assert find_breaks(entries, head) == []


def test_rows_and_labels_join_in_whatever_order_they_come(store: Store) -> None:
    with store.write() as tx:
        tx.observations.add_rows("m", [row("early")])
        tx.observations.add_labels("m", [Feedback(id="early", label="yes", at=20.0)], now=30.0)
        tx.observations.add_labels("m", [Feedback(id="late", label=2.5)], now=31.0)
        tx.observations.add_rows("m", [row("late"), row("never")])
        found = tx.observations.labelled("m", limit=10)
    assert [(item.row.id, item.label, item.labelled_at) for item in found] == [
        ("early", "yes", 20.0),
        ("late", 2.5, 31.0),
    ]
    assert found[0].row == row("early")


def test_a_shadow_answer_is_joined_by_the_same_id_and_asked_for_apart(store: Store) -> None:
    with store.write() as tx:
        tx.observations.add_rows("m", [row("a"), row("a", role="shadow", version="2")])
        tx.observations.add_labels("m", [Feedback(id="a", label="yes")], now=1.0)
        seen = tx.observations.labelled("m", limit=10)
        shadow = tx.observations.labelled("m", limit=10, roles=("shadow",))
        assert tx.observations.count_labelled("m") == 1
    assert [item.row.version for item in seen] == ["1"]
    assert [item.row.version for item in shadow] == ["2"]


def test_rows_of_a_version_that_was_asked_for_by_number_are_no_sample(store: Store) -> None:
    with store.write() as tx:
        tx.observations.add_rows("m", [row("a"), row("b", role="pinned")])
        tx.observations.add_labels("m", [Feedback(id=i, label="yes") for i in "ab"], now=1.0)
        assert tx.observations.count_labelled("m") == len(tx.observations.labelled("m", limit=9))
        own = tx.observations.labelled_after("m", after=0, limit=9, version="1")
    assert [item.row.id for item in own] == ["a"]


def test_labels_that_the_answer_brought_about_are_told_apart(store: Store) -> None:
    with store.write() as tx:
        tx.observations.add_rows("m", [row("a"), row("b")])
        labels = [Feedback(id="a", label="yes"), Feedback(id="b", label="no", influenced=True)]
        tx.observations.add_labels("m", labels, now=1.0)
        found = tx.observations.labelled("m", limit=9)
        assert tx.observations.count_labelled("m") == 2
        assert tx.observations.count_labelled("m", influenced=False) == 1
    assert [(item.row.id, item.influenced) for item in found] == [("a", False), ("b", True)]


def test_the_newest_label_of_an_id_counts_once(store: Store) -> None:
    with store.write() as tx:
        tx.observations.add_rows("m", [row("a")])
        tx.observations.add_labels(
            "m", [Feedback(id="a", label="yes"), Feedback(id="a", label="no")], now=1.0
        )
        tx.observations.add_labels("m", [Feedback(id="a", label="perhaps")], now=2.0)
        found = tx.observations.labelled("m", limit=10)
        more = tx.observations.labelled_after("m", after=found[-1].number, limit=9)
        tx.observations.add_labels("m", [Feedback(id="a", label="perhaps")], now=3.0)
        assert tx.observations.last_join("m") == found[-1].number, "nothing new was said"
        tx.observations.add_labels("m", [Feedback(id="a", label="yes")], now=4.0)
        again = tx.observations.labelled_after("m", after=found[-1].number, limit=9)
        assert tx.observations.count_labelled("m") == 1
    assert [item.label for item in found] == ["perhaps"]
    assert more == []
    assert [item.label for item in again] == ["yes"], "whoever reads on sees it"


def test_labelled_rows_can_be_read_on_from_a_number(store: Store) -> None:
    ids = [str(number) for number in range(1203)]
    with store.write() as tx:
        tx.observations.add_rows("m", [row(item) for item in ids])
        tx.observations.add_labels("m", [Feedback(id=item, label=1.0) for item in ids], now=1.0)
        everything = tx.observations.labelled("m", limit=5000)
        assert len(everything) == tx.observations.count_labelled("m") == 1203
        middle = everything[600].number
        rest = tx.observations.labelled("m", limit=5000, after=middle)
        assert [item.number for item in rest] == [item.number for item in everything[601:]]
        assert tx.observations.last_join("m") == everything[-1].number
        newest = tx.observations.labelled("m", limit=3)
    assert [item.number for item in newest] == [item.number for item in everything[-3:]]


def test_old_rows_are_forgotten_with_their_labels(store: Store) -> None:
    with store.write() as tx:
        tx.observations.add_rows("m", [row(str(i), at=float(i)) for i in range(10)])
        labels = [Feedback(id=str(i), label="x", at=1.0) for i in range(12)]
        tx.observations.add_labels("m", labels, now=1.0)
        kept = Retention(newest=5, labelled=0, waiting=0, spread_since=0.0, oldest=7.0)
        assert tx.observations.drop_rows("m", kept) == 7
        assert [item.row.id for item in tx.observations.labelled("m", limit=99)] == ["7", "8", "9"]
        # A row whose label was dropped with the old ones does not come back as labelled.
        tx.observations.add_rows("m", [row("11", at=20.0)])
        assert tx.observations.count_labelled("m") == 3


# the rest


def test_route_rollout_and_alerts_come_back_as_they_were(store: Store) -> None:
    endpoint = Endpoint(version="1", bundle="/b", manifest_sha256="0" * 64)
    route = Route(model="m", generation=3, champion=endpoint, challenger=endpoint, share=0.25)
    alert = StoredAlert(model="m", key="drift", opened=1.0, resolved=None, body=b"x")
    with store.write() as tx:
        tx.decisions.save_route(route)
        tx.decisions.save_rollout(endpoint, rollout_id="r", model="m", started=1.0, ended=None)
        tx.alerts.save(alert)
    with store.write() as tx:
        assert tx.decisions.route("m") == route
        assert tx.decisions.route("other") is None
        assert tx.decisions.running_rollout("m", Endpoint) == endpoint
        tx.decisions.save_rollout(endpoint, rollout_id="r", model="m", started=1.0, ended=2.0)
        assert tx.decisions.running_rollout("m", Endpoint) is None
        assert tx.decisions.last_rollout("m", Endpoint) == endpoint
        assert tx.alerts.open("m") == [alert]
        tx.alerts.save(msgspec.structs.replace(alert, resolved=2.0))
        assert tx.alerts.open("m") == []
        assert tx.alerts.known("m", "drift")
        assert not tx.alerts.known("m", "quality")


def test_a_command_waits_until_it_is_answered(store: Store) -> None:
    with store.write() as tx:
        first = tx.commands.send("m", at=1.0, kind="abort", arguments={})
        second = tx.commands.send("m", at=2.0, kind="start", arguments={"version": "2"})
    with store.write() as tx:
        waiting = tx.commands.waiting("m")
        assert [item.number for item in waiting] == [first, second]
        assert waiting[1].arguments == {"version": "2"}
        tx.commands.answer(first, "refused", "no rollout is running")
        assert [item.number for item in tx.commands.waiting("m")] == [second]
        answered = tx.commands.get(first)
    assert answered is not None
    assert (answered.state, answered.answer) == ("refused", "no rollout is running")


def test_a_delivery_is_due_at_its_time_until_it_is_settled(store: Store) -> None:
    with store.write() as tx:
        tx.deliveries.send("m", "{}", at=5.0)
        [delivery] = tx.deliveries.due("m", 5.0, limit=9)
        tx.deliveries.settle(delivery, "waiting", attempts=1, next_at=8.0)
        assert tx.deliveries.due("m", 7.9, limit=9) == []
        [again] = tx.deliveries.due("m", 8.0, limit=9)
        assert again.attempts == 1
        assert again.message_id == delivery.message_id
        tx.deliveries.settle(delivery, "done", attempts=2, next_at=8.0)
        assert tx.deliveries.due("m", 100.0, limit=9) == []


def test_a_message_that_was_rewritten_while_it_was_sent_is_sent_anew(store: Store) -> None:
    with store.write() as tx:
        tx.deliveries.send("m", "one", at=5.0, send_at=35.0)
        [first] = tx.deliveries.waiting("m", limit=9)
        tx.deliveries.rewrite(first.number, "two", send_at=6.0)
        tx.deliveries.settle(first, "done", attempts=1, next_at=0.0)
        [second] = tx.deliveries.due("m", 6.0, limit=9)
        assert (second.payload_json, second.attempts) == ("two", 0)
        assert second.message_id != first.message_id


def test_a_message_is_hurried_and_never_put_off(store: Store) -> None:
    with store.write() as tx:
        tx.deliveries.send("m", "{}", at=5.0, send_at=35.0)
        tx.deliveries.send("m", "{}", at=6.0)
        for delivery in tx.deliveries.waiting("m", limit=9):
            tx.deliveries.hurry(delivery.number, 10.0)
        assert [item.next_at for item in tx.deliveries.waiting("m", limit=9)] == [10.0, 6.0]
        assert len(tx.deliveries.waiting("m", limit=1)) == 1


INGEST = """
import sys, pathlib
from steadynet.control.store import Store
from steadynet.monitoring.windows import Window
from steadynet.runtime.spool import read_spool
home = pathlib.Path(sys.argv[1])
with Store(sys.argv[2]) as store:
    while True:
        with store.write() as tx:
            cursor = tx.observations.cursors("m").get("windows", {})
            items, after = read_spool(home / "spool", cursor, Window, 7)
            tx.observations.add_windows(items)
            tx.observations.save_cursor("m", "windows", after)
        sys.stdout.write(f"{len(items)}\\n"); sys.stdout.flush()
        if not items:
            break
"""


def test_ingestion_is_exactly_once_however_often_it_is_killed(tmp_path: Path, any_url: str) -> None:
    writer = SpoolWriter(tmp_path / "spool", "w", segment_bytes=4000)
    for start in range(400):
        writer.append([window(start / 10)])
        writer.flush()
    writer.close()
    finished = False
    for lines in [1, 4, 2, 9, 3, 1000]:
        command = [sys.executable, "-c", INGEST, str(tmp_path), any_url]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(lines):
                if child.stdout.readline() in (b"0\n", b""):
                    finished = True
                    break
            child.send_signal(signal.SIGKILL)
    assert finished
    with Store(any_url) as store, store.read() as tx:
        assert merge(tx.observations.windows("m", 0.0)).requests == 400
        cursor = tx.observations.cursors("m").get("windows", {})
    assert read_spool(tmp_path / "spool", cursor, Window, 10)[0] == []
    forget(tmp_path / "spool", cursor)
    assert list((tmp_path / "spool").iterdir()) == []
