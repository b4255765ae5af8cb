"""How long one row takes through a call in process, measured alike for us and for every peer.

Imported by what runs in the peers' environment too, so it needs NumPy alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import TypeVar

import numpy as np

Row = TypeVar("Row")

DISTINCT = 200
"""Rows that are asked for in turn."""
WARM_CALLS, WARM_S = 300, 1.0
CALLS, CALLS_S = 3000, 5.0
"""Bounds of both parts, whichever comes first: a call of 100 ms is made fifty times."""


def one_row_ms(predict: Callable[[Row], object], rows: Sequence[Row]) -> float:
    """Return the median time of a call with one of `rows`, after calls that warm up."""
    given = cycle(rows[:DISTINCT])
    _call(predict, given, WARM_CALLS, WARM_S)
    return float(np.median(_call(predict, given, CALLS, CALLS_S)) * 1000)


def _call(
    predict: Callable[[Row], object], given: cycle[Row], most: int, longest_s: float
) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + longest_s
    while len(times) < most and (start := time.perf_counter()) < end:
        row = next(given)
        start = time.perf_counter()
        predict(row)
        times.append(time.perf_counter() - start)
    return times
