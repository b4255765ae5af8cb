"""Reading the latency histogram gives what the latencies themselves give, to a bucket's width."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.monitoring.latency import bucket_bounds_s, quantile, slower_than
from steadynet.monitoring.windows import LATENCY_BUCKETS
from steadynet.serving.counting import latency_counts

latencies = st.lists(st.floats(2e-4, 9.0), min_size=1, max_size=200)


def test_buckets_follow_one_another_without_a_gap() -> None:
    bounds = [bucket_bounds_s(bucket) for bucket in range(LATENCY_BUCKETS + 1)]
    assert bounds[0] == (0.0, 50e-6)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
    assert bounds[-1][0] == pytest.approx(10.0, rel=0.1)
    assert bounds[-1][1] == float("inf")


@given(latencies, st.floats(0, 1))
def test_a_quantile_is_right_to_a_bucket(seconds: list[float], share: float) -> None:
    found = quantile(latency_counts(seconds), share)
    exact = float(np.quantile(seconds, share, method="inverted_cdf"))
    assert found is not None
    assert exact / 1.0801 <= found <= exact * 1.0801


@given(latencies, st.floats(1e-4, 9.0))
def test_how_many_are_slower_is_right_to_a_bucket(seconds: list[float], limit: float) -> None:
    found = slower_than(latency_counts(seconds), limit)
    surely = sum(value > limit * 1.08 for value in seconds)
    perhaps = sum(value > limit / 1.08 for value in seconds)
    assert surely - 1e-9 <= found <= perhaps + 1e-9


def test_within_a_bucket_requests_are_taken_as_spread_evenly() -> None:
    low, high = bucket_bounds_s(50)
    histogram = [0] * (LATENCY_BUCKETS + 1)
    histogram[50] = 8
    assert slower_than(histogram, (low + high) / 2) == pytest.approx(4.0)
    assert quantile(histogram, 0.5) == pytest.approx((low + high) / 2)


def test_beyond_the_last_bound_everything_is_slow() -> None:
    histogram = latency_counts([30.0])
    assert slower_than(histogram, 20.0) == 1.0
    assert quantile(histogram, 0.99) == bucket_bounds_s(LATENCY_BUCKETS)[0]


@pytest.mark.parametrize("nothing", [(), (0,) * (LATENCY_BUCKETS + 1)])
def test_nothing_measured_has_no_quantile(nothing: tuple[int, ...]) -> None:
    assert quantile(nothing, 0.5) is None
    assert slower_than(nothing, 0.1) == 0.0


def test_a_share_is_a_share() -> None:
    with pytest.raises(ValueError, match="share"):
        quantile((1,), 99.0)
