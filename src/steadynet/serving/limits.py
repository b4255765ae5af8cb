"""How often callers may ask: token buckets.

Source: the token bucket as a meter, ITU-T I.371 (generic cell rate algorithm), in its virtual
scheduling form, which keeps one number.
"""

from __future__ import annotations

from time import monotonic

BURST_S = 1.0
"""A caller who was quiet may send at once what it may send in this long."""


class TokenBucket:
    """Lets through `per_second` requests per second, and `BURST_S` of them at once.

    Invariant: in any span of `t` seconds at most `per_second * (t + BURST_S) + 1` are let through.
    """

    __slots__ = ("_ahead_s", "_due", "_interval_s", "per_second")

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._interval_s = 1 / per_second
        self._ahead_s = max(0.0, BURST_S - self._interval_s)
        self._due = 0.0
        """When the next request would come if all came evenly, `time.monotonic()`."""

    def take(self, now: float | None = None) -> float:
        """Let a request through and return 0, or return in how many seconds one may come."""
        now = monotonic() if now is None else now
        early = self._due - now
        if early > self._ahead_s:
            return early - self._ahead_s
        self._due = (self._due if early > 0 else now) + self._interval_s
        return 0.0
