"""Burn rates: a real outage pages, a blip or a quiet night does not."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.monitoring.reports import SloReport
from steadynet.monitoring.slo import (
    RULES,
    SloEvents,
    assess_slo,
    burn_sentence,
    compact_events,
    extend_events,
    slo_events,
)
from steadynet.monitoring.windows import (
    LATENCY_BUCKETS,
    LATENCY_FLOOR_S,
    LATENCY_GROWTH,
    Window,
)
from steadynet.spec.model import Slo

SLO = Slo(latency_ms=100.0, latency_share=0.99, availability_share=0.999)
NOW = 1_700_000_000.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def minutes(count: int, *, total: int = 600, failed: int = 0, slow: float = 0.0) -> list[SloEvents]:
    """Return the last `count` minutes of even traffic."""
    return [
        SloEvents(
            start=NOW - (i + 1) * MINUTE,
            end=NOW - i * MINUTE,
            total=total,
            failed=failed,
            timed=total,
            slow=slow,
        )
        for i in range(count)
    ]


def older(events: list[SloEvents], seconds: float) -> list[SloEvents]:
    return [
        SloEvents(
            start=e.start - seconds,
            end=e.end - seconds,
            total=e.total,
            failed=e.failed,
            timed=e.timed,
            slow=e.slow,
        )
        for e in events
    ]


def firing(report: SloReport) -> list[tuple[str, str]]:
    return [(burn.objective, burn.kind) for burn in report.firing]


def test_traffic_within_its_budget_fires_nothing() -> None:
    report = assess_slo(SLO, minutes(3 * 1440, failed=0, slow=3.0), NOW)
    assert report.firing == ()
    assert len(report.burns) == 3 * len(RULES)
    burn = next(b for b in report.burns if b.objective == "latency")
    assert burn.long_burn == pytest.approx(0.5)


def test_an_outage_pages_for_availability() -> None:
    events = [*minutes(10, failed=300), *older(minutes(120), 10 * MINUTE)]
    report = assess_slo(SLO, events, NOW)
    assert ("availability", "page") in firing(report)
    assert report.firing[0].kind == "page"
    assert report.sentence == (
        "availability: 3000 of 36000 requests were bad in 1 h, which burns the error budget 83.3 "
        "times too fast (limit 14.4)"
    )


def test_slow_answers_page_for_latency_alone() -> None:
    report = assess_slo(SLO, minutes(60, slow=200.0), NOW)
    assert {objective for objective, _ in firing(report)} == {"latency"}


def test_an_outage_that_is_over_stops_paging() -> None:
    events = [*minutes(31), *older(minutes(10, failed=300), 31 * MINUTE)]
    report = assess_slo(SLO, events, NOW)
    assert ("availability", "page") not in firing(report)


def test_a_slow_burn_is_a_ticket_not_a_page() -> None:
    report = assess_slo(SLO, minutes(3 * 1440, total=1000, failed=4), NOW)
    assert set(firing(report)) == {("availability", "ticket")}


def _with_a_challenger(*, failed: int, its: int) -> SloReport:
    """Assess a day in which a challenger was to answer a tenth of 1000 requests a minute."""
    events = [
        msgspec.structs.replace(event, tried=100, tried_failed=its)
        for event in minutes(1440, total=1000, failed=failed)
    ]
    return assess_slo(SLO, events, NOW)


def test_it_is_told_whether_a_challenger_alone_makes_a_rule_fire() -> None:
    challengers = _with_a_challenger(failed=4, its=4).firing[0]
    assert (challengers.explained, challengers.challengers) == (True, 4 * 1440)
    assert "5760 of 1440000 requests were bad in 1 d (5760 of them a challenger's)" in (
        burn_sentence(challengers)
    )
    both = _with_a_challenger(failed=8, its=4)
    assert {burn.explained for burn in both.firing if burn.kind == "ticket"} == {False}
    champions = assess_slo(SLO, minutes(1440, total=1000, failed=4), NOW).firing[0]
    assert (champions.explained, champions.challengers) == (False, 0)
    assert "challenger" not in burn_sentence(champions)


def test_one_error_in_a_quiet_night_pages_nobody() -> None:
    events = [SloEvents(start=NOW - 60, end=NOW - 30, total=3, failed=1)]
    assert assess_slo(SLO, events, NOW).firing == ()
    nine = [SloEvents(start=NOW - 60, end=NOW - 30, total=9, failed=9)]
    assert ("availability", "page") not in firing(assess_slo(SLO, nine, NOW))


def test_no_traffic_is_neither_good_nor_bad() -> None:
    report = assess_slo(SLO, [], NOW)
    assert report.firing == ()
    assert all(burn.long_burn is None and burn.short_burn is None for burn in report.burns)


def test_a_promise_of_no_failure_at_all_can_be_broken() -> None:
    slo = Slo(availability_share=1.0)
    assert assess_slo(slo, minutes(60), NOW).firing == ()
    assert ("availability", "page") in firing(assess_slo(slo, minutes(60, failed=1), NOW))


def test_a_window_becomes_events() -> None:
    bounds = LATENCY_FLOOR_S * LATENCY_GROWTH ** np.arange(LATENCY_BUCKETS)
    latency = [0] * (LATENCY_BUCKETS + 1)
    for seconds, count in ((0.004, 90), (0.3, 7), (60.0, 3)):
        latency[int(np.searchsorted(bounds, seconds))] = count
    window = Window(
        model="m",
        version="1",
        role="champion",
        start=1.0,
        end=2.0,
        requests=100,
        failed=2,
        latency=tuple(latency),
    )
    expected = SloEvents(start=1.0, end=2.0, total=100, failed=2, timed=100, slow=10.0)
    assert slo_events(SLO, window) == expected
    planned = msgspec.structs.replace(window, role="challenger")
    expected = SloEvents(start=1.0, end=2.0, total=100, failed=2, tried=100, tried_failed=2)
    assert slo_events(SLO, planned) == expected


def test_shadow_answers_are_no_users_experience() -> None:
    with pytest.raises(ValueError, match="shadow"):
        slo_events(SLO, Window(model="m", version="1", role="shadow", start=0, end=1))


seconds_ago = st.floats(0, 4 * DAY)
events = st.lists(
    st.builds(
        lambda ago, total, failed, slow: SloEvents(
            start=NOW - ago - 1,
            end=NOW - ago,
            total=total + failed + slow,
            failed=failed,
            slow=float(slow),
        ),
        seconds_ago,
        st.integers(0, 100),
        st.integers(0, 5),
        st.integers(0, 5),
    ),
    max_size=60,
)


@given(events)
def test_compacting_keeps_recent_counts_and_settles_at_once(raw: list[SloEvents]) -> None:
    compact = compact_events(raw, now=NOW)
    kept = [event for event in raw if event.end > NOW - 3 * DAY]
    assert sum(e.total for e in compact) == sum(e.total for e in kept)
    assert sum(e.failed for e in compact) == sum(e.failed for e in kept)
    assert compact_events(compact, now=NOW) == compact
    assert len({int(e.end // MINUTE) for e in compact}) == len(compact)


@given(events, events, st.floats(0, DAY))
def test_extending_is_compacting_all(
    raw: list[SloEvents], more: list[SloEvents], passed: float
) -> None:
    known = compact_events(raw, now=NOW - passed)
    assert extend_events(known, more, now=NOW) == (
        compact_events([*known, *more], now=NOW) if more else known
    )
