"""What each column adds to one row's answer: Shapley values by sampled orders.

A row is built up out of a background row, column by column in a random order; what the answer
changes by at a column is what the column adds there (Štrumbelj and Kononenko 2014). Each order is
walked backwards too with the same background row, which takes the first-order part out of the
error (Mitchell et al. 2022, JMLR 23). The values are interventional: columns that go together are
taken apart, and rows that never occur are answered.

Law: the values of a row sum to its answer minus the mean answer of the background rows that were
drawn, exactly but for rounding.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.explain.answering import Columns, Floats, Score, row_count, take

ORDERS_AT_ONCE = 64
"""Orders whose rows are answered in one call: bounds memory."""
FEWEST_PAIRS = 2
"""Of an order and its reverse: an error needs two."""


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """Why one row has its answer."""

    answer: float
    baseline: float
    """Mean answer of the background rows that were drawn."""
    columns: tuple[str, ...]
    values: tuple[float, ...]
    """What each column adds, in the answer's unit; they sum to answer - baseline."""
    errors: tuple[float, ...]
    """Standard error of each value, from the sampling."""
    orders: int
    """Orders that were walked, backwards ones counted too."""


def explain_row(
    score: Score,
    row: Columns,
    background: Columns,
    *,
    orders: int = 200,
    seed: int = 0,
    deadline: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> Attribution:
    """Return what each column adds to the answer of `row` (1, 1 each).

    `background` (B, 1) are the rows that it is held against. `orders` is rounded up to an even
    number, 4 at least; (columns + 1) * `orders` rows are answered, and the error falls with the
    square root of `orders`. With a `deadline` by the `clock`, as many orders as there is time for,
    4 at least: what as many `orders` give without one.
    """
    names = tuple(row)
    pairs = max(FEWEST_PAIRS, math.ceil(orders / 2))
    random = np.random.default_rng(seed)
    found: list[tuple[Floats, Floats]] = []
    done, began = 0, clock()
    while done < pairs:
        count = min(ORDERS_AT_ONCE, pairs - done)
        if math.isfinite(deadline):
            count = min(count, _affordable(done, clock() - began, deadline - clock()))
        if count == 0:
            break
        drawn = np.empty(count, np.int64)
        walks = np.empty((count, len(names)), np.int64)
        for place in range(count):  # one after the other, so that more orders begin alike
            drawn[place] = random.integers(0, row_count(background))
            walks[place] = random.permutation(len(names))
        there, start = _walk(score, row, take(background, drawn), names, walks)
        back, _ = _walk(score, row, take(background, drawn), names, walks[:, ::-1])
        found.append(((there + back) / 2, start))
        done += count
    gains = np.concatenate([gain for gain, _ in found])
    starts = np.concatenate([start for _, start in found])
    values = gains.mean(axis=0)
    errors = gains.std(axis=0, ddof=1) / math.sqrt(done)
    return Attribution(
        answer=float(score(row)[0]),
        baseline=float(starts.mean()),
        columns=names,
        values=tuple(values.tolist()),
        errors=tuple(errors.tolist()),
        orders=2 * done,
    )


def _affordable(done: int, took: float, left: float) -> int:
    """Return how many pairs of orders there is time for, after `done` that took so many seconds."""
    if done == 0:
        return FEWEST_PAIRS
    return max(0, int(left / max(took / done, 1e-9)))


def exact_values(score: Score, row: Columns, background: Columns) -> Floats:
    """Return the Shapley values (D,) against all background rows, by enumeration.

    Answers 2^D * B rows: for few columns, and to test the sampling against.
    """
    names = tuple(row)
    count = len(names)
    worth: dict[frozenset[int], float] = {}
    for size in range(count + 1):
        for chosen in itertools.combinations(range(count), size):
            mixed = dict(background)
            for place in chosen:
                mixed[names[place]] = np.repeat(row[names[place]], row_count(background), axis=0)
            worth[frozenset(chosen)] = float(score(mixed).mean())
    values = np.zeros(count)
    for coalition, value in worth.items():
        for place in range(count):
            if place in coalition:
                continue
            share = math.factorial(len(coalition)) * math.factorial(count - len(coalition) - 1)
            values[place] += (worth[coalition | {place}] - value) * share / math.factorial(count)
    return values


def _walk(
    score: Score,
    row: Columns,
    starts: Columns,
    names: tuple[str, ...],
    walks: npt.NDArray[np.int64],
) -> tuple[Floats, Floats]:
    """Return what each column adds on each walk (P, D), and the answers at the starts (P,)."""
    count, walked = len(names), len(walks)
    # Step s of a walk has the first s columns of its order from the row.
    turn = np.empty_like(walks)
    np.put_along_axis(turn, walks, np.broadcast_to(np.arange(count), walks.shape), axis=1)
    steps = np.arange(count + 1)
    mixed: Columns = {}
    for place, name in enumerate(names):
        taken = turn[:, place][:, None] < steps[None]  # (P, D + 1)
        base = np.repeat(starts[name], count + 1, axis=0)
        mixed[name] = np.where(taken.reshape(-1, 1), row[name], base).astype(base.dtype)
    answers = score(mixed).reshape(walked, count + 1)
    rises = np.diff(answers, axis=1)  # (P, D) in the order of the walk
    gains = np.empty_like(rises)
    np.put_along_axis(gains, walks, rises, axis=1)
    return gains, answers[:, 0]
