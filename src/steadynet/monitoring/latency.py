"""Reading the latency histogram of a window."""

from __future__ import annotations

from collections.abc import Sequence

from steadynet.monitoring.windows import LATENCY_BUCKETS, LATENCY_FLOOR_S, LATENCY_GROWTH


def bucket_bounds_s(bucket: int) -> tuple[float, float]:
    """Return the shortest and longest latency of a bucket, in seconds; the last is open."""
    low = 0.0 if bucket == 0 else LATENCY_FLOOR_S * LATENCY_GROWTH ** (bucket - 1)
    high = LATENCY_FLOOR_S * LATENCY_GROWTH**bucket if bucket < LATENCY_BUCKETS else float("inf")
    return low, high


def slower_than(latency: Sequence[int], seconds: float) -> float:
    """Return how many requests took longer than `seconds`.

    Within the bucket that `seconds` falls into, requests are taken as spread evenly, so the
    answer may be a fraction. Beyond the last bound (10 s) all of the open bucket counts as slower.
    """
    slow = 0.0
    for bucket, count in enumerate(latency):
        if not count:
            continue
        low, high = bucket_bounds_s(bucket)
        if seconds <= low or high == float("inf"):
            slow += count
        elif seconds < high:
            slow += count * (high - seconds) / (high - low)
    return slow


def quantile(latency: Sequence[int], share: float) -> float | None:
    """Return the latency in seconds that `share` of the requests did not exceed.

    Interpolates within a bucket, so it is right to ±4 %. None where nothing was measured; the
    last bucket gives its lower bound. Raises `ValueError` for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a quantile's share must be in [0, 1]; got {share}")
    total = sum(latency)
    if total == 0:
        return None
    wanted, below = share * total, 0
    last = max(bucket for bucket, count in enumerate(latency) if count)
    for bucket, count in enumerate(latency):
        if count and (below + count >= wanted or bucket == last):
            low, high = bucket_bounds_s(bucket)
            if high == float("inf"):
                return low
            return low + (high - low) * min(1.0, max(0.0, (wanted - below) / count))
        below += count
    return None
