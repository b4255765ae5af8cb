"""What the messages of an Arrow body say of themselves, read before anything in it is decoded.

A record batch of a few kilobytes can stand for gigabytes: by compression, by buffers that lie over
one another, by a column of nulls, which takes no bytes at all. So the lengths that a message names
are added up first, and only a body within its bounds is given to Arrow's reader. They are the
lengths that Arrow itself allocates by: a compressed buffer begins with its own size, and whatever
Arrow's verifier passes, both read alike.

Source: the Arrow columnar format, "Serialization and Interprocess Communication"
(https://arrow.apache.org/docs/format/Columnar.html), Message.fbs, Schema.fbs, File.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from flatbuffers import number_types as numbers
from flatbuffers.table import Table as FlatTable

from steadynet.errors import InputError, TooManyRows
from steadynet.serving.answers import HttpError

MAX_MESSAGES = 1024
"""Record batches and dictionaries of one body; each costs, however little it holds."""

FILE_MAGIC = b"ARROW1"
_FILE_TAIL = len(FILE_MAGIC) + 4
_CONTINUATION = b"\xff\xff\xff\xff"
_BLOCK = np.dtype(
    {
        "names": ["at", "head", "body"],
        "formats": ["<i8", "<i4", "<i8"],
        "offsets": [0, 8, 16],
        "itemsize": 24,
    }
)
_V4 = 3
"""The version before 1.0; its experimental compression is told elsewhere in a message."""
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_MALFORMED = (struct.error, ValueError, TypeError, IndexError, OverflowError)
"""What reading a flatbuffer raises where its offsets lead nowhere."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one body may hold."""

    max_rows: int
    max_bytes: int
    """Of its columns decoded, and of each body as it came."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a message says that it holds."""

    is_rows: bool
    """A record batch; else a dictionary."""
    rows: int
    decoded_bytes: int


def unreadable(why: str) -> InputError:
    """Return the error for bytes that are no Arrow stream or file."""
    return InputError(
        "the Arrow body cannot be read",
        expected="an Arrow IPC stream or file as pyarrow writes it",
        got=why,
    )


def check_messages(claims: Iterator[Claim], bounds: Bounds) -> int:
    """Return how many rows the messages hold. Raises `TooManyRows`, `HttpError` 413, `InputError`.

    A dictionary counts with each record batch behind it, since each is checked against it.
    """
    rows = decoded_bytes = dictionary_bytes = 0
    for number, claim in enumerate(claims):
        if number >= MAX_MESSAGES:
            raise HttpError(
                413,
                "the Arrow body has too many parts; expected at most"
                f" {MAX_MESSAGES} record batches and dictionaries. Combine them before sending.",
            )
        if claim.rows < 0:
            raise unreadable("a record batch of less than no rows")
        if claim.is_rows:
            rows += claim.rows
            decoded_bytes += claim.decoded_bytes + dictionary_bytes
        else:
            dictionary_bytes += claim.decoded_bytes
        if rows > bounds.max_rows:
            raise TooManyRows(
                "too many rows in one request",
                expected=f"at most {bounds.max_rows}",
                got="more",
                do="Send them in several requests.",
            )
        if decoded_bytes + dictionary_bytes > bounds.max_bytes:
            raise too_large(bounds.max_bytes)
    return rows


def too_large(max_bytes: int) -> HttpError:
    """Return the error for a body whose columns take more than they may."""
    return HttpError(
        413,
        "the columns of the Arrow body are too large once they are decoded; expected at most"
        f" {max_bytes} bytes. Send fewer rows, or only the columns that the model reads.",
    )


def stream_claims(body: bytes) -> Iterator[Claim]:
    """Yield the claim of each message of a stream. Raises `InputError`, Arrow's errors."""
    source = pa.BufferReader(pa.py_buffer(body))
    messages = pa.ipc.MessageReader.open_stream(source)
    while True:
        try:
            message = messages.read_next_message()
        except StopIteration:
            break
        if message.type != "schema":
            held = message.body
            yield _claim(memoryview(message.metadata), memoryview(b"" if held is None else held))
    if source.tell() != len(body):
        raise unreadable("bytes behind the end of the stream")


def file_claims(body: bytes) -> Iterator[Claim]:
    """Yield the claim of each message of a file, as its footer lists them. Raises `InputError`."""
    view = memoryview(body)
    for block in _blocks(view):
        at, head, length = int(block["at"]), int(block["head"]), int(block["body"])
        if min(at, head - 8, length) < 0 or at + head + length > len(body):
            raise unreadable("a block outside of the file")
        if view[at : at + 4] != _CONTINUATION:
            raise unreadable("a block that is no message")
        size = int.from_bytes(view[at + 4 : at + 8], "little")
        if 8 + size > head:
            raise unreadable("a block that is shorter than its message")
        yield _claim(view[at + 8 : at + 8 + size], view[at + head : at + head + length])


def _blocks(view: memoryview) -> Iterator[np.ndarray]:
    """Yield where a file's dictionaries and record batches are."""
    if len(view) < 2 * _FILE_TAIL or view[-len(FILE_MAGIC) :] != FILE_MAGIC:
        raise unreadable("a file without its end")
    end = len(view) - _FILE_TAIL
    size = int.from_bytes(view[end : end + 4], "little")
    if size > end:
        raise unreadable("a file with a wrong footer")
    footer_bytes = view[end - size : end]
    try:
        footer = _root(footer_bytes)
        lists = [_vector(footer, slot, _BLOCK) for slot in (2, 3)]
    except _MALFORMED:
        raise unreadable("a file with a wrong footer") from None
    for blocks in lists:
        yield from blocks


def _claim(metadata: memoryview, body: memoryview) -> Claim:
    try:
        message = _root(metadata)
        kind = _number(message, 1, numbers.Uint8Flags)
        batch = _child(message, 2)
        if kind == _DICTIONARY_BATCH:
            batch = _child(batch, 1)
        elif kind != _RECORD_BATCH:
            raise unreadable("a message that is neither record batch nor dictionary")
        version = _number(message, 0, numbers.Int16Flags)
        if version <= _V4 and message.Offset(_slot(4)):
            raise unreadable("a message of a version before 1.0 with further metadata")
        rows = _number(batch, 0, numbers.Int64Flags)
        buffers = _vector(batch, 2, np.dtype("<i8")).reshape(-1, 2)
        if _number(message, 3, numbers.Int64Flags) != len(body) or not _lie_within(buffers, body):
            raise unreadable("a message of another length than it says")
        is_compressed = batch.Offset(_slot(3)) != 0
        sizes = _decoded_sizes(buffers, body) if is_compressed else buffers[:, 1].tolist()
    except _MALFORMED:
        raise unreadable("a message whose parts lead nowhere") from None
    if min(sizes, default=0) < 0:
        raise unreadable("a buffer of less than no bytes")
    return Claim(kind == _RECORD_BATCH, rows, sum(sizes))


def _lie_within(buffers: np.ndarray, body: memoryview) -> bool:
    """Return whether all buffers, pairs of place and length, are parts of a message's body.

    Arrow's reader of files takes a body as long as its message says, and fills it by these.
    """
    room = len(body) - buffers[:, 0]
    return bool(np.all((buffers >= 0).all(axis=1) & (buffers[:, 1] <= room)))


def _decoded_sizes(buffers: np.ndarray, body: memoryview) -> list[int]:
    """Return how large each compressed buffer becomes: its first eight bytes say it."""
    sizes = []
    for at, length in buffers.tolist():
        if length == 0:
            continue
        (size,) = struct.unpack_from("<q", body, at)
        # -1: this one is not compressed.
        sizes.append(length if size == -1 else size)
    return sizes


def _root(buffer: memoryview) -> FlatTable:
    return FlatTable(buffer, int.from_bytes(buffer[:4], "little"))


def _slot(field: int) -> int:
    """Return where a table's list of offsets has a field."""
    return 4 + 2 * field


def _number(table: FlatTable, field: int, flags: type) -> int:
    at = table.Offset(_slot(field))
    return int(table.Get(flags, table.Pos + at)) if at else 0


def _child(table: FlatTable, field: int) -> FlatTable:
    at = table.Offset(_slot(field))
    if at == 0:
        raise ValueError("no such field")
    return FlatTable(table.Bytes, table.Indirect(table.Pos + at))


def _vector(table: FlatTable, field: int, dtype: np.dtype) -> np.ndarray:
    """Return a vector of structs, one element each, or of pairs of integers, two elements each."""
    at = table.Offset(_slot(field))
    if at == 0:
        return np.empty(0, dtype)
    length = table.VectorLen(at) * (1 if dtype.names else 2)
    return np.frombuffer(table.Bytes, dtype, length, table.Vector(at))
