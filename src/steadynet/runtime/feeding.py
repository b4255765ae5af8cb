"""Columns as a session is fed with them: what `runtime.front` cut off a graph, done here.

Numbers are copied side by side, texts are looked up: the entries are those of the graph's own
nodes, from their own attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from steadynet.runtime.front import Join, Lookup
from steadynet.runtime.matrix import Grid

Columns = Mapping[str, np.ndarray]
_Part = Callable[[Columns, int, int], np.ndarray]


class Feeder:
    """Makes the inputs of one session.

    `inputs` are the session's own, with the column that each is named for; `joins` what takes the
    place of further columns, whose inputs are named as `columns` says (input → column).
    """

    def __init__(
        self, inputs: Sequence[str], joins: Sequence[Join], columns: Mapping[str, str]
    ) -> None:
        self._parts: list[tuple[str, _Part]] = [
            *((name, _plain(columns[name])) for name in inputs),
            *((join.tensor, _joined(join, columns)) for join in joins),
        ]

    def feed(self, columns: Columns, start: int, stop: int) -> dict[str, np.ndarray]:
        """Return a session's inputs for the rows from `start` to `stop`.

        Raises `KeyError` or `ValueError` where the columns are not as they should be.
        """
        return {name: part(columns, start, stop) for name, part in self._parts}


def _plain(column: str) -> _Part:
    return lambda columns, start, stop: columns[column][start:stop]


def _joined(join: Join, columns: Mapping[str, str]) -> _Part:
    names = tuple(columns[name] for name in join.inputs)
    if join.lookups is None:
        return lambda columns, start, stop: _numbers(names, columns, start, stop)
    lookups = list(zip(names, join.lookups, strict=True))
    return lambda columns, start, stop: _entries(lookups, columns, start, stop)


def _numbers(names: tuple[str, ...], columns: Columns, start: int, stop: int) -> np.ndarray:
    """Return number columns as float32 (N, D)."""
    if type(columns) is Grid and columns.layout.numbers == names:
        return np.ascontiguousarray(columns.numbers[start:stop])
    arrays = [columns[name] for name in names]
    if any(array.dtype != np.float32 or array.shape[1:] != (1,) for array in arrays):
        raise ValueError("a column is no float32 (N, 1)")
    return np.concatenate([array[start:stop] for array in arrays], axis=1)


def _entries(
    lookups: list[tuple[str, tuple[Lookup, int]]], columns: Columns, start: int, stop: int
) -> np.ndarray:
    """Return the entries of category columns, int64 (N, K)."""
    found: list[int] = []
    for name, (lookup, other) in lookups:
        texts = _texts(columns, name)[start:stop]
        entries = list(map(lookup.get, texts))
        if None in entries:
            entries = [_entry(lookup, other, text) for text in texts]
        found += entries  # type: ignore[arg-type]
    return np.ascontiguousarray(np.array(found, np.int64).reshape(len(lookups), -1).T)


def _texts(columns: Columns, name: str) -> list[str]:
    if type(columns) is Grid:
        return columns.texts[name]
    array = columns[name]
    if array.dtype != object or array.shape[1:] != (1,):
        raise ValueError("a column is no object (N, 1)")
    texts: list[str] = array[:, 0].tolist()
    return texts


def _entry(lookup: Lookup, other: int, text: str) -> int:
    entry = lookup.get(text)
    if entry is None:
        if not isinstance(text, str):
            raise ValueError("a category is no text")
        # No graph could be handed a text that is not Unicode, so it is no unknown one.
        text.encode()
        entry = other
    return entry
