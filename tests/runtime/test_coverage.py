"""Shares and means with the intervals that are shown."""

from __future__ import annotations

import numpy as np
import pytest

from steadynet.runtime.coverage import coverage_of, mean_interval, share_interval


@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
def test_the_interval_of_a_share_holds_it_as_often_as_it_says(share: float) -> None:
    hits = np.random.default_rng(0).binomial(200, share, 4000)
    found = [share_interval(int(count), 200) for count in hits]
    inside = np.mean([item.low <= share <= item.high for item in found])
    assert inside == pytest.approx(0.95, abs=0.02)


def test_shares_at_the_ends_have_an_interval_inside_the_scale() -> None:
    none, all_of_them = share_interval(0, 50), share_interval(50, 50)
    assert (none.low, all_of_them.high) == pytest.approx((0.0, 1.0))
    assert 0.05 < none.high < 0.1
    assert 0.9 < all_of_them.low < 0.95


def test_one_value_has_no_spread() -> None:
    assert mean_interval(np.array([3.0])).low == 3.0


def test_rows_inside_are_counted_and_widths_averaged() -> None:
    target = np.array([1.0, 2.0, 3.0, 4.0])
    answers = {
        "lower": target - np.array([1, 1, 1, -1]),
        "upper": target + np.array([1, 1, 3, 2]),
    }
    found = coverage_of(target, answers, method="constant", promised=0.9)
    assert found is not None
    assert found.measured.value == 0.75
    assert found.size.value == pytest.approx((2 + 2 + 4 + 1) / 4)
    assert coverage_of(target, {}, method="", promised=0.9) is None
