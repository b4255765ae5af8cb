"""Moments add up in any order and give what the numbers themselves give."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.statistics.moments import Moments, add

values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50)
# Whole numbers as floats add without rounding, so that the law can be checked exactly.
whole = st.integers(-(10**6), 10**6).map(float)
moments = st.builds(Moments, st.integers(0, 10**6), whole, whole)


def of(numbers: list[float]) -> Moments:
    return Moments(len(numbers), sum(numbers), sum(number**2 for number in numbers))


@given(moments, moments, moments)
def test_adding_is_associative_and_commutative_and_has_a_unit(
    a: Moments, b: Moments, c: Moments
) -> None:
    assert add(add(a, b), c) == add(a, add(b, c))
    assert add(a, b) == add(b, a)
    assert add(a, Moments()) == a


@given(values, values)
def test_mean_and_variance_are_those_of_all_numbers(a: list[float], b: list[float]) -> None:
    both = add(of(a), of(b))
    assert both.mean == pytest.approx(np.mean(a + b), rel=1e-9, abs=1e-9)
    assert both.variance == pytest.approx(np.var(a + b), rel=1e-6, abs=1e-6)


def test_rounding_makes_no_negative_variance() -> None:
    assert of([0.1] * 7).variance >= 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_broken_sums_are_told(bad: float) -> None:
    assert Moments(1, 1.0, 1.0).finite
    assert not Moments(1, bad, 1.0).finite
    assert not Moments(1, 1.0, bad).finite


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ZeroDivisionError):
        _ = Moments().mean
