"""What is kept in one piece: rows of numbers as they were sent, and columns as a session is fed.

Both are mappings like any other table and any other columns, so that only what gains by it need
know them: joining callers' rows, decoding, a session's inputs, counting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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


@dataclass(frozen=True)
class GridLayout:
    """Which columns a grid has, and where it keeps them. Made once for a schema."""

    names: tuple[str, ...]
    numbers: tuple[str, ...]
    """Columns of float32, in the order of the array."""
    texts: tuple[str, ...]

    @cached_property
    def places(self) -> dict[str, int]:
        """Number column → its place in the array."""
        return {name: place for place, name in enumerate(self.numbers)}


class Grid(Mapping[str, np.ndarray]):
    """Columns (N, 1), kept as a session is fed with them.

    `numbers` float32 (N, D), `texts` a list of N per column, and `others`, arrays (N, 1), by name.
    """

    __slots__ = ("layout", "numbers", "others", "texts")

    def __init__(
        self,
        layout: GridLayout,
        numbers: np.ndarray,
        texts: Mapping[str, list[str]],
        others: Mapping[str, np.ndarray],
    ) -> None:
        self.layout = layout
        self.numbers = numbers
        self.texts = texts
        self.others = others

    def __getitem__(self, name: str) -> np.ndarray:
        place = self.layout.places.get(name)
        if place is not None:
            return self.numbers[:, place, None]
        texts = self.texts.get(name)
        if texts is None:
            return self.others[name]
        array = np.empty((len(texts), 1), dtype=object)
        array[:, 0] = texts
        return array

    def __contains__(self, name: object) -> bool:
        return name in self.layout.places or name in self.texts or name in self.others

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.names)

    def __len__(self) -> int:
        return len(self.layout.names)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.numbers)


def join_numbers(grids: Sequence[Grid]) -> dict[str, np.ndarray]:
    """Return the number columns (N,) of all grids of one layout, each column in one piece."""
    names = grids[0].layout.numbers
    numbers = np.empty((sum(grid.rows for grid in grids), len(names)), np.float32, "F")
    np.concatenate([grid.numbers for grid in grids], out=numbers)
    return {name: numbers[:, place] for place, name in enumerate(names)}


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


def read_matrix(matrix: Matrix) -> np.ndarray | None:
    """Return numbers (N, D) as float32, by way of float64; what is beyond it is infinite.

    None where a whole number is too large for a float64.
    """
    names, values = matrix.names, matrix.cells
    if isinstance(values, np.ndarray) and values.dtype == np.float32:
        return values
    return read_cells(values, len(names))


def read_cells(cells: list[Any] | np.ndarray, width: int) -> np.ndarray | None:
    """Return floats, whole numbers and None as float32 (N, `width`), as `read_matrix` does."""
    try:
        wide = np.array(cells, dtype=np.float64).reshape(-1, width)
    except OverflowError:
        return None
    with np.errstate(over="ignore"):
        return wide.astype(np.float32)
