"""Python values from a request → graph inputs.

`table.values` defines what a value means; this module applies it fast: values of the exact type
take a short path that a property test holds equal to the definition. The result, *columns*, is a
dictionary of arrays (N, 1) by column name: float32, object (str) or int64.

Columns that the schema does not use are ignored. A feature column that is absent is an error;
`null` is a missing value. Messages name the column and the kinds of values, never a value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np

from steadynet.errors import InputError
from steadynet.runtime.matrix import Grid, GridLayout, Matrix, read_cells, read_matrix
from steadynet.spec.kinds import Kind
from steadynet.table.schema import MISSING_DATETIME, Column, Schema
from steadynet.table.values import (
    EXPECTED,
    FIRST_SECOND,
    LAST_SECOND,
    category,
    kind_of,
    scalar,
)

Columns = dict[str, np.ndarray]
"""Column name → array (N, 1)."""

_Reader = Callable[[Sequence[object]], Any]
"""Reads a column's values: as an array (N,), or those of a category as a list of texts."""
_LISTED: frozenset[type] = frozenset({list, tuple, np.ndarray})
_NUMBERS: frozenset[type] = frozenset({float, int, bool, type(None)})
_FLAGS: frozenset[type] = frozenset({bool, type(None)})
_TEXTS: frozenset[type] = frozenset({str})
_NONE: frozenset[type] = frozenset()
"""Types of values that are read together, since nothing has to be decided for each."""
_SHOWN = 5
_REMEMBERED_TEXTS = 2048
_REMEMBERED_CHARACTERS = 100
"""Bounds of what one category column remembers, whatever callers send."""


def decode_rows(schema: Schema, rows: Sequence[Mapping[str, object]]) -> Columns:
    """Return the columns of rows, each a dictionary column → value. Raises `InputError`."""
    return dict(ColumnDecoder(schema).rows(rows))


def decode_columns(schema: Schema, table: Mapping[str, Sequence[object]]) -> Columns:
    """Return the columns of a table, a dictionary column → list. Raises `InputError`."""
    return dict(ColumnDecoder(schema).table(table))


def from_arrays(schema: Schema, arrays: Mapping[str, np.ndarray]) -> Columns:
    """Return the columns of typed tensors (N,) or (N, 1). Raises `InputError`."""
    return dict(ColumnDecoder(schema).arrays(arrays))


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
    """The three functions of this module for one schema, prepared once.

    What it returns is a `Grid`: columns as any others, kept as a session is fed with them.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        missing = frozenset(schema.missing_spellings)
        self._missing = missing
        self._features = {column.name: column for column in schema.features}
        self._readers = {name: _reader(column, missing) for name, column in self._features.items()}
        self._layout = GridLayout(
            tuple(self._features),
            self._names_of("number", "boolean"),
            self._names_of("category"),
        )
        self._times = self._names_of("datetime")
        booleans = self._names_of("boolean")
        placed = list(enumerate(self._layout.numbers))
        self._numbers = [(place, name) for place, name in placed if name not in booleans]
        self._booleans = [(place, name) for place, name in placed if name in booleans]
        self._takes_matrix = len(self._numbers) == len(self._features)

    def rows(self, rows: Sequence[Mapping[str, object]]) -> Grid:
        """Return the columns of rows, each a dictionary column → value. Raises `InputError`."""
        if not rows:
            raise InputError("no rows to predict", expected="at least one row", got="none")
        try:
            cells = [row[name] for row in rows for name in self._layout.numbers]
            texts = {name: [row[name] for row in rows] for name in self._layout.texts}
            times = {name: [row[name] for row in rows] for name in self._times}
        except (KeyError, TypeError):
            raise self._misfit(rows) from None
        return self._read(len(rows), cells, texts, times)

    def table(self, table: Mapping[str, Sequence[object] | np.ndarray]) -> Grid:
        """Return the columns of a table, a dictionary column → list or typed tensor (N,).

        Raises `InputError`.
        """
        if type(table) is Matrix and self._takes_matrix and table.names == self._layout.names:
            numbers = read_matrix(table)
            if numbers is not None:
                return Grid(self._layout, numbers, {}, {})
        self._require(table)
        kinds = set(map(type, [table[name] for name in self._features]))
        if not kinds <= _LISTED:
            self._require_lists(table)
        self._require_equal_lengths({name: len(table[name]) for name in self._features})
        if np.ndarray in kinds:
            return self._read_typed(table)
        columns = [table[name] for name in self._layout.numbers]
        cells = list(chain.from_iterable(zip(*columns, strict=True)))
        rows = len(table[self._layout.names[0]])
        values = cast("Mapping[str, Sequence[object]]", table)
        return self._read(rows, cells, values, values)

    def arrays(self, arrays: Mapping[str, np.ndarray]) -> Grid:
        """Return the columns of typed tensors (N,) or (N, 1).

        Floats, integers and booleans become numbers, booleans, categories or seconds since 1970
        UTC; NaN, and `MISSING_DATETIME` in a datetime column, are missing. Texts come as arrays
        of `str`, `bytes` (UTF-8) or objects. Raises `InputError`.
        """
        self._require(arrays)
        flat = {name: self._flat(name, arrays[name]) for name in self._features}
        self._require_equal_lengths({name: len(array) for name, array in flat.items()})
        return self._read_typed(flat)

    def _read(
        self,
        rows: int,
        cells: list[Any],
        texts: Mapping[str, Sequence[Any]],
        times: Mapping[str, Sequence[Any]],
    ) -> Grid:
        """Return the columns of lists; `cells` are those of the numbers, row by row."""
        try:
            found = {name: self._read_list(name, texts[name]) for name in self._layout.texts}
            others = {name: self._read_list(name, times[name])[:, None] for name in self._times}
            return Grid(self._layout, self._read_cells(rows, cells), found, others)
        except InputError:
            # Of several columns that do not fit, the first one is told.
            for name, column in self._features.items():
                place = self._layout.places.get(name)
                given = texts if column.kind == "category" else times
                self._read_list(
                    name, given[name] if place is None else cells[place :: len(self._layout.places)]
                )
            raise

    def _read_cells(self, rows: int, cells: list[Any]) -> np.ndarray:
        """Return numbers and booleans (N, D) of their cells, row by row."""
        width = len(self._layout.numbers)
        if not width:
            return np.empty((rows, 0), np.float32)
        for place, name in self._booleans:
            if not _FLAGS.issuperset(map(type, given := cells[place::width])):
                cells[place::width] = self._read_list(name, given).tolist()
        array = read_cells(cells, width) if _NUMBERS.issuperset(map(type, cells)) else None
        if array is None:
            columns = [self._read_list(name, cells[at::width]) for at, name in self._numbers]
            array = np.empty((rows, width), np.float32)
            for (place, _), column in zip(self._numbers, columns, strict=True):
                array[:, place] = column
            for place, _ in self._booleans:
                array[:, place] = cells[place::width]
        return array

    def _read_typed(self, values: Mapping[str, Sequence[object] | np.ndarray]) -> Grid:
        """Return the columns of typed tensors, some of which may be lists."""
        read = {
            name: self._read_array(name, self._flat(name, given))
            if isinstance(given := values[name], np.ndarray)
            else self._read_list(name, given)
            for name in self._layout.names
        }
        # In Fortran's order: column by column, as they come and as they are counted.
        names = self._layout.numbers
        numbers = np.empty((len(values[self._layout.names[0]]), len(names)), np.float32, "F")
        for place, name in enumerate(names):
            numbers[:, place] = read[name]
        others = {name: read[name].reshape(-1, 1) for name in self._times}
        return Grid(
            self._layout, numbers, {name: read[name] for name in self._layout.texts}, others
        )

    def _read_list(self, name: str, values: Sequence[object]) -> Any:
        """Return a column's values as an array (N,), those of a category as a list of texts."""
        try:
            return self._readers[name](values)
        except ValueError:
            raise self._bad_value(name, values) from None

    def _names_of(self, *kinds: Kind) -> tuple[str, ...]:
        return tuple(name for name, column in self._features.items() if column.kind in kinds)

    def _require_lists(self, table: Mapping[str, object]) -> None:
        for name in self._features:
            if not isinstance(table[name], list | tuple | np.ndarray):
                raise InputError(
                    f"column {name!r} is no list of values",
                    column=name,
                    expected="a list",
                    got=kind_of(table[name]),
                )

    def _read_array(self, name: str, array: np.ndarray) -> Any:
        """Do for a typed tensor (N,) what `_read_list` does for a list."""
        column = self._features[name]
        if array.dtype.kind == "M" and column.kind == "datetime":
            # Of any unit; NaT becomes MISSING_DATETIME.
            array = array.astype("datetime64[s]").astype(np.int64)
        if array.dtype.kind in "fiub" and column.kind != "category":
            try:
                return _numeric_array(column, array)
            except ValueError:
                raise self._bad_value(name, array.tolist()) from None
        try:
            return self._readers[name](_as_list(array))
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
    if column.kind == "category":
        return _Categories(column, missing)
    dtype = np.int64 if column.kind == "datetime" else np.float32
    plain = _NUMBERS if column.kind == "number" else _FLAGS if column.kind == "boolean" else _NONE

    def read(values: Sequence[object]) -> np.ndarray:
        if plain.issuperset(map(type, values)):
            cells = read_cells(list(values), 1)
            if cells is not None:
                return cells[:, 0]
        return np.array([scalar(column, value, missing) for value in values], dtype)

    return read


class _Categories:
    """Reads a category column. Remembers how texts were decoded, since few come again and again."""

    def __init__(self, column: Column, missing: Collection[str]) -> None:
        self._column = column
        self._missing = missing
        self._known: dict[object, str] = {}

    def __call__(self, values: Sequence[object]) -> list[str]:
        known = self._known
        if _TEXTS.issuperset(map(type, values)):
            texts = list(map(known.get, values))
            if None not in texts:
                return texts  # type: ignore[return-value]
        return [
            self._decode(value)
            if type(value) is not str or (text := known.get(value)) is None
            else text
            for value in values
        ]

    def _decode(self, value: object) -> str:
        decoded = category(value, self._missing)
        if (
            type(value) is str
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
        return array
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
