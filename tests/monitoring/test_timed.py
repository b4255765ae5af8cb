"""Time spent: every second counted once, whoever looks how often."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.monitoring.slo import assess_slo
from steadynet.monitoring.timed import LONGEST_GAP_S, Span, TimeSpent, seconds_between, spend
from steadynet.spec.operating import Slo

HOUR, DAY = 3600.0, 86400.0


def spent(*said: tuple[float, bool | None]) -> TimeSpent:
    known = TimeSpent()
    for now, bad in said:
        known = spend(known, now=now, bad=bad, kept_s=3 * DAY)
    return known


def test_what_is_said_holds_since_the_look_before() -> None:
    known = spent((0.0, False), (30.0, False), (50.0, True), (60.0, True))
    assert known.spans == (Span(0.0, 30.0, False), Span(30.0, 60.0, True))
    assert (known.seconds, known.bad_seconds) == (60.0, 30.0)


def test_a_gap_was_not_measured() -> None:
    known = spent((0.0, True), (10.0, True), (1000.0, True), (1010.0, None), (1020.0, True))
    assert known.seconds == known.bad_seconds == 30.0
    assert seconds_between(known.spans, 0.0, 2000.0) == (30.0, 30.0)
    assert known.last_said(1021.0) is True
    assert known.last_said(1021.0 + LONGEST_GAP_S) is None


def test_the_past_is_forgotten_but_not_its_sum() -> None:
    known = spent((0.0, True), (10.0, False), (4 * DAY, False))
    assert known.spans == (Span(4 * DAY, 4 * DAY, False),)
    assert known.seconds == 10.0


@given(
    st.lists(st.tuples(st.floats(0, 100), st.sampled_from([True, False, None])), max_size=30),
    st.floats(0, 3000),
    st.floats(0, 3000),
)
def test_laws_of_any_history(
    steps: list[tuple[float, bool | None]], start: float, length: float
) -> None:
    now, known = 0.0, TimeSpent()
    for passed, bad in steps:
        now += passed
        after = spend(known, now=now, bad=bad, kept_s=3 * DAY)
        assert after.seconds >= known.seconds
        assert after.bad_seconds >= known.bad_seconds
        known = after
    for one, other in pairwise(known.spans):
        assert one.end <= other.start
        assert one.end < other.start or one.bad != other.bad
    bad_s, total_s = seconds_between(known.spans, start, start + length)
    assert 0 <= bad_s <= total_s <= length + 1e-6
    assert seconds_between(known.spans, 0, now) == pytest.approx(
        (known.bad_seconds, known.seconds), abs=1e-6
    )


def test_lost_quality_burns_its_budget_and_pages() -> None:
    known = TimeSpent(spans=(Span(0.0, 5 * HOUR, False), Span(5 * HOUR, 6 * HOUR, True)))
    report = assess_slo(Slo(quality_share=0.95), (), 6 * HOUR, {"quality": known})
    assert (report.firing[0].objective, report.firing[0].kind) == ("quality", "page")
    assert report.sentence.startswith("quality: 3600 of 3600 seconds were bad in 1 h")


@pytest.mark.parametrize(
    ("lost_s", "kinds"), [(100, set()), (400, {"ticket"}), (700, {"page", "ticket"})]
)
def test_the_first_seconds_of_a_verdict_alarm_nobody_twice(lost_s: float, kinds: set[str]) -> None:
    """Quality that is lost is an alert at once; its budget is one once minutes are lost."""
    known = TimeSpent(spans=(Span(0.0, lost_s, True),))
    report = assess_slo(Slo(), (), lost_s, {"quality": known})
    assert {burn.kind for burn in report.firing} == kinds


def test_a_stale_champion_is_a_ticket_and_wakes_nobody() -> None:
    known = TimeSpent(spans=(Span(0.0, 3 * DAY, True),))
    report = assess_slo(Slo(max_age_s=DAY), (), 3 * DAY, {"freshness": known})
    assert {(burn.objective, burn.kind) for burn in report.firing} == {("freshness", "ticket")}
    unpromised = assess_slo(Slo(), (), 3 * DAY, {"freshness": known})
    assert "freshness" not in {burn.objective for burn in unpromised.burns}
