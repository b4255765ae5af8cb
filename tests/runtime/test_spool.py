"""The spool hands over every flushed record exactly once, whatever dies."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.runtime.spool import SpoolWriter, forget, read_spool


class Note(msgspec.Struct, frozen=True):
    """A record."""

    number: int
    text: str = ""


def numbers(folder: Path, cursor: dict[str, int], limit: int = 1000) -> list[int]:
    """Read and move the cursor on in place."""
    records, after = read_spool(folder, cursor, Note, limit)
    cursor.clear()
    cursor.update(after)
    return [record.number for record in records]


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def test_reads_what_was_flushed_and_nothing_before(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "w0")
    cursor: dict[str, int] = {}
    writer.append([Note(1), Note(2)])
    assert numbers(tmp_path, cursor) == []
    assert writer.flush() == 2
    assert numbers(tmp_path, cursor) == [1, 2]
    assert numbers(tmp_path, cursor) == []
    writer.append([Note(3)])
    writer.close()
    assert numbers(tmp_path, cursor) == [3]


def test_reads_nothing_from_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert read_spool(tmp_path / "none", {}, Note, 10) == ([], {})
    assert forget(tmp_path / "none", {}) == 0


def test_a_torn_line_waits_until_it_is_whole(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "w0")
    writer.append([Note(1)])
    writer.flush()
    [path] = segments(tmp_path)
    cursor: dict[str, int] = {}
    with path.open("ab") as file:
        file.write(b'{"number":2')
        file.flush()
        assert numbers(tmp_path, cursor) == [1]
        assert numbers(tmp_path, cursor) == []
        file.write(b"}\n")
    assert numbers(tmp_path, cursor) == [2]
    writer.close()


def test_the_limit_is_kept_and_shared_among_writers(tmp_path: Path) -> None:
    for name, count in (("a", 100), ("b", 3)):
        writer = SpoolWriter(tmp_path, name)
        writer.append(Note(number) for number in range(count))
        writer.close()
    cursor: dict[str, int] = {}
    records, _ = read_spool(tmp_path, cursor, Note, 10)
    assert len(records) == 8
    assert [record.number for record in records] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert len(numbers(tmp_path, cursor, 1)) == 1


def test_rotates_by_size_and_keeps_the_order(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "w0", segment_bytes=100)
    for number in range(50):
        writer.append([Note(number)])
        writer.flush()
    writer.close()
    assert len(segments(tmp_path)) > 5
    assert max(path.stat().st_size for path in segments(tmp_path)) < 130
    cursor: dict[str, int] = {}
    assert numbers(tmp_path, cursor, 7) == list(range(7))
    assert numbers(tmp_path, cursor) == list(range(7, 50))


def test_a_full_buffer_is_flushed_by_itself(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "w0", segment_bytes=100)
    writer.append([Note(number) for number in range(100)])
    assert numbers(tmp_path, {}) == list(range(100))


def test_forget_removes_closed_segments_that_are_read_to_the_end(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "w0", segment_bytes=20)
    for number in range(3):
        writer.append([Note(number, "x" * 20)])
        writer.flush()
    cursor: dict[str, int] = {}
    assert numbers(tmp_path, cursor, 2) == [0, 1]
    assert forget(tmp_path, cursor) == 2
    assert len(segments(tmp_path)) == 1
    assert numbers(tmp_path, cursor) == [2]
    assert len(cursor) == 1, "a cursor must not grow with segments that are gone"


def test_forget_keeps_the_segment_that_is_being_written(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "w0")
    writer.append([Note(1)])
    writer.flush()
    cursor: dict[str, int] = {}
    numbers(tmp_path, cursor)
    assert forget(tmp_path, cursor) == 0
    writer.append([Note(2)])
    writer.close()
    assert numbers(tmp_path, cursor) == [2]
    assert forget(tmp_path, cursor) == 1
    assert segments(tmp_path) == []


def test_a_restarted_writer_is_not_hidden_by_an_old_cursor(tmp_path: Path) -> None:
    cursor: dict[str, int] = {}
    for number in range(3):
        writer = SpoolWriter(tmp_path, "w0")
        writer.append([Note(number)])
        writer.close()
        assert numbers(tmp_path, cursor) == [number]
        stale = dict(cursor)
        forget(tmp_path, cursor)
        cursor = stale


def test_a_writer_whose_segment_was_taken_away_begins_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`forget` may lock and remove a new segment before its writer has locked it."""
    lock = fcntl.flock
    taken: list[Path] = []

    def take_first(descriptor: int, operation: int) -> None:
        if not taken:
            taken.extend(segments(tmp_path))
            taken[0].unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", take_first)
    writer = SpoolWriter(tmp_path, "w0")
    writer.append([Note(1)])
    assert writer.flush() == 1
    assert numbers(tmp_path, {}) == [1]
    assert segments(tmp_path)[0] not in taken


def test_the_oldest_closed_segments_make_room(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "w0", segment_bytes=100, spool_bytes=1000)
    for number in range(100):
        writer.append([Note(number, "x" * 80)])
        writer.flush()
    assert sum(path.stat().st_size for path in segments(tmp_path)) <= 1000
    kept = numbers(tmp_path, {})
    assert kept == list(range(100 - len(kept), 100))
    assert writer.dropped == 100 - len(kept)


def test_a_bound_never_removes_what_another_writer_is_writing(tmp_path: Path) -> None:
    other = SpoolWriter(tmp_path, "other", segment_bytes=100, spool_bytes=300)
    other.append([Note(-1)])
    other.flush()
    writer = SpoolWriter(tmp_path, "w0", segment_bytes=100, spool_bytes=300)
    for number in range(20):
        writer.append([Note(number, "x" * 100)])
        writer.flush()
    other.append([Note(-2)])
    other.flush()
    assert {-1, -2} <= set(numbers(tmp_path, {}))


def test_a_line_that_cannot_be_decoded_is_passed_over_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = SpoolWriter(tmp_path, "w0")
    writer.append([Note(1)])
    writer.close()
    [path] = segments(tmp_path)
    path.write_bytes(path.read_bytes() + b'{"secret": "4711"\n\xff\n' + b'{"number":2}\n')
    assert numbers(tmp_path, {}) == [1, 2]
    assert "cannot be decoded" in caplog.text
    assert "4711" not in caplog.text


@pytest.mark.parametrize("name", ["", "../w", "a/b", "a b"])
def test_a_writers_name_is_a_plain_word(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="writer's name"):
        SpoolWriter(tmp_path, name)


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from spool_note import Note
from steadynet.runtime.spool import SpoolWriter, read_spool
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
folder = Path(sys.argv[1])
writer = SpoolWriter(folder, "w0")
flushed = 0
for number in range(200):
    writer.append([Note(number)])
    flushed += writer.flush()
records, _ = read_spool(folder, {}, Note, 1000)
assert [record.number for record in records] == list(range(flushed)), records
assert 0 < flushed < 200 and writer.dropped == 200 - flushed
sys.stdout.write("kept what fitted")
"""


def note_module(folder: Path) -> None:
    (folder / "spool_note.py").write_text(
        "import msgspec\nclass Note(msgspec.Struct):\n    number: int\n    text: str = ''\n"
    )


def test_a_file_that_cannot_grow_costs_records_but_no_exception(tmp_path: Path) -> None:
    note_module(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "spool"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "kept what fitted"
    assert "cannot be written" in done.stderr or "is full" in done.stderr


def test_a_folder_that_cannot_be_made_costs_records_but_no_exception(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = SpoolWriter(tmp_path / "file" / "spool", "w0")
    writer.append([Note(1), Note(2)])
    assert writer.flush() == 0
    assert writer.dropped == 2


FOREVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from spool_note import Note
from steadynet.runtime.spool import SpoolWriter
writer = SpoolWriter(Path(sys.argv[1]), "w0", segment_bytes=5000)
number = 0
while True:
    writer.append([Note(number, "x" * 50)])
    writer.flush()
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    number += 1
"""


def test_a_killed_writer_loses_nothing_that_it_flushed(tmp_path: Path) -> None:
    note_module(tmp_path)
    folder = tmp_path / "spool"
    process = subprocess.Popen(
        [sys.executable, "-c", FOREVER, str(folder), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    cursor: dict[str, int] = {}
    read: list[int] = []
    for _ in range(300):
        process.stdout.readline()
        read += numbers(folder, cursor, 10)
        forget(folder, cursor)
    os.kill(process.pid, signal.SIGKILL)
    said = [int(line) for line in process.stdout.read().split()]
    process.stdout.close()
    process.wait()
    while more := numbers(folder, cursor):
        read += more
    assert read == list(range(len(read)))
    assert len(read) >= max(said, default=300)
    forget(folder, cursor)
    assert segments(folder) == [], "the lock of a dead writer is free"


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 2), st.integers(0, 4)),
        st.tuples(st.sampled_from(["flush", "close", "crash", "tear"]), st.integers(0, 2)),
        st.tuples(st.just("read"), st.integers(1, 5)),
        st.tuples(st.just("forget")),
    ),
    max_size=60,
)


class _SpoolMachine:
    """Three writers and a reader whose cursor may be lost before it is stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writers = [self.start(index) for index in range(3)]
        self.pending: list[list[int]] = [[], [], []]
        self.flushed: list[list[int]] = [[], [], []]
        self.read: list[list[int]] = [[], [], []]
        self.cursor: dict[str, int] = {}
        self.count = 0

    def start(self, index: int) -> SpoolWriter:
        return SpoolWriter(self.folder, f"w{index}", segment_bytes=60)

    def append(self, index: int, count: int) -> None:
        new = list(range(self.count, self.count + count))
        self.count += count
        self.pending[index] += new
        self.writers[index].append([Note(number, str(index)) for number in new])
        if len(b"".join(self.writers[index]._buffer)) == 0:
            self.settle(index)

    def settle(self, index: int) -> None:
        self.flushed[index] += self.pending[index]
        self.pending[index] = []

    def flush(self, index: int) -> None:
        self.writers[index].flush()
        self.settle(index)

    def close(self, index: int) -> None:
        self.writers[index].close()
        self.settle(index)

    def crash(self, index: int) -> None:
        """The process dies: its buffer is gone, the kernel frees its lock."""
        descriptor = self.writers[index]._descriptor
        if descriptor is not None:
            os.close(descriptor)
        self.pending[index] = []
        self.writers[index] = self.start(index)

    def tear(self, index: int) -> None:
        """The process dies in the middle of a write."""
        descriptor = self.writers[index]._descriptor
        if descriptor is not None:
            os.write(descriptor, b'{"number":12')
        self.crash(index)

    def take(self, limit: int) -> None:
        records, self.cursor = read_spool(self.folder, self.cursor, Note, limit)
        assert len(records) <= limit
        for record in records:
            self.read[int(record.text)].append(record.number)


@settings(max_examples=150, deadline=None)
@given(ACTIONS)
def test_every_flushed_record_is_read_exactly_once_and_in_order(
    actions: list[tuple[str, *tuple[int, ...]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        machine = _SpoolMachine(Path(folder))
        for name, *arguments in actions:
            match name:
                case "append":
                    machine.append(*arguments)
                case "flush" | "close" | "crash" | "tear":
                    {
                        "flush": machine.flush,
                        "close": machine.close,
                        "crash": machine.crash,
                        "tear": machine.tear,
                    }[name](*arguments)
                case "read":
                    machine.take(*arguments)
                case _:
                    forget(machine.folder, machine.cursor)
        for index in range(3):
            machine.close(index)
        for _ in range(machine.count + 1):
            machine.take(50)
        assert machine.read == machine.flushed
        forget(machine.folder, machine.cursor)
        assert segments(machine.folder) == []


def test_nothing_of_what_was_appended_stays_in_memory(tmp_path: Path) -> None:
    """A generator that stays costs a server some 300 bytes for each row that it logs."""

    def notes() -> Iterator[Note]:
        yield Note(1)
        yield Note(2)

    writer = SpoolWriter(tmp_path, "w")
    given_notes = notes()
    kept = weakref.ref(given_notes)
    writer.append(given_notes)
    del given_notes
    assert kept() is None
    writer.close()
    assert numbers(tmp_path, {}) == [1, 2]
