"""Comparing counts on the same bins: how different two distributions are, and by chance or not.

Bins into which the reference would put fewer than `FEWEST_EXPECTED` of the window's rows are
counted together first, so that neither the effect size nor the test is made of sparse bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FEWEST_EXPECTED = 5.0
_SMOOTHING = 0.5
_TERMS = 1000
_CLOSE = 1e-14

Counts = npt.NDArray[np.float64]


def pool_sparse(reference: Sequence[int], window: Sequence[int]) -> tuple[Counts, Counts]:
    """Return both counts (bins,) with sparse bins added into one last bin, empty ones left out.

    Raises `ValueError` where the two differ in length.
    """
    if len(reference) != len(window):
        raise ValueError(f"counts differ in bins: {len(reference)} and {len(window)}")
    first, second = np.asarray(reference, np.float64), np.asarray(window, np.float64)
    expected = first * (second.sum() / max(first.sum(), 1.0))
    sparse = expected < FEWEST_EXPECTED
    first = np.append(first[~sparse], first[sparse].sum())
    second = np.append(second[~sparse], second[sparse].sum())
    filled = (first + second) > 0
    return first[filled], second[filled]


def psi(reference: Sequence[int], window: Sequence[int]) -> float:
    """Return the population stability index less what sampling alone is expected to make of it.

    Without drift the raw index is about `(bins - 1) (1/n + 1/m)` (Yurdakul 2018, "Statistical
    properties of population stability index"); this is subtracted, and the result is at least 0.
    By custom, 0.1 is worth a look and 0.2 is a drift. 0 where either has no rows.
    """
    first, second = pool_sparse(reference, window)
    n, m = float(first.sum()), float(second.sum())
    if not n or not m:
        return 0.0
    bins = len(first)
    p = (first + _SMOOTHING) / (n + _SMOOTHING * bins)
    q = (second + _SMOOTHING) / (m + _SMOOTHING * bins)
    raw = float(np.sum((q - p) * np.log(q / p)))
    return max(0.0, raw - (bins - 1) * (1 / n + 1 / m))


def jensen_shannon(reference: Sequence[int], window: Sequence[int]) -> float:
    """Return the Jensen-Shannon distance (base 2, root of the divergence): 0 equal, 1 disjoint.

    Lin (1991), "Divergence measures based on the Shannon entropy". 0 where either has no rows.
    """
    first, second = pool_sparse(reference, window)
    n, m = float(first.sum()), float(second.sum())
    if not n or not m:
        return 0.0
    p, q = first / n, second / m
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return math.sqrt(min(1.0, max(0.0, divergence)))


def _relative_entropy(p: Counts, q: Counts) -> float:
    held = p > 0
    return float(np.sum(p[held] * np.log2(p[held] / q[held])))


def homogeneity_p_value(reference: Sequence[int], window: Sequence[int]) -> float:
    """Return the p-value of Pearson's chi-square test that both come from one distribution.

    1 where there is nothing to compare (no rows, or one bin only).
    """
    first, second = pool_sparse(reference, window)
    n, m = float(first.sum()), float(second.sum())
    if not n or not m or len(first) < 2:
        return 1.0
    scaled = math.sqrt(m / n) * first - math.sqrt(n / m) * second
    return chi_square_tail(float(np.sum(scaled**2 / (first + second))), len(first) - 1)


def chi_square_tail(value: float, degrees: int) -> float:
    """Return the chance that a chi-square variable is above `value`.

    The regularised upper incomplete gamma function by series and continued fraction (Lentz), as
    in Numerical Recipes 6.2. Raises `ValueError` for fewer than one degree of freedom.
    """
    if degrees < 1:
        raise ValueError(f"a chi-square variable has at least one degree; got {degrees}")
    a, x = degrees / 2, value / 2
    if x <= 0:
        return 1.0
    scale = a * math.log(x) - x - math.lgamma(a)
    if x < a + 1:
        return max(0.0, 1.0 - math.exp(scale) * _gamma_series(a, x))
    return math.exp(scale) * _gamma_fraction(a, x)


def _gamma_series(a: float, x: float) -> float:
    term = total = 1 / a
    for i in range(1, _TERMS):
        term *= x / (a + i)
        total += term
        if term < total * _CLOSE:
            break
    return total


def _gamma_fraction(a: float, x: float) -> float:
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    result = d
    for i in range(1, _TERMS):
        factor = -i * (i - a)
        b += 2
        d = factor * d + b
        d = 1 / (d if abs(d) > tiny else tiny)
        c = b + factor / c
        c = c if abs(c) > tiny else tiny
        result *= d * c
        if abs(d * c - 1) < _CLOSE:
            break
    return result


def false_discovery(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected so that those below `q` hold at most a share `q` of false ones.

    Benjamini and Hochberg (1995), "Controlling the false discovery rate".
    """
    count = len(p_values)
    corrected = [1.0] * count
    smallest = 1.0
    for rank, index in sorted(
        enumerate(sorted(range(count), key=p_values.__getitem__), start=1), reverse=True
    ):
        smallest = min(smallest, p_values[index] * count / rank)
        corrected[index] = smallest
    return corrected
