"""Windows: what a worker counts about one version in a short time, small and mergeable.

Law: `merge` is associative and commutative, with `empty_window` as its unit, so that windows of
any workers and any times add up in any order. All of it is counts and sums; no row is in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from steadynet.statistics.moments import Moments as Moments
from steadynet.statistics.moments import add as _add_moments

Role = Literal["champion", "challenger", "shadow", "pinned"]
"""How the version answered: `shadow` answers are computed and thrown away; `pinned` stands beside
the route's versions and answers only those who ask for it by number."""

LATENCY_BUCKETS = 160
LATENCY_FLOOR_S = 50e-6
LATENCY_GROWTH = 1.08
"""Bucket `i` holds latencies up to `LATENCY_FLOOR_S * LATENCY_GROWTH**i`: 50 µs to 10 s, ±4 %."""


class FeatureCounts(msgspec.Struct, frozen=True):
    """Counts of one feature on its profile's bins."""

    counts: tuple[int, ...]
    missing: int = 0
    magnitude: Moments = Moments()
    """Of `statistics.magnitude`, the first values of each count."""


class Pairs(msgspec.Struct, frozen=True, kw_only=True):
    """Answers of two versions to the same rows (this window's version minus the champion)."""

    rows: int = 0
    disagreements: int = 0
    """Rows with another label; regression: rows where the two predictions differ."""
    difference: Moments = Moments()
    """Score of this version minus the champion's."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one version in one role between `start` and `end` (seconds, UTC)."""

    model: str
    version: str
    role: Role
    start: float
    end: float
    requests: int = 0
    rows: int = 0
    invalid: int = 0
    """Requests refused because the caller's input was wrong: never the version's fault."""
    errors: dict[str, int] = msgspec.field(default_factory=dict)
    """This version's own faults: `exception`, `not_finite`, `deadline` → requests."""
    failed: int = 0
    """Requests that were answered with a 5xx: no version could answer."""
    fallbacks: int = 0
    """Requests that the champion answered in this version's place."""
    latency: tuple[int, ...] = ()
    """Requests per latency bucket; empty or `LATENCY_BUCKETS + 1` long (the last is beyond)."""
    score: Moments = Moments()
    output: tuple[int, ...] = ()
    """Rows per bin of the profile's output histogram."""
    labels: dict[str, int] = msgspec.field(default_factory=dict)
    novel: int = 0
    """Rows that are farther from training than nearly all held-out rows were."""
    features: dict[str, FeatureCounts] = msgspec.field(default_factory=dict)
    pairs: Pairs = Pairs()
    workers: tuple[str, ...] = ()
    """Who counted, sorted."""


def empty_window(model: str, version: str, role: Role) -> Window:
    """Return the unit of `merge` for a version in a role."""
    return Window(model=model, version=version, role=role, start=float("inf"), end=float("-inf"))


def merge(windows: Iterable[Window]) -> Window:
    """Add up windows of one model, version and role.

    Raises `ValueError` for no window at all or for windows of different versions or roles.
    """
    items = list(windows)
    if not items:
        raise ValueError("merge needs at least one window; use empty_window for none")
    if len({(w.model, w.version, w.role) for w in items}) > 1:
        raise ValueError("merge takes windows of one model, version and role")
    result = items[0]
    for other in items[1:]:
        result = _merge_two(result, other)
    return result


def _merge_two(a: Window, b: Window) -> Window:
    return Window(
        model=a.model,
        version=a.version,
        role=a.role,
        start=min(a.start, b.start),
        end=max(a.end, b.end),
        requests=a.requests + b.requests,
        rows=a.rows + b.rows,
        invalid=a.invalid + b.invalid,
        errors=_add_counts(a.errors, b.errors),
        failed=a.failed + b.failed,
        fallbacks=a.fallbacks + b.fallbacks,
        latency=_add_bins(a.latency, b.latency),
        score=_add_moments(a.score, b.score),
        output=_add_bins(a.output, b.output),
        labels=_add_counts(a.labels, b.labels),
        novel=a.novel + b.novel,
        features=_add_features(a.features, b.features),
        pairs=Pairs(
            rows=a.pairs.rows + b.pairs.rows,
            disagreements=a.pairs.disagreements + b.pairs.disagreements,
            difference=_add_moments(a.pairs.difference, b.pairs.difference),
        ),
        workers=tuple(sorted(set(a.workers) | set(b.workers))),
    )


def _add_counts(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in sorted({*a, *b})}


def _add_bins(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    if not a or not b:
        return a or b
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _add_features(
    a: dict[str, FeatureCounts], b: dict[str, FeatureCounts]
) -> dict[str, FeatureCounts]:
    empty = FeatureCounts(())
    return {
        name: FeatureCounts(
            _add_bins(a.get(name, empty).counts, b.get(name, empty).counts),
            a.get(name, empty).missing + b.get(name, empty).missing,
            _add_moments(a.get(name, empty).magnitude, b.get(name, empty).magnitude),
        )
        for name in sorted({*a, *b})
    }
