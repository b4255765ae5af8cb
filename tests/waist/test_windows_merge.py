"""The law of windows: merging is associative and commutative and has a unit."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.monitoring.windows import (
    FeatureCounts,
    Moments,
    Pairs,
    Window,
    empty_window,
    merge,
)

counts = st.integers(0, 10**6)
# Whole numbers as floats add without rounding, so that the law can be checked exactly.
sums = st.integers(-(10**6), 10**6).map(float)
moments = st.builds(Moments, counts, sums, sums)
faults = st.dictionaries(st.sampled_from(["exception", "not_finite", "deadline"]), counts)


def bins(size: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.one_of(st.just(()), st.tuples(*[counts] * size))


windows = st.builds(
    Window,
    model=st.just("m"),
    version=st.just("1"),
    role=st.just("champion"),
    start=sums,
    end=sums,
    requests=counts,
    rows=counts,
    invalid=counts,
    errors=faults,
    failed=counts,
    fallbacks=counts,
    latency=bins(4),
    score=moments,
    output=bins(3),
    labels=st.dictionaries(st.sampled_from(["yes", "no"]), counts),
    features=st.dictionaries(
        st.sampled_from(["a", "b"]), st.builds(FeatureCounts, bins(3), counts), max_size=2
    ),
    pairs=st.builds(Pairs, rows=counts, disagreements=counts, difference=moments),
    workers=st.sets(st.sampled_from(["w0", "w1", "w2"])).map(lambda s: tuple(sorted(s))),
)


@given(windows, windows, windows)
def test_merge_is_associative_and_commutative(a: Window, b: Window, c: Window) -> None:
    assert merge([merge([a, b]), c]) == merge([a, merge([b, c])])
    assert merge([a, b]) == merge([b, a])


@given(windows)
def test_the_empty_window_is_the_unit(a: Window) -> None:
    assert merge([a, empty_window("m", "1", "champion")]) == merge(
        [empty_window("m", "1", "champion"), a]
    )
    merged = merge([a, empty_window("m", "1", "champion")])
    assert merged.requests == a.requests
    assert merged.latency == a.latency
    assert (merged.start, merged.end) == (a.start, a.end)


@given(windows)
def test_a_window_survives_json(a: Window) -> None:
    assert msgspec.json.decode(msgspec.json.encode(a), type=Window) == a


def test_windows_of_two_versions_do_not_mix() -> None:
    with pytest.raises(ValueError, match="one model, version and role"):
        merge([empty_window("m", "1", "champion"), empty_window("m", "2", "champion")])
    with pytest.raises(ValueError, match="at least one"):
        merge([])
