"""Columns of Arrow → the values that the same rows have as JSON: lists, or typed arrays (N,).

Arrays are read from their buffers, not by what pyarrow has for it: that imports pandas into a
worker, and does not check all that it follows. Every array must have been validated in full before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from steadynet.errors import InputError
from steadynet.runtime.columns import plain_values
from steadynet.serving.arrow_messages import too_large
from steadynet.spec.kinds import Kind
from steadynet.table.schema import MISSING_DATETIME
from steadynet.table.values import EXPECTED

Values = list[Any] | np.ndarray

_NUMBERS: frozenset[Kind] = frozenset({"number", "boolean"})
_DAY_S = 86_400
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Unit of a time → how many of it a second has."""
_VIEW = np.dtype([("length", "<i4"), ("start", "<i4"), ("buffer", "<i4"), ("at", "<i4")])
"""An element of a column of string views: a text of up to `_INLINE` bytes is in it itself, behind
its length, a longer one lies in one of the column's buffers."""
_INLINE = 12
_SHOWN = 100


@dataclass(slots=True)
class ColumnReader:
    """Reads the columns of one body, with what is left of the bytes that they may take."""

    kinds: dict[str, Collection[Kind]]
    """What the versions that may answer take a column for."""
    max_bytes: int
    copies: bool = True
    """Whether numbers are copied; else they lie in the body, and keep it until they are counted."""
    _text_bytes: int = field(default=0, init=False)

    def check(self, name: str, kind: pa.DataType) -> None:
        """Raise `InputError` where a column's type is not served, or not for its kinds."""
        inner = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not _is_served(inner):
            raise _not_served(name, kind)
        if _is_time(inner):
            for wanted in self.kinds[name]:
                if wanted != "datetime":
                    raise InputError(
                        f"column {name!r} has values that do not fit",
                        column=name,
                        expected=EXPECTED[wanted],
                        got=f"dates ({inner})",
                    )

    def charge(self, array: pa.Array) -> None:
        """Raise `HttpError` 413 where the texts of a column are too long together.

        To be called before the column is validated in full: elements that are views may all be of
        one long text, which would be looked at for each of them.
        """
        if pa.types.is_dictionary(array.type):
            array = array.dictionary
        if pa.types.is_string_view(array.type):
            self._take_text(_view_bytes(array))

    def read(self, name: str, parts: Sequence[pa.Array]) -> Values:
        """Return a column's values, given the arrays of its record batches.

        Raises `InputError`, `HttpError` 413.

        Numbers are arrays; what is missing is NaN in them where every version takes the column for
        numbers, else the column is a list with None. Dates and times are seconds since 1970 UTC,
        durations and times of day seconds, decimals floats, as in training.
        """
        is_dictionary = pa.types.is_dictionary(parts[0].type)
        read = self._of_dictionary if is_dictionary else self._values
        return _joined([read(name, part) for part in parts])

    def _of_dictionary(self, name: str, array: pa.DictionaryArray) -> list[Any]:
        entries = self._values(name, array.dictionary)
        plain = plain_values(entries, is_datetime=_is_time(array.type.value_type))
        places = _fixed(array.indices, _INDICES[str(array.type.index_type)])
        valid = _valid(array)
        texts = [entry if isinstance(entry, str) else "" for entry in plain]
        if any(texts):
            lengths = np.array([len(text) for text in texts])
            used = places if valid is None else places[valid]
            # One long text that all rows name costs as much as if each had sent it.
            self._take_text(int(lengths[used].sum()))
        if valid is None:
            return [plain[place] for place in places.tolist()]
        return [
            plain[place] if there else None
            for place, there in zip(places.tolist(), valid.tolist(), strict=True)
        ]

    def _values(self, name: str, array: pa.Array) -> Values:
        kind = array.type
        kinds = self.kinds[name]
        if (dtype := _FIXED.get(str(kind))) is not None:
            return self._numbers(array, dtype, kinds)
        if pa.types.is_boolean(kind):
            flags = _bits(array.buffers()[1], array)
            valid = _valid(array)
            return flags if valid is None else _with_none(flags, valid)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return _texts(array, np.dtype("<i4" if pa.types.is_string(kind) else "<i8"))
        if pa.types.is_string_view(kind):
            return _viewed_texts(array)
        if pa.types.is_null(kind):
            return [None] * len(array)
        if pa.types.is_decimal(kind):
            return np.array(
                [np.nan if value is None else float(value) for value in array.to_pylist()]
            )
        if _is_time(kind):
            return _seconds_since_1970(array)
        if pa.types.is_duration(kind) or pa.types.is_time(kind):
            ticks = _fixed(array, np.dtype("<i4" if pa.types.is_time32(kind) else "<i8"))
            return _with_nan(ticks / _TICKS[kind.unit], _valid(array))
        raise _not_served(name, kind)  # `check` has refused it before

    def _numbers(self, array: pa.Array, dtype: np.dtype, kinds: Collection[Kind]) -> Values:
        values = _fixed(array, dtype)
        valid = _valid(array)
        is_whole = dtype.kind != "f"
        if is_whole and "datetime" in kinds:
            # As JSON: no whole number stands for a missing time.
            return values.tolist() if valid is None else _with_none(values, valid)
        if valid is None:
            return values.copy() if self.copies or not values.flags.aligned else values
        if is_whole and not _NUMBERS.issuperset(kinds):
            return _with_none(values, valid)
        return _with_nan(values.astype(np.float64 if is_whole else dtype), valid)

    def _take_text(self, size: int) -> None:
        self._text_bytes += size
        if self._text_bytes > self.max_bytes:
            raise too_large(self.max_bytes)


_FIXED: dict[str, np.dtype] = {
    "int8": np.dtype("<i1"),
    "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "uint8": np.dtype("<u1"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
    "halffloat": np.dtype("<f2"),
    "float": np.dtype("<f4"),
    "double": np.dtype("<f8"),
}
"""Arrow's name of a type of numbers → how its elements lie."""
_INDICES = {name: dtype for name, dtype in _FIXED.items() if dtype.kind in "iu"}


def _joined(parts: list[Values]) -> Values:
    """Return the values of a column's record batches, one after the other."""
    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts):
        # Whole numbers become floats where some are missing, as in a column of one piece.
        return np.concatenate(arrays)
    return [
        value for part in parts for value in (part if isinstance(part, list) else part.tolist())
    ]


def _not_served(name: str, kind: pa.DataType) -> InputError:
    return InputError(
        f"column {name!r} is of an Arrow type that is not served",
        column=name,
        expected="numbers, true or false, texts, dates, times, or a dictionary of such",
        got=str(kind)[:_SHOWN],
    )


def _is_served(kind: pa.DataType) -> bool:
    types = pa.types
    return str(kind) in _FIXED or any(
        is_kind(kind)
        for is_kind in (
            types.is_boolean,
            types.is_string,
            types.is_large_string,
            types.is_string_view,
            types.is_null,
            types.is_decimal,
            types.is_date,
            types.is_timestamp,
            types.is_duration,
            types.is_time,
        )
    )


def _is_time(kind: pa.DataType) -> bool:
    """Return whether values are dates, with a time of day or without."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _fixed(array: pa.Array, dtype: np.dtype) -> np.ndarray:
    """Return the elements of a fixed size (N,) over the array's own buffer."""
    buffer = array.buffers()[1]
    if len(array) == 0 or buffer is None:
        return np.zeros(len(array), dtype)
    return np.frombuffer(buffer, dtype, len(array), array.offset * dtype.itemsize)


def _bits(buffer: pa.Buffer, array: pa.Array) -> np.ndarray:
    """Return one bit per element of an array as booleans (N,)."""
    if len(array) == 0 or buffer is None:
        return np.zeros(len(array), np.bool_)
    first, end = array.offset, array.offset + len(array)
    packed = np.frombuffer(buffer, np.uint8, -(-end // 8))
    return np.unpackbits(packed, count=end, bitorder="little")[first:].astype(np.bool_)


def _valid(array: pa.Array) -> np.ndarray | None:
    """Return which elements are there (N,), None where all are."""
    if array.null_count == 0:
        return None
    return _bits(array.buffers()[0], array)


def _with_nan(values: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    if valid is not None:
        values[~valid] = np.nan
    return values


def _with_none(values: np.ndarray, valid: np.ndarray) -> list[Any]:
    return [
        value if there else None
        for value, there in zip(values.tolist(), valid.tolist(), strict=True)
    ]


def _texts(array: pa.Array, dtype: np.dtype) -> list[Any]:
    """Return texts, None where they are missing; `dtype` is that of the offsets."""
    if len(array) == 0:
        return []
    _, places, held = array.buffers()
    count = len(array) + 1
    ends: Sequence[int] = np.frombuffer(
        places, dtype, count, array.offset * dtype.itemsize
    ).tolist()
    data = b"" if held is None else memoryview(held)[ends[0] : ends[-1]].tobytes()
    start = ends[0]
    text = data.decode()
    if len(text) == len(data):
        found = [text[a - start : b - start] for a, b in pairwise(ends)]
    else:
        found = [data[a - start : b - start].decode() for a, b in pairwise(ends)]
    valid = _valid(array)
    if valid is None:
        return found
    return [value if there else None for value, there in zip(found, valid.tolist(), strict=True)]


def _viewed_texts(array: pa.Array) -> list[Any]:
    """Return texts of string views, None where they are missing.

    Not by Arrow's own conversion: it follows the views of missing elements, which nothing checks.
    """
    views = _fixed(array, _VIEW)
    inside = views.view(np.uint8).reshape(-1, _VIEW.itemsize)[:, 4:]
    held = [memoryview(buffer) for buffer in array.buffers()[2:]]
    valid = _valid(array)
    there = [True] * len(array) if valid is None else valid.tolist()
    texts: list[Any] = []
    for place, (length, _, buffer, at) in enumerate(views.tolist()):
        if not there[place]:
            texts.append(None)
        elif length <= _INLINE:
            texts.append(inside[place, :length].tobytes().decode())
        else:
            texts.append(str(held[buffer][at : at + length], "utf-8"))
    return texts


def _view_bytes(array: pa.Array) -> int:
    """Return how long the texts of a column of string views are together, as they say."""
    lengths = _fixed(array, _VIEW)["length"].astype(np.int64).clip(0)
    valid = _valid(array)
    return int(lengths.sum() if valid is None else lengths[valid].sum())


def _seconds_since_1970(array: pa.Array) -> np.ndarray:
    """Return whole seconds, rounded down, `MISSING_DATETIME` where they are missing."""
    kind = array.type
    if pa.types.is_date32(kind):
        seconds = _fixed(array, np.dtype("<i4")).astype(np.int64) * _DAY_S
    else:
        ticks = _TICKS["ms" if pa.types.is_date64(kind) else kind.unit]
        seconds = _fixed(array, np.dtype("<i8")) // ticks
    valid = _valid(array)
    return seconds if valid is None else np.where(valid, seconds, MISSING_DATETIME)
