"""Reference distributions and slices, on values whose counts are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.explain.importance import ColumnImportance
from steadynet.runtime.metrics import classification_metrics
from steadynet.spec.losses import Loss
from steadynet.table.schema import MISSING_DATETIME, Column, Schema, Target
from steadynet.training.evaluate import FEWEST_SLICE_ROWS, MISSING_NAME, Measuring, evaluate_slices
from steadynet.training.illustration import importance_rows
from steadynet.training.profile import (
    MOST_EDGES,
    bin_edges,
    calibration_bins,
    check_by_score,
    importance_shares,
    profile_feature,
    profile_output,
)

BINARY = Schema(
    columns=(
        Column(name="city", kind="category", reason=""),
        Column(name="flag", kind="boolean", reason=""),
        Column(name="age", kind="number", reason=""),
    ),
    target=Target(name="y", task="binary", reason="", classes=("no", "yes")),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(allow_nan=False, width=32), min_size=0, max_size=300))
def test_edges_rise_are_finite_and_few(values: list[float]) -> None:
    edges = bin_edges(np.array(values, np.float64))
    assert len(edges) <= MOST_EDGES
    assert np.isfinite(edges).all()
    assert (np.diff(edges) > 0).all()


def test_few_distinct_values_get_a_bin_each() -> None:
    column = Column(name="n", kind="number", reason="")
    found = profile_feature(column, np.array([1, 1, 2, 2, 2, 5], np.float32), 0.0)
    assert found.edges == (1.5, 3.5)
    assert found.counts == (2, 3, 1)


def test_many_values_get_bins_of_about_equal_mass() -> None:
    column = Column(name="n", kind="number", reason="")
    values = np.random.default_rng(0).lognormal(size=21_000).astype(np.float32)
    found = profile_feature(column, values, 0.0)
    assert len(found.edges) == MOST_EDGES
    assert min(found.counts) > 900
    assert max(found.counts) < 1100


def test_missing_and_infinite_values_are_counted_where_monitoring_counts_them() -> None:
    column = Column(name="n", kind="number", reason="")
    values = np.array([np.nan, np.nan, np.inf, -np.inf, 0.0, 1.0, 2.0], np.float32)
    found = profile_feature(column, values, 0.25)
    assert found.missing == 2
    assert found.counts == (2, 1, 2)
    assert found.importance == 0.25


def test_categories_beyond_the_known_are_others() -> None:
    column = Column(name="c", kind="category", reason="", categories=("a", "b"))
    values = np.array(["a", "b", "a", "", "z", "q"], object)
    found = profile_feature(column, values, 0.0)
    assert found.counts == (2, 1, 2)
    assert found.missing == 1
    assert found.categories == ("a", "b")


def test_a_missing_date_is_no_date_of_long_ago() -> None:
    column = Column(name="t", kind="datetime", reason="")
    values = np.array([MISSING_DATETIME, 10, 20, 20], np.int64)
    found = profile_feature(column, values, 0.0)
    assert found.missing == 1
    assert found.edges == (15.0,)
    assert found.counts == (1, 2)


def test_a_feature_without_any_value_has_one_empty_bin() -> None:
    column = Column(name="n", kind="number", reason="")
    found = profile_feature(column, np.full(4, np.nan, np.float32), 0.0)
    assert (found.edges, found.counts, found.missing) == ((), (0,), 4)


def test_the_score_of_several_classes_is_the_highest_probability() -> None:
    schema = Schema(
        columns=(), target=Target(name="y", task="multiclass", reason="", classes=("a", "b", "c"))
    )
    probabilities = np.array([[0.2, 0.5, 0.3], [0.8, 0.1, 0.1]], np.float32)
    found = profile_output(schema, {"probabilities": probabilities}, None)
    assert found.mean == pytest.approx(0.65)
    assert found.label_counts == {"a": 1, "b": 1, "c": 0}


def test_the_reliability_diagram_of_true_probabilities_lies_on_the_diagonal() -> None:
    random = np.random.default_rng(0)
    score = random.random(20_000)
    target = (random.random(20_000) < score).astype(np.int64)
    bins = calibration_bins(BINARY, {"probabilities": np.stack([1 - score, score], 1)}, target)
    assert len(bins) == 10
    assert sum(item.rows for item in bins) == 20_000
    for item in bins:
        assert item.low <= item.mean_score <= item.high
        assert item.observed == pytest.approx(item.mean_score, abs=0.04)


def test_slices_are_the_metrics_of_their_rows() -> None:
    random = np.random.default_rng(0)
    rows = 400
    city = np.array(["a"] * 200 + ["b"] * 150 + [""] * 31 + ["rare"] * 19, object)
    flag = np.where(np.arange(rows) < 370, 1.0, 0.0).astype(np.float32)
    score = random.random(rows)
    answers = {"probabilities": np.stack([1 - score, score], 1)}
    target = random.integers(0, 2, rows)
    columns = {
        "city": city[:, None],
        "flag": flag[:, None],
        "age": random.random((rows, 1)).astype(np.float32),
    }
    found = evaluate_slices(answers, target, columns, BINARY, Measuring(threshold=0.5))
    by_name = {(item.column, item.value): item for item in found}
    assert set(by_name) == {
        ("city", "a"),
        ("city", "b"),
        ("city", MISSING_NAME),
        ("flag", "true"),
        ("flag", "false"),
    }
    assert all(item.rows >= FEWEST_SLICE_ROWS for item in found)
    chosen = by_name["city", "b"]
    picked = city == "b"
    expected = classification_metrics(
        target[picked], answers["probabilities"][picked], ("no", "yes")
    )
    assert {name: entry.value for name, entry in chosen.metrics.items()} == pytest.approx(expected)


def test_a_column_with_many_values_is_not_sliced() -> None:
    rows = 400
    columns = {
        "city": np.arange(rows).astype(str).astype(object)[:, None],
        "flag": np.ones((rows, 1), np.float32),
        "age": np.zeros((rows, 1), np.float32),
    }
    answers = {"probabilities": np.full((rows, 2), 0.5)}
    assert (
        evaluate_slices(answers, np.arange(rows) % 2, columns, BINARY, Measuring(threshold=0.5))
        == ()
    )


def test_importance_becomes_shares_with_their_errors() -> None:
    found = (
        ColumnImportance(column="a", loss=0.3, error=0.02),
        ColumnImportance(column="b", loss=0.1, error=0.01),
        ColumnImportance(column="c", loss=-0.05, error=0.05),
    )
    shares = importance_shares(found)
    assert shares["a"] == pytest.approx((0.75, 0.05))
    assert shares["c"] == pytest.approx((0.0, 0.125))
    assert sum(share for share, _ in shares.values()) == pytest.approx(1.0)
    assert importance_shares(found[2:]) == {}


def test_a_wide_table_takes_no_more_answers() -> None:
    assert importance_rows(10) == 1000
    assert importance_rows(200) * 200 <= 50_000
    assert importance_rows(10_000) == 100


def test_the_test_part_is_checked_by_bins_of_the_score() -> None:
    positive = np.array([0.1, 0.2, 0.6, 0.7, 0.9])
    answers = {"probabilities": np.stack([1 - positive, positive], axis=1)}
    target = np.array([0, 1, 0, 1, 1])
    found = check_by_score(BINARY, (0.5, 0.8), answers, target, None)
    assert [(b.rows, b.positives, b.right) for b in found.bins] == [(2, 1, 1), (2, 1, 1), (1, 1, 1)]
    assert sum(b.loss.n for b in found.bins) == 5
    assert found.bins[2].loss.total == pytest.approx(-np.log(0.9))
    assert found.ranking == pytest.approx(5 / 6)
    lower = check_by_score(BINARY, (0.5, 0.8), answers, target, 0.15)
    assert [b.right for b in lower.bins] == [2, 1, 1]


def test_a_regression_is_checked_by_errors_and_knows_its_quantile() -> None:
    numbers = Schema(columns=(), target=Target(name="y", task="regression", reason=""))
    answers = {"prediction": np.array([1.0, 2.0, 5.0])}
    loss = Loss(name="quantile", parameter=0.9)
    found = check_by_score(numbers, (3.0,), answers, np.array([0.0, 4.0, 5.0]), None, loss)
    assert [(b.rows, b.loss.total, b.square.total) for b in found.bins] == [
        (2, 3.0, 5.0),
        (1, 0.0, 0.0),
    ]
    assert found.ranking == pytest.approx(1.0)
    assert found.quantile == 0.9
