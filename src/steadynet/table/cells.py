"""Cells of a column that become the graph's inputs when rows are asked for.

Texts of millions of rows, an object each, would be the largest part of a table in memory: a
category column is kept as numbers and the names that they stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from steadynet.table.convert import parsed_input
from steadynet.table.convert import to_input as column_input
from steadynet.table.frame import Frame, Rows
from steadynet.table.schema import Schema

Array = npt.NDArray[Any]
Allocate = Callable[[tuple[int, ...], npt.DTypeLike], Array]
"""Returns an array of a shape and type, in memory or in a file."""


class Cells(Protocol):
    """A column (N, 1). NumPy's arrays are such."""

    def __len__(self) -> int:
        """Return N."""
        ...

    def __getitem__(self, rows: Any) -> Any:
        """Return the cells (n, 1) of a slice or of row numbers (n,)."""
        ...


class CodedCells:
    """A category column (N, 1): `names[codes]`, an empty text where a value is missing."""

    def __init__(self, codes: npt.NDArray[np.int32], names: Array) -> None:
        self._codes = codes
        self._names = names

    def __len__(self) -> int:
        """Return N."""
        return len(self._codes)

    def __getitem__(self, rows: Any) -> Array:
        """Return the texts (n, 1) of a slice or of row numbers (n,)."""
        found: Array = self._names[self._codes[rows]].reshape(-1, 1)
        return found


class Part(Mapping[str, Array]):
    """Some rows of every column; a column's cells are made each time that they are asked for."""

    def __init__(self, columns: Mapping[str, Cells], rows: Rows) -> None:
        self._columns = columns
        self._rows = rows

    def __getitem__(self, name: str) -> Array:
        """Return a column's cells (n, 1)."""
        cells: Array = self._columns[name][self._rows]
        return cells

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._columns)


def to_cells(frame: Frame, schema: Schema, allocate: Allocate = np.empty) -> dict[str, Cells]:
    """Return what `table.convert.to_columns` returns, compactly and in arrays of `allocate`."""
    found: dict[str, Cells] = {}
    for column in schema.features:
        if column.kind == "category":
            found[column.name] = _coded(parsed_input(frame, column, schema), allocate)
        else:
            values = column_input(frame, column, schema)
            stored = allocate(values.shape, values.dtype)
            stored[:] = values
            found[column.name] = stored
    return found


def _coded(texts: pl.Series, allocate: Allocate) -> CodedCells:
    names = texts.drop_nulls().unique().sort()
    codes = allocate((len(texts),), np.int32)
    entries = texts.cast(pl.Enum(names)).to_physical().cast(pl.Int32)
    codes[:] = (entries + 1).fill_null(0).to_numpy()
    return CodedCells(codes, np.array(["", *names.to_list()], dtype=object))
