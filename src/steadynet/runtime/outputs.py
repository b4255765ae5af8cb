"""One caller's rows of a batch's outputs, cut out when they are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from steadynet.table.schema import HIDDEN, NOVELTY


class Batch:
    """Outputs of a run, arrays (N,) or (N, C) by output name, and the same as flat lists."""

    __slots__ = ("arrays", "lists")

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.lists: dict[str, list[Any]] = {}
        """What was asked for, made once for all callers of the batch."""


class Part(Mapping[str, np.ndarray]):
    """Rows `start` to `stop` of a batch's outputs."""

    __slots__ = ("_batch", "_start", "_stop")

    def __init__(self, batch: Batch, start: int, stop: int) -> None:
        self._batch = batch
        self._start = start
        self._stop = stop

    def __getitem__(self, name: str) -> np.ndarray:
        return self._batch.arrays[name][self._start : self._stop]

    def __contains__(self, name: object) -> bool:
        return name in self._batch.arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._batch.arrays)

    def __len__(self) -> int:
        return len(self._batch.arrays)

    def flat(self, name: str) -> tuple[tuple[int, ...], list[Any]]:
        """Return an output's shape and its values, row by row."""
        batch, start, stop = self._batch, self._start, self._stop
        values = batch.lists.get(name)
        array = batch.arrays[name]
        if values is None:
            values = batch.lists[name] = array.ravel().tolist()
        if array.ndim == 1:
            return (stop - start,), values[start:stop]
        width = array.shape[1]
        return (stop - start, width), values[start * width : stop * width]


def parts_of(outputs: Mapping[str, np.ndarray], rows: Sequence[int]) -> Iterator[Part]:
    """Yield each caller's part of a batch whose callers have so many rows, in their order."""
    batch = Batch(outputs)
    start = 0
    for count in rows:
        yield Part(batch, start, start + count)
        start += count


def flat_values(outputs: Mapping[str, np.ndarray], name: str) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape and the values, row by row, of one of a caller's outputs."""
    if type(outputs) is Part:
        return outputs.flat(name)
    array = outputs[name]
    return array.shape, array.ravel().tolist()


def without_watched(
    outputs: Mapping[str, np.ndarray],
) -> tuple[Mapping[str, np.ndarray], dict[str, np.ndarray] | None]:
    """Part a run's outputs into what is answered and what only monitoring looks at, if anything."""
    watched = {name: outputs[name] for name in (HIDDEN, NOVELTY) if name in outputs}
    if not watched:
        return outputs, None
    return {name: array for name, array in outputs.items() if name not in watched}, watched


def far_rows(novelty: np.ndarray) -> list[int]:
    """Return the positions of rows that `NOVELTY` (N,) puts beyond 1.

    So far away that squares overflow, the distance is no number: such a row is far, and hides no
    other one.
    """
    near = novelty <= 1
    return [] if np.count_nonzero(near) == near.size else np.flatnonzero(~near).tolist()


def rows_of(array: np.ndarray | None, rows: Sequence[int]) -> list[np.ndarray | None]:
    """Cut an array (N,) into each caller's rows; nothing for each where there is no array."""
    if array is None:
        return [None] * len(rows)
    ends = accumulate(rows)
    return [array[end - count : end] for end, count in zip(ends, rows, strict=True)]
