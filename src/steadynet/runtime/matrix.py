"""Tables of numbers alone, kept in one piece: rows as they were sent, and columns as a graph reads.

Both are mappings like any other table and any other columns, so that only what gains by it need
know them: joining callers' rows, decoding, a session's inputs, counting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np


class Matrix(Mapping[str, "list[Any] | np.ndarray"]):
    """Rows of numbers in the order of `names`: a flat list of N x D values, or an array (N, D).

    A list holds floats, whole numbers and None for what is missing, and nothing else.
    """

    __slots__ = ("cells", "names")

    def __init__(self, names: tuple[str, ...], cells: list[Any] | np.ndarray) -> None:
        self.names = names
        self.cells = cells

    def __getitem__(self, name: str) -> list[Any] | np.ndarray:
        try:
            position = self.names.index(name)
        except ValueError:
            raise KeyError(name) from None
        if isinstance(self.cells, np.ndarray):
            return self.cells[:, position]
        return self.cells[position :: len(self.names)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class Grid(Mapping[str, np.ndarray]):
    """Columns (N, 1) of float32 as one array (D, N), in the order of `names`."""

    __slots__ = ("array", "names")

    def __init__(self, names: tuple[str, ...], array: np.ndarray) -> None:
        self.names = names
        self.array = array

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            position = self.names.index(name)
        except ValueError:
            raise KeyError(name) from None
        return self.array[position, :, None]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def join_matrices(tables: Sequence[Mapping[str, Any]]) -> Matrix | None:
    """Return the rows of all tables; None where they are not matrices of one kind."""
    parts = [table for table in tables if type(table) is Matrix]
    if len(parts) < len(tables):
        return None
    names = parts[0].names
    values = [part.cells for part in parts]
    if set(map(type, values)) == {list}:
        joined: list[Any] = []
        for part in values:
            joined += part
        return Matrix(names, joined)
    arrays = [part for part in values if isinstance(part, np.ndarray)]
    if len(arrays) == len(values) and len({part.dtype for part in arrays}) == 1:
        return Matrix(names, np.concatenate(arrays))
    return None


def read_grid(matrix: Matrix) -> Grid | None:
    """Return columns of numbers as float32, by way of float64; what is beyond it is infinite.

    None where a whole number is too large for a float64.
    """
    names, values = matrix.names, matrix.cells
    if isinstance(values, np.ndarray) and values.dtype == np.float32:
        return Grid(names, np.ascontiguousarray(values.T))
    try:
        wide = np.array(values, dtype=np.float64).reshape(-1, len(names))
    except OverflowError:
        return None
    with np.errstate(over="ignore"):
        return Grid(names, wide.T.astype(np.float32, order="C"))
