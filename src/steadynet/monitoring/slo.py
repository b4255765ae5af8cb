"""Service-level objectives: how fast is the error budget being burnt?

The *error budget* of an objective is the share of requests that may be bad, as 0.1 % for an
availability of 99.9 %. The *burn rate* is the share that was bad over that budget: at 1 the budget
of a period is used up exactly when the period ends. A rule fires where the burn rate is above its
limit both in a long window (so that it matters) and in a short one (so that it is still going on).
Rules and limits are those of the Site Reliability Workbook, chapter 5, "Alerting on SLOs".

A rule also needs some bad requests in number, so that one failure in a quiet night pages nobody.

Availability counts every answer that a caller got. Latency counts the champion's alone: a
challenger is planned, the judge watches it, and it is gone within minutes if it is slow. Quality
and freshness count seconds (`monitoring.timed`); an old champion is no reason to wake anybody.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from steadynet.monitoring.latency import slower_than
from steadynet.monitoring.reports import AlertKind, BurnRate, Objective, SloReport
from steadynet.monitoring.timed import TimeSpent, seconds_between
from steadynet.monitoring.windows import Window
from steadynet.spec.model import Slo

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
    """Bad requests that the long window must hold; of objectives that count seconds, minutes."""


RULES = (
    BurnRule("page", 1 * _HOUR, 5 * _MINUTE, 14.4, 10),
    BurnRule("page", 6 * _HOUR, 30 * _MINUTE, 6.0, 10),
    BurnRule("ticket", 1 * _DAY, 2 * _HOUR, 3.0, 5),
    BurnRule("ticket", 3 * _DAY, 6 * _HOUR, 1.0, 5),
)
FEWEST_BAD_SHORT = 2
"""Bad requests (or minutes) that the short window must hold for any rule."""
QUIET_S: Mapping[AlertKind, float] = MappingProxyType({"page": 5 * _MINUTE, "ticket": 6 * _HOUR})
"""How long no rule of a kind may fire before its alert is over: an error rate at
the budget itself would else open and close a ticket all day."""
TIMED: tuple[Objective, ...] = ("quality", "freshness")
"""The objectives that count seconds instead of requests."""


def fewest(objective: Objective, count: int) -> float:
    """Return a smallest count in what an objective counts: requests, or minutes told in seconds.

    Ten bad requests are ten callers; ten bad seconds are one verdict, looked at ten times.
    """
    return count * _MINUTE if objective in TIMED else count


Count = float | NDArray[np.float64]


def rules_of(objective: Objective) -> tuple[BurnRule, ...]:
    """Return the rules of an objective: freshness never pages."""
    return tuple(rule for rule in RULES if objective != "freshness" or rule.kind == "ticket")


def budgets_of(slo: Slo) -> dict[Objective, float]:
    """Return objective → error budget, for those that are promised."""
    shares: dict[Objective, float] = {
        "availability": slo.availability_share,
        "latency": slo.latency_share,
        "quality": slo.quality_share,
    }
    if slo.max_age_s is not None:
        shares["freshness"] = slo.freshness_share
    return {name: max(1 - share, SMALLEST_BUDGET) for name, share in shares.items()}


def fires(
    rule: BurnRule,
    budget: float,
    objective: Objective = "availability",
    *,
    bad: Count,
    total: Count,
    short_bad: Count,
    short_total: Count,
) -> NDArray[np.bool_]:
    """Tell whether a rule fires on what its two windows hold; numbers or arrays of them (T,)."""
    allowed = rule.limit * budget
    enough = (np.asarray(bad) >= fewest(objective, rule.fewest_bad)) & (
        np.asarray(short_bad) >= fewest(objective, FEWEST_BAD_SHORT)
    )
    lasting = np.asarray(bad) > allowed * np.asarray(total)
    present = np.asarray(short_bad) > allowed * np.asarray(short_total)
    return np.asarray(enough & lasting & present, np.bool_)


class SloEvents(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Good and bad requests between `start` and `end` (seconds UTC). Small enough to keep."""

    start: float
    end: float
    total: int = 0
    failed: int = 0
    """Answered with a 5xx."""
    tried: int = 0
    """Requests that a challenger was to answer."""
    tried_failed: int = 0
    """Those of them that failed."""
    timed: int = 0
    """Those that the champion answered."""
    slow: float = 0.0
    """Those of them slower than the SLO; a fraction where the histogram had to be interpolated."""


def slo_events(slo: Slo, window: Window) -> SloEvents:
    """Return what a window of the role `champion` or `challenger` means for the objectives.

    Windows of the role `shadow` are no user's experience and must not be passed.
    """
    if window.role == "shadow":
        raise ValueError("shadow answers reach no user; pass champion and challenger windows")
    total, champions = max(window.requests, window.failed), window.role == "champion"
    return SloEvents(
        start=window.start,
        end=window.end,
        total=total,
        failed=window.failed,
        tried=total if window.role == "challenger" else 0,
        tried_failed=window.failed if window.role == "challenger" else 0,
        timed=total if champions else 0,
        slow=slower_than(window.latency, slo.latency_ms / 1000) if champions else 0.0,
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


def extend_events(
    known: tuple[SloEvents, ...], events: Sequence[SloEvents], *, now: float
) -> tuple[SloEvents, ...]:
    """Return `compact_events` of both, where `known` came from it: only the last buckets change."""
    if not events:
        return known
    ends = [event.end for event in known]
    first = bisect_left(ends, min(event.end for event in events) // _MINUTE * _MINUTE)
    kept = known[bisect_right(ends, now - KEPT_S, hi=first) : first]
    return (*kept, *compact_events([*known[first:], *events], now=now))


def _add(a: SloEvents, b: SloEvents) -> SloEvents:
    return SloEvents(
        start=min(a.start, b.start),
        end=max(a.end, b.end),
        total=a.total + b.total,
        failed=a.failed + b.failed,
        tried=a.tried + b.tried,
        tried_failed=a.tried_failed + b.tried_failed,
        timed=a.timed + b.timed,
        slow=a.slow + b.slow,
    )


class _Past:
    """Events summed up once, so that a window of any length costs one search."""

    def __init__(self, events: Sequence[SloEvents]) -> None:
        ordered = sorted(events, key=lambda event: event.end)
        self._ends = np.array([event.end for event in ordered])
        self._sums: dict[
            Objective | Literal["challengers"], tuple[NDArray[np.float64], NDArray[np.float64]]
        ] = {
            "availability": (
                _from_the_end([event.failed for event in ordered]),
                _from_the_end([event.total for event in ordered]),
            ),
            "challengers": (
                _from_the_end([event.tried_failed for event in ordered]),
                _from_the_end([event.tried for event in ordered]),
            ),
            "latency": (
                _from_the_end([event.slow for event in ordered]),
                _from_the_end([event.timed for event in ordered]),
            ),
        }

    def count(
        self, objective: Objective | Literal["challengers"], since: float
    ) -> tuple[float, float]:
        """Return bad and all requests of the events that end after `since`.

        `challengers`: those of availability that a challenger was to answer.
        """
        first = int(np.searchsorted(self._ends, since, side="right"))
        bad, total = self._sums[objective]
        return float(bad[first]), float(total[first])


def _from_the_end(counts: Sequence[float]) -> NDArray[np.float64]:
    """Return (N + 1,): at each place the sum of the counts from there on."""
    sums = np.zeros(len(counts) + 1)
    sums[:-1] = np.cumsum(np.asarray(counts, np.float64)[::-1])[::-1]
    return sums


def assess_slo(
    slo: Slo,
    events: Sequence[SloEvents],
    now: float,
    spent: Mapping[Objective, TimeSpent] | None = None,
) -> SloReport:
    """Return the burn rates of every objective by every rule, and which rules fire.

    `spent` is the time of the objectives that count seconds.
    """
    past, known = _Past(events), spent or {}
    burns = tuple(
        _burn(objective, budget, rule, past, known.get(objective, TimeSpent()), now)
        for objective, budget in budgets_of(slo).items()
        for rule in rules_of(objective)
    )
    firing = tuple(sorted((b for b in burns if b.firing), key=lambda burn: burn.kind))
    return SloReport(at=now, burns=burns, firing=firing, sentence=_sentence(firing))


def _burn(
    objective: Objective,
    budget: float,
    rule: BurnRule,
    past: _Past,
    spent: TimeSpent,
    now: float,
) -> BurnRate:
    def count(length_s: float) -> tuple[float, float]:
        if objective in TIMED:
            return seconds_between(spent.spans, now - length_s, now)
        return past.count(objective, now - length_s)

    bad, total = count(rule.long_s)
    short_bad, short_total = count(rule.short_s)
    fired = fires(
        rule,
        budget,
        objective,
        bad=bad,
        total=total,
        short_bad=short_bad,
        short_total=short_total,
    )
    tried_bad, tried = (0.0, 0.0)
    explained = False
    if objective == "availability":
        tried_bad, tried = past.count("challengers", now - rule.long_s)
        short_tried_bad, short_tried = past.count("challengers", now - rule.short_s)
        explained = bool(fired) and not fires(
            rule,
            budget,
            bad=bad - tried_bad,
            total=total - tried,
            short_bad=short_bad - short_tried_bad,
            short_total=short_total - short_tried,
        )
    return BurnRate(
        objective=objective,
        kind=rule.kind,
        long_s=rule.long_s,
        short_s=rule.short_s,
        limit=rule.limit,
        long_burn=bad / total / budget if total else None,
        short_burn=short_bad / short_total / budget if short_total else None,
        bad=round(bad),
        total=round(total),
        firing=bool(fired),
        challengers=round(tried_bad),
        explained=explained,
    )


def _sentence(firing: tuple[BurnRate, ...]) -> str:
    """Say the gravest firing rule of each objective."""
    if not firing:
        return "all objectives are within their budgets"
    gravest = {burn.objective: burn for burn in reversed(firing)}
    return "; ".join(map(burn_sentence, gravest.values()))


def burn_sentence(burn: BurnRate) -> str:
    """Say what a firing rule found."""
    unit = "seconds" if burn.objective in TIMED else "requests"
    whose = f" ({burn.challengers} of them a challenger's)" if burn.challengers else ""
    return (
        f"{burn.objective}: {burn.bad} of {burn.total} {unit} were bad in {say_span(burn.long_s)}"
        f"{whose}, which burns the error budget {burn.long_burn:.1f} times too fast "
        f"(limit {burn.limit:g})"
    )


def say_span(seconds: float) -> str:
    """Return a length of time in words, as "6 h"."""
    if seconds >= _DAY:
        return f"{seconds / _DAY:g} d"
    return f"{seconds / _HOUR:g} h" if seconds >= _HOUR else f"{seconds / _MINUTE:g} min"
