"""Tables as Arrow IPC: bodies of requests, as streams or files, and answers as streams.

Imported with the first request that asks for it, since pyarrow takes a worker's time and memory.

Bytes come from anyone. So what a body says of itself is held against its bounds before anything is
decoded (`serving.arrow_messages`), only the columns that a version reads are decoded, and each
record batch is validated in full before a value of it is looked at.

Source: Arrow IPC streaming format (https://arrow.apache.org/docs/format/Columnar.html).
"""

from __future__ import annotations

import decimal
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from steadynet.errors import InputError
from steadynet.runtime.answers import as_columns
from steadynet.runtime.batching import Arrays
from steadynet.serving.answers import HttpError
from steadynet.serving.arrow_messages import (
    FILE_MAGIC,
    Bounds,
    check_messages,
    file_claims,
    stream_claims,
    too_large,
    unreadable,
)
from steadynet.serving.arrow_values import ColumnReader, Values
from steadynet.spec.kinds import Kind
from steadynet.table.schema import Schema

MAX_COLUMNS = 10_000
"""Columns of one body, those among them that no version reads."""

_ARROW_ERRORS = (
    pa.ArrowException,
    OSError,
    OverflowError,
    UnicodeDecodeError,
    decimal.DecimalException,
)
"""What pyarrow raises for bytes that are not Arrow, or hold what it does not know."""


def kinds_of(schemas: Iterable[Schema]) -> dict[str, set[Kind]]:
    """Return the columns that any of the versions reads, and what they take them for."""
    kinds: dict[str, set[Kind]] = {}
    for schema in schemas:
        for column in schema.features:
            kinds.setdefault(column.name, set()).add(column.kind)
    return kinds


def read_body(
    body: bytes, kinds: Mapping[str, Collection[Kind]], bounds: Bounds, *, is_file: bool
) -> tuple[dict[str, Values], int]:
    """Return column → values, and the number of rows, of a stream or a file.

    `kinds` are the columns that versions read, and what they take them for; others are left
    aside. Raises `InputError`, `TooManyRows`, `HttpError` 413.
    """
    _check_format(body, is_file=is_file)
    try:
        rows = check_messages(file_claims(body) if is_file else stream_claims(body), bounds)
        schema = _open(body, is_file=is_file).schema
        names = schema.names
        _check_names(names)
        reader = ColumnReader(dict(kinds), bounds.max_bytes)
        wanted = [position for position, name in enumerate(names) if name in kinds]
        for position in wanted:
            reader.check(names[position], schema.field(position).type)
        if rows == 0:
            raise InputError("no rows to predict", expected="at least one row", got="none")
        # A column of nulls takes no bytes, and one of booleans an eighth.
        if rows * len(wanted) > bounds.max_bytes:
            raise too_large(bounds.max_bytes)
        if not wanted:
            return {}, rows
        batches = _decode(body, wanted, reader, is_file=is_file)
        if sum(batch.num_rows for batch in batches) != rows:
            # A footer may call rows a dictionary.
            raise unreadable("another number of rows than its messages say")
        # Arrays over the body keep all of it: only where most of it is read.
        reader.copies = 2 * sum(batch.nbytes for batch in batches) < len(body)
        return {
            name: reader.read(name, [batch.column(position) for batch in batches])
            for position, name in enumerate(batches[0].schema.names)
        }, rows
    except (InputError, HttpError):
        raise
    except _ARROW_ERRORS as error:
        # Arrow's own words may hold a value.
        raise unreadable(f"what pyarrow refuses as {type(error).__name__}") from None


def write_answer(outputs: Arrays, schema: Schema) -> bytes:
    """Return outputs as a stream of one record batch, with the columns of `as_columns`."""
    columns = as_columns(outputs, schema)
    batch = pa.RecordBatch.from_arrays(
        [_array(values) for values in columns.values()], names=list(columns)
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _check_format(body: bytes, *, is_file: bool) -> None:
    """Raise `InputError` where a body is a file and called a stream, or the other way round."""
    if body.startswith(FILE_MAGIC) == is_file:
        return
    expected, found = ("file", "stream") if is_file else ("stream", "file")
    raise InputError(
        f"the body is no Arrow {expected}",
        expected=f"an Arrow {expected}, as its Content-Type says",
        got="an Arrow file" if found == "file" else "something else",
        do=f"Send a {found} with the Content-Type application/vnd.apache.arrow.{found}.",
    )


def _check_names(names: list[str]) -> None:
    if len(names) > MAX_COLUMNS:
        raise HttpError(413, f"too many columns; expected at most {MAX_COLUMNS}")
    if len(set(names)) != len(names):
        raise InputError("two columns have the same name", expected="one column per name")


def _open(body: bytes, wanted: list[int] | None = None, *, is_file: bool) -> Any:
    options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=wanted)
    source = pa.py_buffer(body)
    opened = pa.ipc.open_file if is_file else pa.ipc.open_stream
    return opened(source, options=options)


def _decode(
    body: bytes, wanted: list[int], reader: ColumnReader, *, is_file: bool
) -> list[pa.RecordBatch]:
    """Return the record batches with rows, of the wanted columns, validated."""
    opened = _open(body, wanted, is_file=is_file)
    found = (
        (opened.get_batch(number) for number in range(opened.num_record_batches))
        if is_file
        else opened
    )
    batches = []
    for batch in found:
        # Without the second, hostile offsets are followed and the process ends.
        batch.validate()
        for column in batch.columns:
            reader.charge(column)
        batch.validate(full=True)
        if batch.num_rows:
            batches.append(batch)
    return batches


def _array(values: np.ndarray) -> pa.Array:
    """Return texts, booleans or float64 (N,) as an array, without what imports pandas."""
    if values.dtype.kind == "O":
        texts = [text.encode() for text in values.tolist()]
        ends = np.zeros(len(texts) + 1, "<i4")
        np.cumsum(np.fromiter(map(len, texts), "<i4", len(texts)), out=ends[1:])
        held = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(texts))]
        return pa.Array.from_buffers(pa.string(), len(texts), held)
    if values.dtype.kind == "b":
        packed = np.packbits(values, bitorder="little")
        return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(packed)])
    dense = np.ascontiguousarray(values, dtype="<f8")
    return pa.Array.from_buffers(pa.float64(), len(values), [None, pa.py_buffer(dense)])
