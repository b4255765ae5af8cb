"""Importance within a given time: as many rows and shuffles as fit, and the error that is left.

Rows are taken in blocks. In each block every column is shuffled once, so that all columns stand on
the same rows whenever time is up; when every row was looked at, the next shuffle of each begins.

Law: blocks are ended by the clock alone, never by what was found, so that the errors stand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from steadynet.explain.answering import Columns, Run, row_count, run_chunked, take
from steadynet.explain.importance import ColumnImportance, mean_rise
from steadynet.runtime.metrics import per_row_loss
from steadynet.table.schema import Schema

LARGEST_BLOCK = 1000
SMALLEST_BLOCK = 50
"""Shuffled among fewer rows a column hardly changes."""
PACED_ROWS = 200
"""Rows that tell how long a row takes."""
BLOCKS = 5
"""Blocks that there shall be time for at least."""
MOST_SHUFFLES = 100


class WithinTime(NamedTuple):
    """What was found in the time that there was."""

    importance: tuple[ColumnImportance, ...]
    """The largest first."""
    rows: int
    """Rows that were looked at."""
    shuffles: float
    """How often each column was shuffled, 1 being once over all these rows."""


def importance_within(
    run: Run,
    schema: Schema,
    columns: Columns,
    target: npt.NDArray[Any],
    *,
    deadline: float,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> WithinTime:
    """Return every feature's importance as `permutation_importance` does, until `deadline`.

    `columns` (N, 1) and `target` (N,) are of rows in random order. At least one block is looked at,
    however late it is.
    """
    random = np.random.default_rng(seed)
    output = "prediction" if schema.target.task == "regression" else "probabilities"
    names = [column.name for column in schema.features]
    rows = row_count(columns)
    size = _block_size(run, columns, len(names), deadline, clock)
    total, times = np.zeros((rows, len(names))), np.zeros(rows, np.int64)
    longest = 0.0
    for block in (part for _ in range(MOST_SHUFFLES) for part in _blocks(rows, size)):
        began = clock()
        if times.any() and began + longest > deadline:
            break
        own = take(columns, block)
        base = per_row_loss(target[block], run_chunked(run, own)[output])
        for place, name in enumerate(names):
            changed = own | {name: own[name][random.permutation(len(block))]}
            total[block, place] += (
                per_row_loss(target[block], run_chunked(run, changed)[output]) - base
            )
        times[block] += 1
        longest = max(longest, clock() - began)
    seen = times > 0
    rises = total[seen] / times[seen, None]
    found = [mean_rise(name, rises[:, place]) for place, name in enumerate(names)]
    return WithinTime(
        importance=tuple(sorted(found, key=lambda item: -item.loss)),
        rows=int(seen.sum()),
        shuffles=float(times[seen].mean()),
    )


def _block_size(
    run: Run, columns: Columns, features: int, deadline: float, clock: Callable[[], float]
) -> int:
    """Return how many rows a block has, by how long some rows take."""
    some = take(columns, np.arange(min(PACED_ROWS, row_count(columns))))
    run_chunked(run, some)  # the first call of a graph is slower
    began = clock()
    run_chunked(run, some)
    each = max(clock() - began, 1e-9) / row_count(some)
    affordable = (deadline - clock()) / (BLOCKS * (features + 1) * each)
    return int(np.clip(affordable, SMALLEST_BLOCK, LARGEST_BLOCK))


def _blocks(rows: int, size: int) -> list[npt.NDArray[np.int64]]:
    """Deal rows to blocks of about `size`, none smaller than half of it where there are several."""
    return np.array_split(np.arange(rows), max(1, round(rows / size)))
