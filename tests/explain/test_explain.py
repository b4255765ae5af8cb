"""Attributions sum up, agree with enumeration within their errors, and name what matters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.explain.answering import Columns, Floats, score_of
from steadynet.explain.importance import dependence, permutation_importance
from steadynet.explain.shapley import exact_values, explain_row
from steadynet.table.schema import Column, Schema, Target

SCHEMA = Schema(
    columns=(
        Column(name="a", kind="number", reason=""),
        Column(name="b", kind="number", reason=""),
        Column(name="c", kind="category", reason="", categories=("x", "y")),
        Column(name="d", kind="boolean", reason=""),
        Column(name="e", kind="datetime", reason=""),
    ),
    target=Target(name="y", task="regression", reason=""),
)


def rows(count: int, seed: int = 0) -> Columns:
    """Return columns of every kind."""
    random = np.random.default_rng(seed)
    return {
        "a": random.normal(size=(count, 1)).astype(np.float32),
        "b": random.normal(size=(count, 1)).astype(np.float32),
        "c": random.choice(["x", "y"], (count, 1)).astype(object),
        "d": random.integers(0, 2, (count, 1)).astype(np.float32),
        "e": random.integers(0, 10**9, (count, 1)),
    }


def truth(columns: Columns) -> Floats:
    """Answer by a function with an interaction; `e` has no say."""
    a, b = (columns[name][:, 0].astype(np.float64) for name in "ab")
    c, d = columns["c"][:, 0] == "x", columns["d"][:, 0]
    answer: Floats = 2 * a + a * b + 1.5 * c * (b > 0) + 0.5 * d
    return answer


def run(columns: Columns) -> dict[str, Any]:
    """Answer as a graph does."""
    return {"prediction": truth(columns)}


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 500), orders=st.integers(1, 150))
def test_values_sum_to_the_answer_above_the_baseline(seed: int, orders: int) -> None:
    row, background = rows(1, seed), rows(40, seed + 1)
    found = explain_row(truth, row, background, orders=orders, seed=seed)
    assert sum(found.values) == pytest.approx(found.answer - found.baseline, abs=1e-9)
    assert found.orders >= orders
    assert found.orders % 2 == 0
    assert all(error >= 0 for error in found.errors)
    assert abs(found.values[4]) < 1e-12


def test_sampling_agrees_with_enumeration_as_often_as_its_errors_say() -> None:
    background = rows(30, 1)
    inside = total = 0
    for seed in range(60):
        row = rows(1, seed + 100)
        exact = exact_values(truth, row, background)
        found = explain_row(truth, row, background, orders=120, seed=seed)
        for value, error, wanted in zip(found.values[:4], found.errors, exact, strict=False):
            if error > 1e-9:
                inside += abs(value - wanted) < 1.96 * error
                total += 1
    assert total > 200
    assert 0.90 <= inside / total <= 0.99


def test_four_times_the_orders_halve_the_error() -> None:
    row, background = rows(1, 3), rows(200, 4)
    few = explain_row(truth, row, background, orders=100)
    many = explain_row(truth, row, background, orders=1600)
    ratio = np.array(many.errors[:2]) / np.array(few.errors[:2])
    assert (ratio < 0.4).all()


def test_enumeration_gives_the_known_values_of_an_additive_function() -> None:
    background = rows(50, 1)
    row = rows(1, 2)

    def additive(columns: Columns) -> Floats:
        answer: Floats = 3.0 * columns["a"][:, 0] - columns["b"][:, 0].astype(np.float64)
        return answer

    found = exact_values(additive, row, background)
    wanted = 3 * (row["a"][0, 0] - background["a"].mean())
    assert found[0] == pytest.approx(wanted, rel=1e-5)
    assert found[2:] == pytest.approx(np.zeros(3), abs=1e-6)


def test_importance_orders_columns_and_tells_noise_from_use() -> None:
    columns = rows(3000)
    target = truth(columns) + 0.1 * np.random.default_rng(5).normal(size=3000)
    found = permutation_importance(run, SCHEMA, columns, target)
    names = [item.column for item in found]
    assert names[0] == "a"
    by_name = {item.column: item for item in found}
    assert by_name["e"].loss == 0
    assert by_name["d"].loss > 2 * by_name["d"].error > 0


def test_dependence_follows_the_function() -> None:
    columns = rows(2000)
    score = score_of(run, SCHEMA)
    by_name = {column.name: column for column in SCHEMA.columns}
    line = dependence(score, by_name["a"], columns)
    slopes = np.diff(line.mean) / np.diff([float(value) for value in line.values])
    assert slopes == pytest.approx(np.full(len(slopes), 2.0), abs=0.35)
    assert sum(line.share) == pytest.approx(1.0)
    words = dependence(score, by_name["c"], columns)
    assert set(words.values) == {"x", "y"}
    apart = words.mean[words.values.index("x")] - words.mean[words.values.index("y")]
    assert apart == pytest.approx(0.75, abs=0.1)
    assert dependence(score, by_name["d"], columns).values[0] in ("true", "false")
    assert all(math.isfinite(value) for value in dependence(score, by_name["e"], columns).mean)


def test_missing_cells_are_no_values_to_look_at() -> None:
    columns = rows(300)
    columns["a"][::3] = np.nan
    columns["d"][::2] = np.nan
    score = score_of(lambda given: {"prediction": np.nan_to_num(truth(given))}, SCHEMA)
    by_name = {column.name: column for column in SCHEMA.columns}
    assert "nan" not in dependence(score, by_name["a"], columns).values
    assert set(dependence(score, by_name["d"], columns).values) == {"true", "false"}
