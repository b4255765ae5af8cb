"""Comparing counts: against SciPy, against known values, and what no drift looks like."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from steadynet.statistics.counts import (
    chi_square_tail,
    false_discovery,
    homogeneity_p_value,
    jensen_shannon,
    pool_sparse,
    psi,
)

filled = st.lists(st.integers(50, 5000), min_size=2, max_size=12)


@given(st.floats(0, 2000), st.integers(1, 300))
def test_chi_square_tail_is_scipys(value: float, degrees: int) -> None:
    expected = float(stats.chi2.sf(value, degrees))
    assert chi_square_tail(value, degrees) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_a_chi_square_variable_has_a_degree_of_freedom() -> None:
    with pytest.raises(ValueError, match="degree"):
        chi_square_tail(1.0, 0)


@given(filled, st.integers(0, 2**32 - 1))
def test_the_homogeneity_test_is_scipys(reference: list[int], seed: int) -> None:
    shares = np.array(reference) / sum(reference)
    window = np.random.default_rng(seed).multinomial(100_000, shares)
    expected = stats.chi2_contingency(np.array([reference, window]), correction=False).pvalue
    assert homogeneity_p_value(reference, window.tolist()) == pytest.approx(expected, rel=1e-6)


@given(filled, st.integers(0, 2**32 - 1))
def test_jensen_shannon_is_scipys(reference: list[int], seed: int) -> None:
    window = np.random.default_rng(seed).integers(1000, 9000, len(reference))
    expected = float(jensenshannon(reference, window, base=2))
    assert jensen_shannon(reference, window.tolist()) == pytest.approx(expected, abs=1e-6)


@given(filled)
def test_the_same_counts_differ_in_nothing(counts: list[int]) -> None:
    assert psi(counts, counts) == 0.0
    assert jensen_shannon(counts, counts) == pytest.approx(0.0, abs=1e-7)
    assert homogeneity_p_value(counts, counts) == 1.0


def test_psi_of_a_textbook_shift() -> None:
    """(0.5, 0.5) → (0.8, 0.2): 0.3 ln 1.6 + 0.3 ln 2.5 = 0.4159."""
    expected = 0.3 * math.log(1.6) + 0.3 * math.log(2.5)
    assert psi((500_000, 500_000), (800_000, 200_000)) == pytest.approx(expected, abs=1e-4)


def test_disjoint_distributions_are_as_far_as_can_be() -> None:
    assert jensen_shannon((1000, 0), (0, 1000)) == pytest.approx(1.0)
    assert psi((1000, 0), (0, 1000)) > 5
    assert homogeneity_p_value((1000, 0), (0, 1000)) < 1e-100


def test_without_drift_small_windows_show_no_psi_on_average() -> None:
    """The raw index of 200 rows on 20 bins is about 0.1 by chance alone."""
    rng = np.random.default_rng(5)
    shares = np.full(20, 0.05)
    reference = rng.multinomial(50_000, shares).tolist()
    found = [psi(reference, rng.multinomial(200, shares).tolist()) for _ in range(300)]
    assert np.mean(found) < 0.03
    assert np.quantile(found, 0.99) < 0.15


def test_without_drift_p_values_are_uniform() -> None:
    rng = np.random.default_rng(6)
    shares = np.array([0.6, 0.2, 0.1, 0.05, 0.03, 0.02])
    found = [
        homogeneity_p_value(
            rng.multinomial(5000, shares).tolist(), rng.multinomial(2000, shares).tolist()
        )
        for _ in range(500)
    ]
    assert stats.kstest(found, "uniform").pvalue > 0.001


def test_sparse_bins_are_counted_together_and_lose_no_row() -> None:
    reference, window = pool_sparse((10_000, 3, 2, 0), (100, 0, 1, 4))
    assert reference.tolist() == [10_000, 5]
    assert window.tolist() == [100, 5]


def test_mass_in_a_bin_that_training_left_empty_is_seen() -> None:
    assert psi((500, 500, 0), (300, 300, 400)) > 0.5
    assert homogeneity_p_value((500, 500, 0), (300, 300, 400)) < 1e-10


@pytest.mark.parametrize("counts", [((0, 0), (5, 5)), ((5, 5), (0, 0)), ((10, 0), (7, 0))])
def test_nothing_to_compare_is_no_difference(
    counts: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    assert psi(*counts) == 0.0
    assert homogeneity_p_value(*counts) == 1.0


def test_counts_on_other_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="bins"):
        psi((1, 2, 3), (1, 2))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_false_discovery_is_scipys(p_values: list[float]) -> None:
    expected = stats.false_discovery_control(p_values)
    assert false_discovery(p_values) == pytest.approx(expected.tolist(), abs=1e-12)


def test_false_discovery_of_none_is_none() -> None:
    assert false_discovery([]) == []
