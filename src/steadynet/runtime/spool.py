"""The spool: how workers hand records to the controller through files, and lose none.

A writer appends JSON lines to segments `<writer>-<start>-<number>.jsonl`; a reader keeps a cursor
(segment → bytes read) and stores it in the same transaction as what it read, which makes
ingestion exactly-once. No process waits for another.

Invariants:
- A name is never used twice: `<start>` is the writer's start time and a random part. A cursor
  that outlives its segment therefore never hides a later one.
- A segment only grows by whole lines, except that a process killed while it writes leaves a torn
  last line; no reader returns a line before its newline is there.
- A writer holds a lock (`flock`) on the segment that it writes. A segment that can be locked is
  closed, however its writer ended; only closed segments are removed.
- `flush` never raises for a full disk: what could not be written is counted in `dropped`.

Records survive the death of any process; a power failure may cost the last seconds.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec

from steadynet.clock import Clock, SystemClock

T = TypeVar("T")

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 4 * 1024 * 1024
SPOOL_BYTES = 256 * 1024 * 1024

_SEGMENT = re.compile(
    r"(?P<writer>[A-Za-z0-9_.-]+)-(?P<start>[0-9a-f]{24})-(?P<number>\d{6,})\.jsonl"
)
_WRITER = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True, order=True)
class _Segment:
    writer: str
    start: str
    number: int
    path: Path

    @property
    def name(self) -> str:
        return self.path.name


class SpoolWriter:
    """Appends records to a spool folder. Not for use by several threads at once.

    `segment_bytes` is the size at which a segment is closed and the next one begun.
    `spool_bytes` bounds the whole folder, all writers together: at each new segment the oldest
    closed ones are removed until it holds, so that a dead controller cannot fill the disk.
    """

    def __init__(
        self,
        folder: Path,
        writer: str,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        spool_bytes: int = SPOOL_BYTES,
        clock: Clock | None = None,
    ) -> None:
        if not _WRITER.fullmatch(writer):
            raise ValueError(f"a writer's name is letters, digits, '_', '-', '.'; got {writer!r}")
        self.folder = folder
        self.writer = writer
        self.dropped = 0
        """Records that were lost: not written for want of room, or removed with an old segment
        (whether or not it had been read)."""
        self._segment_bytes = segment_bytes
        self._spool_bytes = spool_bytes
        now = (clock or SystemClock()).now()
        self._start = f"{int(now * 1e6):016x}{secrets.token_hex(4)}"
        self._number = 0
        self._descriptor: int | None = None
        self._size = 0
        self._encoder = msgspec.json.Encoder()
        self._buffer: list[bytes] = []
        self.buffered_bytes = 0
        """Encoded, and not written yet."""

    def append(self, records: Iterable[msgspec.Struct]) -> None:
        """Encode the records and keep them until `flush`, or until they fill a segment."""
        # Of any iterable but a list msgspec 0.22 keeps the iterator for good.
        lines = self._encoder.encode_lines(list(records))
        if not lines:
            return
        self._buffer.append(lines)
        self.buffered_bytes += len(lines)
        if self.buffered_bytes >= self._segment_bytes:
            self.flush()

    def flush(self) -> int:
        """Write what was appended, with one system call. Return how many records were written."""
        if not self._buffer:
            return 0
        data = b"".join(self._buffer)
        self._buffer.clear()
        self.buffered_bytes = 0
        written = self._write(data)
        records = data.count(b"\n", 0, written)
        self.dropped += data.count(b"\n", written)
        if self._size >= self._segment_bytes:
            self._close_segment()
        return records

    def close(self) -> None:
        """Flush and close the segment."""
        self.flush()
        self._close_segment()

    def _write(self, data: bytes) -> int:
        """Write as much of `data` as there is room for; return the bytes of whole lines."""
        try:
            if self._descriptor is None:
                self._open_segment()
            descriptor = self._descriptor
            assert descriptor is not None
            written = os.write(descriptor, data)
        except OSError as error:
            logger.warning("spool %s cannot be written: %s", self.folder, error.strerror)
            return 0
        if written < len(data):
            written = self._keep_whole_lines(descriptor, data, written)
        self._size += written
        return written

    def _keep_whole_lines(self, descriptor: int, data: bytes, written: int) -> int:
        # Only a torn line is cut off: a reader may have taken the whole ones already.
        whole = data.rfind(b"\n", 0, written) + 1
        logger.warning("spool %s is full; records are dropped", self.folder)
        try:
            os.ftruncate(descriptor, self._size + whole)
        except OSError:
            # The torn line stays where it is, at the end of a segment that gets no more lines.
            self._close_segment()
        return whole

    def _open_segment(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        while self._descriptor is None:
            self._number += 1
            path = self.folder / f"{self.writer}-{self._start}-{self._number:06d}.jsonl"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            # `forget` may find the new file before it is locked, and remove it.
            if _lock(descriptor) and os.fstat(descriptor).st_nlink:
                self._descriptor = descriptor
            else:
                os.close(descriptor)
        self._size = 0
        self._remove_oldest()

    def _close_segment(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _remove_oldest(self) -> None:
        sizes: dict[_Segment, int] = {}
        for segment in _segments(self.folder):
            with suppress(FileNotFoundError):
                sizes[segment] = segment.path.stat().st_size
        total = sum(sizes.values())
        for segment in sorted(sizes, key=lambda item: (item.start, item.number)):
            if total + self._segment_bytes <= self._spool_bytes:
                return
            with _closed(segment.path) as data:
                if data is not None:
                    self.dropped += data.count(b"\n")
                    segment.path.unlink()
                    total -= sizes[segment]


def read_spool(
    folder: Path, cursor: dict[str, int], kind: type[T], limit: int
) -> tuple[list[T], dict[str, int]]:
    """Return at most `limit` records that follow `cursor`, and the cursor after them.

    The records of one writer come in the order in which it appended them. Writers share the
    limit, so that a busy one does not starve the others. A line that cannot be decoded is logged
    and passed over. The new cursor names existing segments only.
    """
    by_writer: dict[str, list[_Segment]] = {}
    for segment in sorted(_segments(folder)):
        by_writer.setdefault(segment.writer, []).append(segment)
    after = {
        segment.name: cursor[segment.name]
        for segments in by_writer.values()
        for segment in segments
        if segment.name in cursor
    }
    decoder = msgspec.json.Decoder(kind)
    records: list[T] = []
    for position, segments in enumerate(by_writer.values()):
        waiting = len(by_writer) - position
        quota = -(-(limit - len(records)) // waiting)
        for segment in segments:
            lines, end = _read_lines(segment.path, after.get(segment.name, 0), quota)
            records.extend(_decode_lines(decoder, lines, segment.name))
            after[segment.name] = end
            quota -= len(lines)
            if quota <= 0:
                break
    return records, after


def forget(folder: Path, cursor: dict[str, int]) -> int:
    """Remove the segments that are closed and read to the end. Return how many.

    Call it after the cursor has been stored.
    """
    removed = 0
    for segment in _segments(folder):
        with _closed(segment.path) as data:
            if data is not None and b"\n" not in data[cursor.get(segment.name, 0) :]:
                segment.path.unlink()
                removed += 1
    return removed


def _segments(folder: Path) -> Iterator[_Segment]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        if match := _SEGMENT.fullmatch(name):
            yield _Segment(match["writer"], match["start"], int(match["number"]), folder / name)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _closed(path: Path) -> Iterator[bytes | None]:
    """Yield a closed segment's bytes while holding its lock; None where it is open or gone."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        if _lock(file.fileno()) and os.fstat(file.fileno()).st_nlink:
            yield file.read()
        else:
            yield None


def _read_lines(path: Path, offset: int, limit: int) -> tuple[list[bytes], int]:
    """Return whole lines from `offset` on, and the offset after them."""
    lines: list[bytes] = []
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(offset)
        lines = list(islice(file, limit))
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    return lines, offset + sum(map(len, lines))


def _decode_lines(decoder: msgspec.json.Decoder[T], lines: list[bytes], name: str) -> list[T]:
    try:
        return decoder.decode_lines(b"".join(lines))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return list(_decode_one_by_one(decoder, lines, name))


def _decode_one_by_one(
    decoder: msgspec.json.Decoder[T], lines: list[bytes], name: str
) -> Iterator[T]:
    for line in lines:
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            logger.warning("a line of spool segment %s cannot be decoded and is passed over", name)
