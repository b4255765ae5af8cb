"""How far two histograms of scores are apart, though each is counted on its own bins."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate

import msgspec

from steadynet.rollout.evidence import Arm
from steadynet.statistics.moments import Moments
from steadynet.statistics.sequential import FEWEST_VALUES, mean_difference_bounds


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """The largest difference that two versions' answers show at one score."""

    at: float
    """The score."""
    challenger: float
    """Share of the challenger's answers below it."""
    champion: float
    estimate: float
    """Size of the difference, at least 0."""
    low: float
    """Anytime-valid lower bound of it, the choice among all scores paid for."""
    high: float


def largest_gap(challenger: Arm, champion: Arm, *, alpha: float) -> Gap | None:
    """Return the gap with the highest lower bound; None where there is too little to compare.

    At each edge of the champion's bins the share of the challenger's answers below it lies
    between its shares below the next edges of its own bins, and the nearer of the two is taken,
    so that bins never make a gap. Each edge has its part of `alpha` for either direction
    (Bonferroni).
    """
    sizes = sum(challenger.output), sum(champion.output)
    fits = all(len(arm.output) == len(arm.edges) + 1 for arm in (challenger, champion))
    if not fits or min(sizes) < FEWEST_VALUES or not champion.edges:
        return None
    one_side = alpha / (2 * len(champion.edges))
    return max(_gaps(challenger, champion, sizes, one_side), key=lambda gap: gap.low)


def _gaps(challenger: Arm, champion: Arm, sizes: tuple[int, int], alpha: float) -> Iterator[Gap]:
    below = [0, *accumulate(challenger.output)]
    edges = challenger.edges
    for edge, count in zip(champion.edges, accumulate(champion.output), strict=False):
        least = below[bisect_right(edges, edge)]  # answers below the next edge to the left
        left = bisect_left(edges, edge)
        most = below[left + 1] if left < len(edges) else sizes[0]
        share = count / sizes[1]
        nearest = min(max(share * sizes[0], least), most)
        low, high = mean_difference_bounds(
            _hits(nearest, sizes[0]),
            _hits(count, sizes[1]),
            alpha_low=alpha,
            alpha_high=alpha,
            unit=1.0,
        )
        difference = nearest / sizes[0] - share
        if difference < 0:
            low, high = -high, -low
        yield Gap(
            at=edge,
            challenger=nearest / sizes[0],
            champion=share,
            estimate=abs(difference),
            low=low,
            high=high,
        )


def _hits(count: float, n: int) -> Moments:
    """Return the moments of `n` values, `count` of which are 1 and the others 0."""
    return Moments(n, float(count), float(count))
