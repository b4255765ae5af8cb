"""Python values from a request → graph inputs.

`table.values` defines what a value means; this module applies it fast: values of the exact type
take a short path that a property test holds equal to the definition. The result, *columns*, is a
dictionary of arrays (N, 1) by column name: float32, object (str) or int64.

Columns that the schema does not use are ignored. A feature column that is absent is an error;
`null` is a missing value. Messages name the column and the kinds of values, never a value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from steadynet.errors import InputError
from steadynet.runtime.matrix import Matrix, read_grid
from steadynet.table.schema import MISSING_DATETIME, Column, Schema
from steadynet.table.values import (
    EXPECTED,
    FIRST_SECOND,
    FLOAT32_LIMIT,
    LAST_SECOND,
    kind_of,
    scalar,
)

Columns = dict[str, np.ndarray]
"""Column name → array (N, 1)."""

_Reader = Callable[[Sequence[object]], np.ndarray]
_LISTED: frozenset[type] = frozenset({list, tuple, np.ndarray})
_FLOATS, _TEXTS = frozenset({float}), frozenset({str})
_FEW = 8
"""Up to so many values are read one by one: what they share would cost more than it saves."""
_SHOWN = 5
_REMEMBERED_TEXTS = 2048
_REMEMBERED_CHARACTERS = 100
"""Bounds of what one category column remembers, whatever callers send."""


def decode_rows(schema: Schema, rows: Sequence[Mapping[str, object]]) -> Columns:
    """Return the columns of rows, each a dictionary column → value. Raises `InputError`."""
    return ColumnDecoder(schema).rows(rows)


def decode_columns(schema: Schema, table: Mapping[str, Sequence[object]]) -> Columns:
    """Return the columns of a table, a dictionary column → list. Raises `InputError`."""
    return dict(ColumnDecoder(schema).table(table))


def from_arrays(schema: Schema, arrays: Mapping[str, np.ndarray]) -> Columns:
    """Return the columns of typed tensors (N,) or (N, 1). Raises `InputError`."""
    return ColumnDecoder(schema).arrays(arrays)


def plain_values(
    values: Sequence[object] | np.ndarray, *, is_datetime: bool = False
) -> Sequence[object]:
    """Return a column's values as JSON has them; what is missing in a typed tensor is None."""
    if not isinstance(values, np.ndarray):
        return values
    missing: np.ndarray | None = None
    if values.dtype.kind == "f":
        missing = np.isnan(values)
    elif is_datetime and values.dtype == np.int64:
        missing = values == MISSING_DATETIME
    plain: list[object] = values.tolist()
    if missing is not None and missing.any():
        return [None if gone else value for gone, value in zip(missing, plain, strict=True)]
    return plain


class ColumnDecoder:
    """The three functions of this module for one schema, prepared once."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        missing = frozenset(schema.missing_spellings)
        self._missing = missing
        self._features = {column.name: column for column in schema.features}
        self._readers = [
            (column.name, _reader(column, missing)) for column in self._features.values()
        ]
        kinds = {column.kind for column in self._features.values()}
        self._number_names = tuple(self._features) if kinds == {"number"} else None
        """The columns in order, where all are numbers."""

    def rows(self, rows: Sequence[Mapping[str, object]]) -> Columns:
        """Return the columns of rows, each a dictionary column → value. Raises `InputError`."""
        if not rows:
            raise InputError("no rows to predict", expected="at least one row", got="none")
        try:
            values = {name: [row[name] for row in rows] for name, _ in self._readers}
        except (KeyError, TypeError):
            raise self._misfit(rows) from None
        return self._read(values)

    def table(self, table: Mapping[str, Sequence[object] | np.ndarray]) -> Mapping[str, np.ndarray]:
        """Return the columns of a table, a dictionary column → list or typed tensor (N,).

        Raises `InputError`.
        """
        if type(table) is Matrix and table.names == self._number_names:
            grid = read_grid(table)
            if grid is not None:
                return grid
        self._require(table)
        kinds = set(map(type, [table[name] for name in self._features]))
        if not kinds <= _LISTED:
            self._require_lists(table)
        self._require_equal_lengths({name: len(table[name]) for name in self._features})
        return self._read_typed(table) if np.ndarray in kinds else self._read(table)

    def arrays(self, arrays: Mapping[str, np.ndarray]) -> Columns:
        """Return the columns of typed tensors (N,) or (N, 1).

        Floats, integers and booleans become numbers, booleans, categories or seconds since 1970
        UTC; NaN, and `MISSING_DATETIME` in a datetime column, are missing. Texts come as arrays
        of `str`, `bytes` (UTF-8) or objects. Raises `InputError`.
        """
        self._require(arrays)
        flat = {name: self._flat(name, arrays[name]) for name in self._features}
        self._require_equal_lengths({name: len(array) for name, array in flat.items()})
        return {name: self._from_array(name, flat[name], read) for name, read in self._readers}

    def _read(self, values: Mapping[str, Any]) -> Columns:
        """Return the columns of lists."""
        columns: Columns = {}
        for name, read in self._readers:
            try:
                columns[name] = read(values[name])
            except ValueError:
                raise self._bad_value(name, values[name]) from None
        return columns

    def _read_typed(self, values: Mapping[str, Sequence[object] | np.ndarray]) -> Columns:
        """Return the columns of typed tensors, some of which may be lists."""
        columns: Columns = {}
        for name, read in self._readers:
            given = values[name]
            if isinstance(given, np.ndarray):
                columns[name] = self._from_array(name, self._flat(name, given), read)
                continue
            try:
                columns[name] = read(given)
            except ValueError:
                raise self._bad_value(name, given) from None
        return columns

    def _require_lists(self, table: Mapping[str, object]) -> None:
        for name in self._features:
            if not isinstance(table[name], list | tuple | np.ndarray):
                raise InputError(
                    f"column {name!r} is no list of values",
                    column=name,
                    expected="a list",
                    got=kind_of(table[name]),
                )

    def _from_array(self, name: str, array: np.ndarray, read: _Reader) -> np.ndarray:
        column = self._features[name]
        if array.dtype.kind == "M" and column.kind == "datetime":
            # Of any unit; NaT becomes MISSING_DATETIME.
            array = array.astype("datetime64[s]").astype(np.int64)
        if array.dtype.kind in "fiub" and column.kind != "category":
            try:
                return _numeric_array(column, array).reshape(-1, 1)
            except ValueError:
                raise self._bad_value(name, array.tolist()) from None
        try:
            return read(_as_list(array))
        except UnicodeDecodeError:
            raise InputError(
                f"column {name!r} has text that is not UTF-8", column=name, expected="UTF-8"
            ) from None
        except ValueError:
            raise self._bad_value(name, _as_list(array)) from None

    def _flat(self, name: str, array: np.ndarray) -> np.ndarray:
        if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
            return array.reshape(-1)
        raise InputError(
            f"column {name!r} has a wrong shape",
            column=name,
            expected="(N,) or (N, 1)",
            got=str(array.shape),
        )

    def _require(self, given: Mapping[str, object]) -> None:
        absent = [name for name in self._features if name not in given]
        if absent:
            raise _absent(self._features[absent[0]], len(absent), "")

    def _require_equal_lengths(self, lengths: dict[str, int]) -> None:
        counts = set(lengths.values())
        if counts == {0}:
            raise InputError("no rows to predict", expected="at least one row", got="none")
        if len(counts) > 1:
            shown = ", ".join(f"{name!r} {n}" for name, n in list(lengths.items())[:_SHOWN])
            raise InputError(
                "the columns have different lengths",
                expected="one value per row in each column",
                got=shown,
            )

    def _misfit(self, rows: Sequence[object]) -> InputError:
        """Say which row is no row, or which column it lacks."""
        for position, row in enumerate(rows):
            if not isinstance(row, Mapping):
                return InputError(
                    f"row {position} is no row", expected="column → value", got=kind_of(row)
                )
            absent = [name for name in self._features if name not in row]
            if absent:
                where = f" in row {position}" if len(rows) > 1 else ""
                return _absent(self._features[absent[0]], len(absent), where)
        return InputError("the rows cannot be read", expected="a list of column → value")

    def _bad_value(self, name: str, values: Sequence[object]) -> InputError:
        """Say which row's value does not fit the column."""
        column = self._features[name]
        for position, value in enumerate(values):
            try:
                scalar(column, value, self._missing)
            except ValueError as error:
                return InputError(
                    f"column {name!r} has a value that does not fit"
                    + (f" in row {position}" if len(values) > 1 else ""),
                    column=name,
                    expected=EXPECTED[column.kind],
                    got=str(error),
                )
        return InputError(
            f"column {name!r} cannot be read", column=name, expected=EXPECTED[column.kind]
        )


def _absent(column: Column, count: int, where: str) -> InputError:
    more = f" (and {count - 1} more)" if count > 1 else ""
    return InputError(
        f"column {column.name!r}{more} is missing{where}",
        column=column.name,
        expected=EXPECTED[column.kind],
        got="no such column",
        do="Send null where the value is not known.",
    )


def _reader(column: Column, missing: Collection[str]) -> _Reader:
    if column.kind == "number":
        return lambda values: _read_numbers(column, missing, values)
    if column.kind == "category":
        return _Categories(column, missing)
    dtype = np.float32 if column.kind == "boolean" else np.int64
    return lambda values: np.array(
        [[scalar(column, value, missing)] for value in values], dtype=dtype
    )


def _read_numbers(column: Column, missing: Collection[str], values: Sequence[object]) -> np.ndarray:
    if len(values) > _FEW and _FLOATS.issuperset(map(type, values)):
        with np.errstate(over="ignore"):
            return np.array(values, dtype=np.float64).astype(np.float32).reshape(-1, 1)
    return np.array(
        [
            [
                value
                if type(value) is float and -FLOAT32_LIMIT < value < FLOAT32_LIMIT
                else scalar(column, value, missing)
            ]
            for value in values
        ],
        dtype=np.float32,
    )


class _Categories:
    """Reads a category column. Remembers how texts were decoded, since few come again and again."""

    def __init__(self, column: Column, missing: Collection[str]) -> None:
        self._column = column
        self._missing = missing
        self._known: dict[object, str] = {}

    def __call__(self, values: Sequence[object]) -> np.ndarray:
        array = np.empty((len(values), 1), dtype=object)
        if len(values) > _FEW and _TEXTS.issuperset(map(type, values)):
            texts = list(map(self._known.get, values))
            if None not in texts:
                array[:, 0] = texts
                return array
        for position, value in enumerate(values):
            text = self._known.get(value) if type(value) is str else None
            array[position, 0] = self._decode(value) if text is None else text
        return array

    def _decode(self, value: object) -> float | int | str:
        decoded = scalar(self._column, value, self._missing)
        if (
            type(value) is str
            and isinstance(decoded, str)
            and len(value) <= _REMEMBERED_CHARACTERS
            and len(self._known) < _REMEMBERED_TEXTS
        ):
            self._known[value] = decoded
        return decoded


def _numeric_array(column: Column, array: np.ndarray) -> np.ndarray:
    """Do for a float, integer or boolean array what `scalar` does for each of its values."""
    if column.kind == "datetime":
        return _seconds_array(array)
    if column.kind == "number" and array.dtype == np.float32:
        return np.ascontiguousarray(array)
    # By way of float64, as `scalar` goes; beyond float32 is infinite.
    wide = array.astype(np.float64)
    if column.kind == "boolean" and not np.all((wide == 0) | (wide == 1) | np.isnan(wide)):
        raise ValueError("a number")
    with np.errstate(over="ignore"):
        return wide.astype(np.float32)


def _seconds_array(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "b":
        raise ValueError("true or false")
    if array.dtype.kind == "f":
        # Narrower floats do not reach as far as the years do.
        array = array.astype(np.float64)
    missing = np.isnan(array) if array.dtype.kind == "f" else array == MISSING_DATETIME
    # Infinities and years beyond 9999 are out of the range before they could overflow.
    floored = np.floor(array) if array.dtype.kind == "f" else array
    if not np.all(missing | ((floored >= FIRST_SECOND) & (floored <= LAST_SECOND))):
        raise ValueError("a time outside the years 1 to 9999")
    return np.where(missing, MISSING_DATETIME, np.where(missing, 0, floored).astype(np.int64))


def _as_list(array: np.ndarray) -> list[object]:
    values: list[object] = array.tolist()
    return [value.decode() if isinstance(value, bytes) else value for value in values]
