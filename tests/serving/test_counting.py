"""Counting: what was answered becomes windows that add up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.bundle.profile import FeatureProfile, OutputProfile, Profile
from steadynet.monitoring.latency import bucket_bounds_s
from steadynet.monitoring.windows import LATENCY_BUCKETS, merge
from steadynet.runtime.batching import Scored
from steadynet.serving.counting import (
    Counted,
    Reference,
    Tally,
    count,
    count_pairs,
    feature_counts,
    latency_counts,
    moments,
    score_of,
)
from steadynet.table.schema import MISSING_DATETIME

NUMBER = FeatureProfile(name="n", kind="number", counts=(1, 1, 1), missing=0, edges=(0.0, 10.0))
CATEGORY = FeatureProfile(
    name="c", kind="category", counts=(1, 1, 1), missing=0, categories=("a", "b")
)
WHEN = FeatureProfile(name="t", kind="datetime", counts=(1, 1), missing=0, edges=(100.0,))
PROFILE = Profile(
    rows=3,
    features=(NUMBER, CATEGORY, WHEN),
    output=OutputProfile(edges=(0.5,), counts=(1, 1), mean=0.5, deviation=0.1, label_counts={}),
    loss_mean=0.5,
    loss_deviation=0.1,
)
REFERENCE = Reference("m", "1", "binary", PROFILE, 0.1)


def run(numbers: list[float], scores: list[float]) -> Scored:
    """Return a run with the given values of `n` and positive probabilities."""
    rows = len(numbers)
    probabilities = np.array([[1 - score, score] for score in scores], dtype=np.float32)
    return Scored(
        rows,
        {
            "n": np.array(numbers, dtype=np.float32).reshape(-1, 1),
            "c": np.array(["a", "z", ""] * rows, dtype=object)[:rows].reshape(-1, 1),
            "t": np.full((rows, 1), 50, dtype=np.int64),
        },
        {
            "label": np.array(["yes" if score >= 0.5 else "no" for score in scores], dtype=object),
            "probabilities": probabilities.reshape(rows, 2),
        },
        0.001,
    )


def window_of(counted: Counted) -> Any:
    """Count into a window of one second."""
    return count(counted, REFERENCE, "champion", 1.0, 2.0, "w1")


@given(st.lists(st.floats(0, 30, allow_nan=False), max_size=50))
def test_every_latency_is_in_the_bucket_whose_bounds_hold_it(latencies: list[float]) -> None:
    counts = latency_counts(latencies)
    assert sum(counts) == len(latencies)
    assert len(counts) in (0, LATENCY_BUCKETS + 1)
    for latency in latencies:
        (bucket,) = np.flatnonzero(latency_counts([latency]))
        low, high = bucket_bounds_s(int(bucket))
        assert low * (1 - 1e-9) <= latency <= high * (1 + 1e-9)


def test_numbers_are_counted_on_the_profiles_bins() -> None:
    values = np.array([-1, 0, 9.9, 10, np.inf, -np.inf, np.nan, np.nan], dtype=np.float32)
    assert feature_counts(NUMBER, values).counts == (2, 2, 2)
    assert feature_counts(NUMBER, values).missing == 2


@given(
    st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.1, 0.3, 7.0]) | st.floats(width=32)),
    st.lists(st.sampled_from([-0.5, 0.0, 0.1, 0.3]) | st.floats(-9, 9), max_size=5).map(sorted),
    st.sampled_from([np.float32, np.float64]),
)
def test_every_number_is_in_the_bin_whose_edges_hold_it(
    given_values: list[float], edges: list[float], dtype: Any
) -> None:
    counts = (1,) * (len(edges) + 1)
    feature = FeatureProfile(name="x", kind="number", edges=tuple(edges), counts=counts, missing=0)
    values = np.array(given_values, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        counted = feature_counts(feature, values)
    expected = [0] * (len(edges) + 1)
    for value in values[~np.isnan(values)].tolist():
        expected[sum(edge <= value for edge in edges)] += 1
    assert counted.counts == tuple(expected)
    assert counted.missing == np.count_nonzero(np.isnan(values))


def test_categories_are_counted_by_name_then_all_others() -> None:
    values = np.array(["a", "a", "b", "x", "y", "", "a"], dtype=object)
    assert feature_counts(CATEGORY, values).counts == (3, 1, 2)
    assert feature_counts(CATEGORY, values).missing == 1


def test_times_are_counted_and_a_missing_one_is_no_early_one() -> None:
    values = np.array([99, 100, 101, MISSING_DATETIME], dtype=np.int64)
    assert feature_counts(WHEN, values).counts == (1, 2)
    assert feature_counts(WHEN, values).missing == 1


def test_the_score_of_each_task() -> None:
    probabilities = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], dtype=np.float32)
    outputs = {"probabilities": probabilities}
    assert score_of(outputs, "multiclass") == pytest.approx([0.5, 0.8])
    assert score_of(outputs, "binary") == pytest.approx([0.3, 0.8])
    assert score_of({"prediction": np.array([1.5])}, "regression").tolist() == [1.5]


def test_a_window_holds_everything_that_was_counted() -> None:
    counted = Counted(
        requests=3,
        invalid=1,
        failed=1,
        fallbacks=2,
        errors={"deadline": 2},
        latencies=[0.001, 0.002, 0.1],
        scored=[run([1.0, math.nan], [0.25, 0.75]), run([20.0], [0.5])],
    )
    window = window_of(counted)
    assert (window.model, window.version, window.role) == ("m", "1", "champion")
    assert (window.start, window.end, window.workers) == (1.0, 2.0, ("w1",))
    assert (window.requests, window.rows, window.invalid) == (3, 3, 1)
    assert (window.failed, window.fallbacks, window.errors) == (1, 2, {"deadline": 2})
    assert sum(window.latency) == 3
    assert window.score.n == 3
    assert window.score.total == pytest.approx(1.5)
    assert window.output == (1, 2)
    assert window.labels == {"no": 1, "yes": 2}
    assert window.features["n"].counts == (0, 1, 1)
    assert window.features["n"].missing == 1
    assert window.features["t"].counts == (3, 0)


def test_a_window_without_rows_adds_nothing_to_others() -> None:
    empty = window_of(Counted(requests=1, failed=1, errors={"exception": 1}))
    full = window_of(Counted(requests=1, scored=[run([1.0], [0.5])]))
    both = merge([empty, full])
    assert both.features == full.features
    assert both.output == full.output
    assert (both.requests, both.failed) == (2, 1)


@given(
    st.lists(
        st.lists(st.tuples(st.floats(-20, 20), st.floats(0, 1)), min_size=1, max_size=5),
        min_size=1,
        max_size=6,
    )
)
def test_counting_in_parts_is_counting_at_once(parts: list[list[tuple[float, float]]]) -> None:
    runs = [run([n for n, _ in part], [score for _, score in part]) for part in parts]
    at_once = window_of(Counted(requests=len(runs), scored=runs))
    in_parts = merge(window_of(Counted(requests=1, scored=[item])) for item in runs)
    assert at_once.features["n"] == in_parts.features["n"]
    assert at_once.output == in_parts.output
    assert at_once.labels == in_parts.labels
    assert at_once.score.total == pytest.approx(in_parts.score.total)


def test_pairs_compare_row_by_row() -> None:
    own, champion = run([1, 1, 1], [0.9, 0.6, 0.2]), run([1, 1, 1], [0.4, 0.7, 0.1])
    pairs = count_pairs([(own.outputs, champion.outputs)], "binary")
    assert (pairs.rows, pairs.disagreements) == (3, 1)
    assert pairs.difference.total == pytest.approx(0.5 - 0.1 + 0.1, abs=1e-6)
    numbers = ({"prediction": np.array([1.0, 2.0])}, {"prediction": np.array([1.0, 4.0])})
    regression = count_pairs([numbers], "regression")
    assert (regression.disagreements, regression.difference.total) == (1, -2.0)
    assert count_pairs([], "binary").rows == 0


def test_moments_of_float32_do_not_lose_small_numbers() -> None:
    values = np.full(100_000, 0.1, dtype=np.float32)
    assert moments(values).total == pytest.approx(10_000, rel=1e-6)


def test_a_tally_that_is_full_is_handed_on_once() -> None:
    full: list[Counted] = []
    tally = Tally("1", "champion", full_rows=4, on_full=lambda item: full.append(item.take()))
    for _ in range(5):
        tally.observe([run([1.0, 2.0], [0.5, 0.5])])
    assert [len(counted.scored) for counted in full] == [2, 2]
    assert len(tally.take().scored) == 1
    assert tally.take().is_empty


def test_a_tally_counts_faults_by_kind() -> None:
    tally = Tally("1", "champion", full_rows=4, on_full=lambda item: None)
    for kind in ("exception", "deadline", "exception"):
        tally.fault(kind)
    assert not tally.now.is_empty
    assert tally.take().errors == {"exception": 2, "deadline": 1}


def test_counting_rests_between_columns_and_comes_to_the_same() -> None:
    counted = Counted(requests=4, scored=[run([1.0, 2.0], [0.1, 0.9]), run([3.0, 4.0], [0.2, 0.3])])
    rests = []
    window = count(counted, REFERENCE, "champion", 0.0, 1.0, "w0", lambda: rests.append(1))
    assert window == count(counted, REFERENCE, "champion", 0.0, 1.0, "w0")
    assert len(rests) >= len(PROFILE.features)
