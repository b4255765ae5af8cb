"""Count, sum and sum of squares: all that is kept of a stream of numbers.

Law: `add` is associative and commutative with `Moments()` as its unit, so that moments of any
workers and any times add up in any order.
"""

from __future__ import annotations

import math

import msgspec


class Moments(msgspec.Struct, frozen=True):
    """Count, sum and sum of squares of a number."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """Return the mean. Raises `ZeroDivisionError` for no values."""
        return self.total / self.n

    @property
    def variance(self) -> float:
        """Return the population variance, never below 0. Raises `ZeroDivisionError` for none."""
        return max(0.0, self.squares / self.n - self.mean**2)

    @property
    def finite(self) -> bool:
        """Tell whether both sums are numbers, neither NaN nor infinite."""
        return math.isfinite(self.total) and math.isfinite(self.squares)


def add(a: Moments, b: Moments) -> Moments:
    """Return the moments of both streams together."""
    return Moments(a.n + b.n, a.total + b.total, a.squares + b.squares)
