"""The bounds hold at all times at once, and are not vacuous."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.statistics.moments import Moments
from steadynet.statistics.sequential import (
    best_log_likelihood,
    mean_bounds,
    mean_difference_bounds,
    mean_radius,
    rate_bounds,
    rate_difference_bounds,
)

ALPHA = 0.05
STREAMS = 1000
LOOKS = np.unique(np.geomspace(1, 2000, 40).astype(int))


def most_misses(streams: int, alpha: float) -> float:
    """Return the share of misses that a true rate of alpha exceeds once in ten thousand times."""
    return alpha + 3.7 * math.sqrt(alpha * (1 - alpha) / streams)


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.3])
def test_a_rate_is_ever_outside_its_bounds_at_most_alpha_of_the_time(rate: float) -> None:
    rng = np.random.default_rng(11)
    counts = (rng.random((STREAMS, int(LOOKS[-1]))) < rate).cumsum(axis=1)[:, LOOKS - 1]
    above, below = 0, 0
    for stream in counts:
        bounds = [
            rate_bounds(float(ones), int(n), alpha_low=ALPHA, alpha_high=ALPHA, typical=0.005)
            for ones, n in zip(stream, LOOKS, strict=True)
        ]
        above += any(low > rate for low, _ in bounds)
        below += any(high < rate for _, high in bounds)
    assert above / STREAMS <= most_misses(STREAMS, ALPHA)
    assert below / STREAMS <= most_misses(STREAMS, ALPHA)


@pytest.mark.parametrize(("treated", "control"), [(0.001, 0.001), (0.006, 0.001), (0.3, 0.2)])
def test_a_difference_of_rates_is_ever_missed_at_most_alpha_of_the_time(
    treated: float, control: float
) -> None:
    rng = np.random.default_rng(14)
    looks = LOOKS[LOOKS > 20]
    size = int(LOOKS[-1])
    arms = [
        (rng.random((400, size)) < rate).cumsum(axis=1)[:, looks - 1] for rate in (treated, control)
    ]
    above = below = 0
    for ones, others in zip(*arms, strict=True):
        bounds = [
            rate_difference_bounds(
                (float(x), int(n)),
                (float(y), int(n)),
                alpha_low=ALPHA,
                alpha_high=ALPHA,
                typical=0.005,
            )
            for x, y, n in zip(ones, others, looks, strict=True)
        ]
        above += any(low > treated - control for low, _ in bounds)
        below += any(high < treated - control for _, high in bounds)
    assert max(above, below) / 400 <= most_misses(400, ALPHA)


# Within rounding of a difference of 1 the rates between are no longer different numbers.
differences = st.floats(-1 + 1e-6, 1 - 1e-6)


@given(st.integers(1, 3000), st.floats(0, 1), st.integers(1, 3000), st.floats(0, 1), differences)
def test_no_pair_of_rates_with_a_difference_is_likelier_than_the_one_that_is_found(
    n1: int, share1: float, n0: int, share0: float, difference: float
) -> None:
    """The cubic's root against a search over a fine grid."""
    x1, x0 = round(n1 * share1), round(n0 * share0)
    found = best_log_likelihood((x1, n1), (x0, n0), difference)
    inner = np.linspace(max(0.0, -difference), min(1.0, 1.0 - difference), 2001)[1:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        grid = sum(
            np.where(count > 0, count * np.log(np.clip(rate, 0, 1)), 0.0)
            for count, rate in (
                (x1, inner + difference),
                (n1 - x1, 1 - inner - difference),
                (x0, inner),
                (n0 - x0, 1 - inner),
            )
        )
    assert found >= np.max(grid, initial=-np.inf) - 1e-6 * (1 + abs(found))


def test_a_mean_is_ever_outside_its_bounds_at_most_alpha_of_the_time() -> None:
    """Skewed values, looked at from the hundredth on, as the judge does."""
    rng = np.random.default_rng(12)
    values = rng.exponential(1.0, (2000, 3000))
    looks = np.unique(np.geomspace(100, 3000, 60).astype(int))
    totals = values.cumsum(axis=1)[:, looks - 1]
    squares = (values**2).cumsum(axis=1)[:, looks - 1]
    misses = 0
    for total, square in zip(totals, squares, strict=True):
        bounds = [
            mean_bounds(Moments(int(n), t, s), alpha_low=ALPHA, alpha_high=ALPHA, unit=1.0)
            for n, t, s in zip(looks, total, square, strict=True)
        ]
        misses += any(low > 1.0 for low, _ in bounds)
    assert misses / 2000 <= most_misses(2000, ALPHA)


def test_a_difference_of_means_is_ever_missed_at_most_alpha_of_the_time() -> None:
    rng = np.random.default_rng(13)
    misses = 0
    for _ in range(400):
        treated, control = rng.gamma(2.0, 1.0, 300), rng.gamma(2.0, 1.0, 5700)
        misses += any(
            mean_difference_bounds(
                moments(treated[:n]),
                moments(control[: 19 * n]),
                alpha_low=ALPHA,
                alpha_high=ALPHA,
                unit=1.0,
            )[0]
            > 0
            for n in range(100, 300, 10)
        )
    assert misses / 400 <= most_misses(400, ALPHA)


def moments(values: np.ndarray) -> Moments:
    return Moments(len(values), float(values.sum()), float((values**2).sum()))


@given(st.integers(1, 10**7), st.floats(0, 1), st.floats(1e-4, 0.5), st.floats(1e-6, 0.3))
def test_rate_bounds_enclose_what_was_seen(
    n: int, share: float, typical: float, alpha: float
) -> None:
    total = share * n
    low, high = rate_bounds(total, n, alpha_low=alpha, alpha_high=alpha, typical=typical)
    assert 0 <= low <= total / n * (1 + 1e-9)
    assert total / n * (1 - 1e-9) <= high <= 1


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_rate_bounds_are_mirror_images_under_a_symmetric_mixture(ones: int, zeros: int) -> None:
    n = ones + zeros
    low, high = rate_bounds(ones, n, alpha_low=0.01, alpha_high=0.01, typical=0.5)
    other_low, other_high = rate_bounds(zeros, n, alpha_low=0.01, alpha_high=0.01, typical=0.5)
    assert low == pytest.approx(1 - other_high, abs=2e-4)
    assert high == pytest.approx(1 - other_low, abs=2e-4)


def test_less_alpha_gives_wider_bounds() -> None:
    wide = rate_bounds(5, 1000, alpha_low=0.001, alpha_high=0.001, typical=0.005)
    narrow = rate_bounds(5, 1000, alpha_low=0.1, alpha_high=0.1, typical=0.005)
    assert wide[0] < narrow[0] < 0.005 < narrow[1] < wide[1]
    assert mean_radius(1000, 1.0, 0.001) > mean_radius(1000, 1.0, 0.1)


def test_a_few_requests_that_all_fail_are_enough() -> None:
    """With default budgets, a version that fails each request is shown within 20 requests."""
    low, _ = rate_difference_bounds(
        (20.0, 20), (0.0, 20), alpha_low=0.0025, alpha_high=0.05, typical=0.005
    )
    assert low > 0.005


def test_fewer_requests_show_a_rise_than_two_separate_bounds_would() -> None:
    treated, control = (110.0, 10_000), (10.0, 10_000)
    joint, _ = rate_difference_bounds(
        treated, control, alpha_low=0.0025, alpha_high=0.05, typical=0.005
    )
    alone, _ = rate_bounds(*treated, alpha_low=0.00125, alpha_high=0.5, typical=0.005)
    _, other = rate_bounds(*control, alpha_low=0.5, alpha_high=0.00125, typical=0.005)
    assert alone - other < 0.005 < joint


def test_a_thousand_requests_without_a_fault_exclude_half_a_percent() -> None:
    _, high = rate_difference_bounds(
        (0.0, 1000), (0.0, 1000), alpha_low=0.0025, alpha_high=0.05, typical=0.005
    )
    assert high < 0.005


def test_no_data_bounds_nothing() -> None:
    assert rate_bounds(0, 0, alpha_low=0.05, alpha_high=0.05, typical=0.01) == (0.0, 1.0)
    nobody = rate_difference_bounds((0, 0), (0, 9), alpha_low=0.05, alpha_high=0.05, typical=0.01)
    assert nobody == (-1.0, 1.0)
    everything = (-math.inf, math.inf)
    assert mean_bounds(Moments(), alpha_low=0.05, alpha_high=0.05, unit=1.0) == everything
    one = Moments(1, 1.0, 1.0)
    bounds = mean_difference_bounds(one, Moments(), alpha_low=0.05, alpha_high=0.05, unit=1.0)
    assert bounds == everything


def test_equal_values_do_not_look_certain() -> None:
    low, high = mean_bounds(Moments(100, 50.0, 25.0), alpha_low=0.05, alpha_high=0.05, unit=1.0)
    assert low < 0.5 - 0.01
    assert high > 0.5 + 0.01


def test_bounds_of_a_mean_close_in_as_values_come() -> None:
    radii = [mean_radius(n, 1.0, 0.05) for n in (100, 1000, 10_000, 1_000_000)]
    assert radii == sorted(radii, reverse=True)
    # Twice the fixed-sample radius or so is the price of looking at all times.
    assert radii[1] < 2 * 1.645 / math.sqrt(1000)


@pytest.mark.parametrize(
    ("total", "n", "alpha"), [(2.0, 1, 0.05), (-1.0, 1, 0.05), (0.0, 1, 0.0), (0.0, 1, 1.0)]
)
def test_impossible_inputs_are_refused(total: float, n: int, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"rate|probabilities"):
        rate_bounds(total, n, alpha_low=alpha, alpha_high=0.05, typical=0.01)
