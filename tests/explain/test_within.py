"""Within a given time: as much as fits, never less than something, and what is found is honest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.explain.answering import Columns, Floats, row_count
from steadynet.explain.importance import permutation_importance
from steadynet.explain.shapley import explain_row
from steadynet.explain.within import MOST_SHUFFLES, importance_within
from steadynet.table.schema import Column, Schema, Target

SCHEMA = Schema(
    columns=tuple(Column(name=name, kind="number", reason="") for name in "abc"),
    target=Target(name="y", task="regression", reason=""),
)


class Machine:
    """Answers rows, and has a clock that goes on with every row alone."""

    def __init__(self, rows_per_s: float = 1000.0) -> None:
        self.now, self.answered, self._rows_per_s = 50.0, 0, rows_per_s

    def clock(self) -> float:
        """Return the time."""
        return self.now

    def score(self, columns: Columns) -> Floats:
        """Answer by a function with an interaction, in which `c` has no say."""
        self.answered += row_count(columns)
        self.now += row_count(columns) / self._rows_per_s
        a, b = columns["a"][:, 0].astype(np.float64), columns["b"][:, 0].astype(np.float64)
        answer: Floats = 2 * a + a * b
        return answer

    def run(self, columns: Columns) -> dict[str, Any]:
        """Answer as a graph does."""
        return {"prediction": self.score(columns)}


def table(rows: int, seed: int = 0) -> Columns:
    """Return three columns of numbers."""
    random = np.random.default_rng(seed)
    return {name: random.normal(size=(rows, 1)).astype(np.float32) for name in "abc"}


@settings(max_examples=40)
@given(seconds=st.floats(-5.0, 20.0), pace=st.floats(50.0, 1e5), orders=st.integers(1, 3000))
def test_a_row_takes_no_longer_than_it_may_and_gives_what_as_many_orders_give(
    seconds: float, pace: float, orders: int
) -> None:
    row, background = table(1, 5), table(30, 6)
    machine = Machine(pace)
    limited = explain_row(
        machine.score, row, background, orders=orders, deadline=50.0 + seconds, clock=machine.clock
    )
    fewest = (4 + 1) * (len(row) + 1)  # two orders, each backwards too; a row more for the answer
    assert machine.now <= max(50.0 + seconds, 50.0) + fewest / pace
    assert 4 <= limited.orders <= max(4, orders + 1)
    plain = explain_row(Machine().score, row, background, orders=limited.orders)
    assert limited.orders == plain.orders
    assert limited.values == pytest.approx(plain.values, abs=1e-9)
    assert limited.errors == pytest.approx(plain.errors, abs=1e-9)


def test_more_time_leaves_less_error() -> None:
    row, background = table(1, 5), table(30, 6)
    errors = []
    for seconds in (1.0, 4.0, 16.0):
        machine = Machine()
        found = explain_row(
            machine.score,
            row,
            background,
            orders=10**6,
            deadline=50 + seconds,
            clock=machine.clock,
        )
        errors.append(max(found.errors))
    assert errors[0] > 1.5 * errors[1] > 2.2 * errors[2] > 0


@settings(max_examples=30)
@given(seconds=st.floats(-5.0, 60.0), pace=st.floats(200.0, 1e5), rows=st.integers(1, 3000))
def test_columns_take_no_longer_than_they_may_but_for_one_block(
    seconds: float, pace: float, rows: int
) -> None:
    columns, machine = table(rows), Machine(pace)
    target = Machine().score(columns)
    found = importance_within(
        machine.run, SCHEMA, columns, target, deadline=50.0 + seconds, clock=machine.clock
    )
    first = 2 * 200 + 75 * 4  # the rows that tell the pace, and the smallest block
    assert machine.now <= max(50.0 + seconds, 50.0 + first / pace) + 1e-6
    assert 1 <= found.rows <= rows
    assert 1 <= found.shuffles <= MOST_SHUFFLES
    assert {item.column for item in found.importance} == {"a", "b", "c"}
    assert next(item for item in found.importance if item.column == "c").loss == 0
    assert all(math.isfinite(item.error) for item in found.importance)


def test_what_is_found_in_time_agrees_with_what_is_found_without_as_often_as_errors_say() -> None:
    whole = table(40_000, 1)
    target = Machine().score(whole) + np.random.default_rng(2).normal(size=40_000)
    truth = {
        item.column: item.loss
        for item in permutation_importance(Machine().run, SCHEMA, whole, target, repeats=3)
    }
    inside = total = 0
    for seed in range(100):
        drawn = np.random.default_rng(seed).permutation(40_000)[:1500]
        columns = {name: values[drawn] for name, values in whole.items()}
        machine = Machine()
        found = importance_within(
            machine.run,
            SCHEMA,
            columns,
            target[drawn],
            deadline=54.0,
            seed=seed,
            clock=machine.clock,
        )
        assert found.rows < 1000
        for item in found.importance:
            if item.column != "c":
                inside += abs(item.loss - truth[item.column]) < 1.96 * item.error
                total += 1
    assert total == 200
    assert 0.88 <= inside / total <= 0.99


def test_with_time_left_every_row_is_shuffled_again() -> None:
    columns, machine = table(300), Machine(1e5)
    target = Machine().score(columns)
    found = importance_within(
        machine.run, SCHEMA, columns, target, deadline=50.5, clock=machine.clock
    )
    assert found.rows == 300
    assert found.shuffles > 20
