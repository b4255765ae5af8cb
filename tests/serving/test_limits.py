"""Token buckets: never more than promised in any span, and nothing held back below the rate."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from steadynet.serving.limits import BURST_S, TokenBucket


@given(
    per_second=st.floats(0.1, 10_000),
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=300),
)
def test_no_span_lets_through_more_than_promised(per_second: float, gaps: list[float]) -> None:
    bucket, now = TokenBucket(per_second), 1000.0
    passed = []
    for gap in gaps:
        now += gap / per_second
        if bucket.take(now) == 0.0:
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            span_s = passed[last] - passed[first]
            assert last - first + 1 <= per_second * (span_s + BURST_S) + 1 + 1e-6


@given(per_second=st.floats(0.1, 10_000), requests=st.integers(2, 200))
def test_who_keeps_to_the_rate_is_never_refused(per_second: float, requests: int) -> None:
    bucket = TokenBucket(per_second)
    times = [1000.0 + number * 1.0001 / per_second for number in range(requests)]
    assert all(after > before for before, after in pairwise(times))
    assert [bucket.take(time) for time in times] == [0.0] * requests


@given(per_second=st.floats(0.5, 1000), extra=st.integers(1, 50))
def test_a_refusal_says_when_the_next_may_come(per_second: float, extra: int) -> None:
    bucket, now = TokenBucket(per_second), 1000.0
    while not (wait := bucket.take(now)):
        pass
    for _ in range(extra):
        assert bucket.take(now) == wait, "a refused request costs nothing"
    assert wait < 1e-9 or bucket.take(now + wait * 0.9) > 0
    assert bucket.take(now + wait + 1e-6) == 0.0
