"""Confidence bounds that stay true however often, and whenever, one looks at them.

Every bound here is *one-sided and anytime-valid*: the chance that the truth is ever, at any
sample size, on the wrong side of a bound made with `alpha` is at most `alpha`. So a decision may
be taken the moment a bound allows it. An interval of a lower bound at `a` and an upper bound at
`b` therefore covers with probability at least `1 - a - b`. All inputs are sums, so the bounds can
be made from windows of any workers.

Rates (faults, slow answers), where small counts near 0 matter: the beta-binomial mixture of
Robbins (1970), as a sub-Bernoulli bound in Howard, Ramdas, McAuliffe, Sekhon (2021),
"Time-uniform, nonparametric, nonasymptotic confidence sequences", arXiv:1810.08240. It is exact
for 0/1 values and conservative for any values in [0, 1] with one mean.

Means (scores, losses): the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha,
Kennedy, Ramdas (2021), "Time-uniform central limit theory and asymptotic confidence sequences",
arXiv:2103.06476, in its one-sided form. It holds as samples grow; callers wait for a first few
dozens, and `mean_bounds` widens the variance by one made-up value so that a run of equal values
does not look certain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from steadynet.statistics.moments import Moments

_FLAT = (0.5, 0.5)
_FLAT_WEIGHT = 0.2
_BISECTIONS = 60
_CLOSE = 1e-12
_SMALLEST = 1e-300
Bounds = tuple[float, float]
"""Lower and upper bound."""
FEWEST_VALUES = 100
"""Values that a mean needs before callers should use its asymptotic bounds."""
TUNED_N = 1000
"""Sample size at which the bounds on means are tightest. Fixed before data, as it must be."""


def rate_bounds(
    total: float, n: int, *, alpha_low: float, alpha_high: float, typical: float
) -> Bounds:
    """Bound a rate from below and above, each anytime-valid on its own.

    The mixture puts most of its weight on rates around `typical`, where the bounds are then
    tightest, and a fifth on all rates alike. `typical` must be chosen before the data.

    Args:
        total: Sum of the values, 0 to `n` (for 0/1 values their count of ones).
        n: How many values; 0 gives (0, 1).
        alpha_low: Chance that the lower bound is ever above the rate.
        alpha_high: Chance that the upper bound is ever below the rate.
        typical: Rate around which precision matters, in (0, 1).

    Raises:
        ValueError: `total` is not within 0 and `n`, or a probability is not in (0, 1).
    """
    _check_probabilities(alpha_low, alpha_high, typical)
    if not 0 <= total <= n:
        raise ValueError(f"a rate needs 0 <= total <= n; got {total} of {n}")
    if n == 0:
        return 0.0, 1.0
    mixture = _log_mixture(total, n - total, typical)
    low = _edge(total, n, mixture + math.log(alpha_low), upper=False)
    high = _edge(total, n, mixture + math.log(alpha_high), upper=True)
    return low, high


def _log_mixture(ones: float, zeros: float, typical: float) -> float:
    """Return the log-likelihood of the data, averaged over the mixture of beta priors."""
    near = (0.5, 0.5 * (1 - typical) / typical)
    logs = [
        math.log(weight) + _log_beta(a + ones, b + zeros) - _log_beta(a, b)
        for weight, (a, b) in ((1 - _FLAT_WEIGHT, near), (_FLAT_WEIGHT, _FLAT))
    ]
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _edge(ones: float, n: int, level: float, *, upper: bool) -> float:
    """Find where the log-likelihood of a rate falls to `level`, on one side of its top.

    The log-likelihood is concave, so bisection between the top and the end finds the only edge.
    """
    zeros = n - ones
    if upper and zeros == 0:
        return 1.0
    if not upper and ones == 0:
        return 0.0
    if upper and ones == 0:
        return -math.expm1(level / n)
    if not upper and zeros == 0:
        return math.exp(level / n)
    inside, outside = ones / n, 1.0 if upper else 0.0
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        if _times_log(ones, middle) + _times_log(zeros, 1 - middle) > level:
            inside = middle
        else:
            outside = middle
        if abs(outside - inside) < _CLOSE + 1e-4 * abs(outside - ones / n):
            break
    return outside


def rate_difference_bounds(
    treated: tuple[float, int],
    control: tuple[float, int],
    *,
    alpha_low: float,
    alpha_high: float,
    typical: float,
) -> Bounds:
    """Bound the difference of two rates, each given as (sum, n); treated minus control.

    The arms are independent, so the product of their two mixtures is a martingale at the true
    pair of rates, and the lower bound is the smallest difference of any pair at which that
    product has not reached `1 / alpha_low`. No alpha is split, which shows a rise of a rate on
    about a third fewer requests than two separate bounds do.

    The upper bound puts the bounds of both arms together, four fifths of `alpha_high` going to
    the treated arm: at rates near 0 the control's lower bound is 0 whatever it is made with, and
    this is closer than the product, which pays for both mixtures.
    """
    low = _lowest_difference(treated, control, alpha=alpha_low, typical=typical)
    _, high_treated = rate_bounds(
        *treated, alpha_low=alpha_low, alpha_high=0.8 * alpha_high, typical=typical
    )
    low_control, _ = rate_bounds(
        *control, alpha_low=0.2 * alpha_high, alpha_high=alpha_high, typical=typical
    )
    return low, high_treated - low_control


def _lowest_difference(
    treated: tuple[float, int], control: tuple[float, int], *, alpha: float, typical: float
) -> float:
    """Find the smallest difference of rates that the two arms do not exclude; -1 for no data."""
    if treated[1] == 0 or control[1] == 0:
        return -1.0
    level = math.log(alpha) + sum(
        _log_mixture(total, n - total, typical) for total, n in (treated, control)
    )
    inside, outside = treated[0] / treated[1] - control[0] / control[1], -1.0
    width = 1.0
    while width > _CLOSE + 1e-4 * abs(inside):
        middle = (inside + outside) / 2
        if best_log_likelihood(treated, control, middle) > level:
            inside = middle
        else:
            outside = middle
        width = inside - outside
    return outside


def best_log_likelihood(
    treated: tuple[float, int], control: tuple[float, int], difference: float
) -> float:
    """Return the largest log-likelihood of both arms with rates that differ by `difference`.

    The control's rate solves a cubic: Miettinen and Nurminen (1985), "Comparative analysis of two
    rates", Statistics in Medicine 4, appendix 1.
    """
    (x1, n1), (x0, n0), d = treated, control, difference
    n = n1 + n0
    third = 3 * n
    a2 = (n1 + 2 * n0) * d - n - x1 - x0
    a1 = (n0 * d - n - 2 * x0) * d + x1 + x0
    a0 = x0 * d * (1 - d)
    q = (a2 / third) ** 3 - a1 * a2 / (6 * n**2) + a0 / (2 * n)
    p = math.copysign(math.sqrt(max(0.0, (a2 / third) ** 2 - a1 / third)), q)
    turn = max(-1.0, min(1.0, q / p**3)) if p else 0.0
    rate = 2 * p * math.cos((math.pi + math.acos(turn)) / 3) - a2 / third
    rate = min(max(rate, 0.0, -d), 1.0, 1.0 - d)
    return (
        _times_log(x1, rate + d)
        + _times_log(n1 - x1, 1 - rate - d)
        + _times_log(x0, rate)
        + _times_log(n0 - x0, 1 - rate)
    )


def _times_log(count: float, rate: float) -> float:
    return count * math.log(max(rate, _SMALLEST)) if count else 0.0


def mean_radius(n: int, variance: float, alpha: float) -> float:
    """Return how far a mean of `n` values may be from the truth on one side, at any time.

    Infinite for no values.
    """
    _check_probabilities(alpha)
    if n == 0:
        return math.inf
    logs = -2 * math.log(alpha)
    ratio = TUNED_N / (logs + math.log(logs + 1) + 1)
    spread = (n + ratio) * math.log1p(math.sqrt((n + ratio) / ratio) / (2 * alpha))
    return math.sqrt(2 * variance * spread) / n


def mean_bounds(moments: Moments, *, alpha_low: float, alpha_high: float, unit: float) -> Bounds:
    """Bound a mean from below and above, each anytime-valid for large samples.

    `unit` is a size that one value may well have; a made-up value that far from the mean is added
    to the variance.
    """
    if moments.n == 0:
        return -math.inf, math.inf
    variance = moments.variance + unit**2 / moments.n
    return (
        moments.mean - mean_radius(moments.n, variance, alpha_low),
        moments.mean + mean_radius(moments.n, variance, alpha_high),
    )


def mean_difference_bounds(
    treated: Moments, control: Moments, *, alpha_low: float, alpha_high: float, unit: float
) -> Bounds:
    """Bound the difference of two means of separate streams; treated minus control.

    Rows drawn into two arms by chance are one stream whose influence values average to the
    difference (section 4 of arXiv:2103.06476 with the arms' means as the outcome model); their
    variance is `N (v1/n1 + v0/n0)` with `N = n1 + n0`. So no `alpha` is lost to a split.
    """
    if treated.n == 0 or control.n == 0:
        return -math.inf, math.inf
    n = treated.n + control.n
    variance = n * sum((arm.variance + unit**2 / arm.n) / arm.n for arm in (treated, control))
    difference = treated.mean - control.mean
    return (
        difference - mean_radius(n, variance, alpha_low),
        difference + mean_radius(n, variance, alpha_high),
    )


def stratified_difference(strata: Sequence[tuple[Moments, Moments]]) -> tuple[float, float, int]:
    """Return the difference of two arms over strata, its squared standard error, and the rows.

    Each stratum is (treated, control). Within one the arms saw the same time and were drawn by
    chance; between strata their shares differ, so that pooled means would compare one time with
    another. The strata's differences are averaged with the treated arm's sizes as weights: the
    mean effect on the rows that were treated. Strata without two values in each arm are left out;
    0 rows where none is left.
    """
    kept = [pair for pair in strata if min(arm.n for arm in pair) >= 2]
    treated = sum(pair[0].n for pair in kept)
    if not treated:
        return 0.0, math.inf, 0
    difference, squared = 0.0, 0.0
    for one, other in kept:
        weight = one.n / treated
        difference += weight * (one.mean - other.mean)
        squared += weight**2 * (one.variance / one.n + other.variance / other.n)
    return difference, squared, sum(one.n + other.n for one, other in kept)


def stratified_difference_bounds(
    strata: Sequence[tuple[Moments, Moments]], *, alpha_low: float, alpha_high: float, unit: float
) -> Bounds:
    """Bound the difference of `stratified_difference`, as `mean_difference_bounds` does for one.

    Infinite where there is nothing to compare. The variance of an arm with less than half of the
    other's rows is not taken smaller than the other's: of values that are rare and large (a sale
    in a hundred, the loss on a rare class) it has met none yet, and looks sure of their absence.
    """
    evened = [(_as_spread(one, other), _as_spread(other, one)) for one, other in strata]
    widened = [(_with_one_more(one, unit), _with_one_more(other, unit)) for one, other in evened]
    difference, squared, n = stratified_difference(widened)
    if n == 0:
        return -math.inf, math.inf
    return (
        difference - mean_radius(n, n * squared, alpha_low),
        difference + mean_radius(n, n * squared, alpha_high),
    )


def _as_spread(arm: Moments, other: Moments) -> Moments:
    """Return an arm's mean with no smaller a variance than that of a much larger arm."""
    if not 0 < 2 * arm.n < other.n or arm.variance >= other.variance:
        return arm
    return Moments(arm.n, arm.total, arm.n * (other.variance + arm.mean**2))


def _with_one_more(moments: Moments, unit: float) -> Moments:
    """Return the same mean with the variance of one made-up value, `unit` away, more."""
    return Moments(moments.n, moments.total, moments.squares + unit**2)


def _check_probabilities(*values: float) -> None:
    if not all(0 < value < 1 for value in values):
        raise ValueError(f"probabilities must be between 0 and 1; got {values}")
