"""Service-level objectives: how fast is the error budget being burnt?

The *error budget* of an objective is the share of requests that may be bad, as 0.1 % for an
availability of 99.9 %. The *burn rate* is the share that was bad over that budget: at 1 the budget
of a period is used up exactly when the period ends. A rule fires where the burn rate is above its
limit both in a long window (so that it matters) and in a short one (so that it is still going on).
Rules and limits are those of the Site Reliability Workbook, chapter 5, "Alerting on SLOs".

A rule also needs some bad requests in number, so that one failure in a quiet night pages nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from steadynet.monitoring.latency import slower_than
from steadynet.monitoring.reports import AlertKind, BurnRate, SloReport
from steadynet.monitoring.windows import Window
from steadynet.spec.model import Slo

Objective = Literal["availability", "latency"]

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
KEPT_S = 3 * _DAY
"""The longest window: older events need not be kept."""
SMALLEST_BUDGET = 1e-6


class BurnRule(msgspec.Struct, frozen=True):
    """When a burn rate is an alert."""

    kind: AlertKind
    long_s: float
    short_s: float
    limit: float
    fewest_bad: int
    """Bad requests that the long window must hold."""


RULES = (
    BurnRule("page", 1 * _HOUR, 5 * _MINUTE, 14.4, 10),
    BurnRule("page", 6 * _HOUR, 30 * _MINUTE, 6.0, 10),
    BurnRule("ticket", 1 * _DAY, 2 * _HOUR, 3.0, 5),
    BurnRule("ticket", 3 * _DAY, 6 * _HOUR, 1.0, 5),
)
FEWEST_BAD_SHORT = 2
"""Bad requests that the short window must hold for any rule."""


class SloEvents(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Good and bad requests between `start` and `end` (seconds UTC). Small enough to keep."""

    start: float
    end: float
    total: int = 0
    failed: int = 0
    """Answered with a 5xx."""
    slow: float = 0.0
    """Slower than the SLO; a fraction where the histogram had to be interpolated."""


def slo_events(slo: Slo, window: Window) -> SloEvents:
    """Return what a window of the role `champion` or `challenger` means for the objectives.

    Windows of the role `shadow` are no user's experience and must not be passed.
    """
    if window.role == "shadow":
        raise ValueError("shadow answers reach no user; pass champion and challenger windows")
    return SloEvents(
        start=window.start,
        end=window.end,
        total=max(window.requests, window.failed),
        failed=window.failed,
        slow=slower_than(window.latency, slo.latency_ms / 1000),
    )


def compact_events(
    events: Iterable[SloEvents], *, now: float, bucket_s: float = _MINUTE
) -> tuple[SloEvents, ...]:
    """Add events up into buckets of `bucket_s` by their end, and forget those too old for any rule.

    So a model's three days are at most 4 320 events. Compacting twice changes nothing.
    """
    buckets: dict[int, SloEvents] = {}
    for event in events:
        if event.end <= now - KEPT_S:
            continue
        key = int(event.end // bucket_s)
        held = buckets.get(key)
        buckets[key] = event if held is None else _add(held, event)
    return tuple(buckets[key] for key in sorted(buckets))


def _add(a: SloEvents, b: SloEvents) -> SloEvents:
    return SloEvents(
        start=min(a.start, b.start),
        end=max(a.end, b.end),
        total=a.total + b.total,
        failed=a.failed + b.failed,
        slow=a.slow + b.slow,
    )


def assess_slo(slo: Slo, events: Sequence[SloEvents], now: float) -> SloReport:
    """Return the burn rates of both objectives by every rule, and which rules fire."""
    budgets: tuple[tuple[Objective, float], ...] = (
        ("availability", 1 - slo.availability_share),
        ("latency", 1 - slo.latency_share),
    )
    burns = tuple(
        _burn(objective, max(budget, SMALLEST_BUDGET), rule, events, now)
        for objective, budget in budgets
        for rule in RULES
    )
    firing = tuple(sorted((b for b in burns if b.firing), key=lambda burn: burn.kind))
    return SloReport(at=now, burns=burns, firing=firing, sentence=_sentence(firing))


def _burn(
    objective: Objective, budget: float, rule: BurnRule, events: Sequence[SloEvents], now: float
) -> BurnRate:
    bad, total = _count(objective, events, now - rule.long_s)
    short_bad, short_total = _count(objective, events, now - rule.short_s)
    long_burn = bad / total / budget if total else None
    short_burn = short_bad / short_total / budget if short_total else None
    firing = (
        long_burn is not None
        and short_burn is not None
        and long_burn > rule.limit
        and short_burn > rule.limit
        and bad >= rule.fewest_bad
        and short_bad >= FEWEST_BAD_SHORT
    )
    return BurnRate(
        objective=objective,
        kind=rule.kind,
        long_s=rule.long_s,
        short_s=rule.short_s,
        limit=rule.limit,
        long_burn=long_burn,
        short_burn=short_burn,
        bad=round(bad),
        total=total,
        firing=firing,
    )


def _count(objective: Objective, events: Sequence[SloEvents], since: float) -> tuple[float, int]:
    """Add up bad and all requests of the events that end after `since`."""
    recent = [event for event in events if event.end > since]
    bad = sum(event.failed if objective == "availability" else event.slow for event in recent)
    return float(bad), sum(event.total for event in recent)


def _sentence(firing: tuple[BurnRate, ...]) -> str:
    """Say the gravest firing rule of each objective."""
    if not firing:
        return "both objectives are within their budgets"
    gravest = {burn.objective: burn for burn in reversed(firing)}
    return "; ".join(
        f"{burn.objective}: {burn.bad} of {burn.total} requests were bad in {_span(burn.long_s)}, "
        f"which burns the error budget {burn.long_burn:.1f} times too fast "
        f"(limit {burn.limit:g})"
        for burn in gravest.values()
    )


def _span(seconds: float) -> str:
    if seconds >= _DAY:
        return f"{seconds / _DAY:g} d"
    return f"{seconds / _HOUR:g} h" if seconds >= _HOUR else f"{seconds / _MINUTE:g} min"
