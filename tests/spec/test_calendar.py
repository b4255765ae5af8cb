"""Times of the week: read, found again, and across the changes of clocks."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.errors import SpecError
from steadynet.spec.calendar import (
    last_moment,
    read_moment,
    read_span,
    span_end,
    time_zone,
)
from steadynet.spec.check import check
from steadynet.spec.model import HealSpec, Spec

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("moment", "now", "expected"),
    [
        ("daily 03:00", "2024-05-15T03:00", "2024-05-15T03:00"),
        ("daily 03:00", "2024-05-15T02:59", "2024-05-14T03:00"),
        ("Sun 03:00", "2024-05-15T12:00", "2024-05-12T03:00"),
        ("wed 23:30", "2024-05-15T12:00", "2024-05-08T23:30"),
        # Clocks go back at 03:00 on the 27th of October 2024, so that 02:30 comes twice.
        ("daily 02:30", "2024-10-27T12:00", "2024-10-27T02:30"),
    ],
)
def test_a_moment_is_found_by_the_zones_own_clock(moment: str, now: str, expected: str) -> None:
    assert last_moment(moment, BERLIN, at(now)) == at(expected)


@pytest.mark.parametrize(
    ("span", "now", "ends"),
    [
        ("Fri 16:00 - Mon 08:00", "2024-05-17T15:59", None),
        ("Fri 16:00 - Mon 08:00", "2024-05-17T16:00", "2024-05-20T08:00"),
        ("Fri 16:00 - Mon 08:00", "2024-05-20T07:59", "2024-05-20T08:00"),
        ("Fri 16:00 - Mon 08:00", "2024-05-20T08:00", None),
        ("daily 22:00 - 06:00", "2024-05-15T23:00", "2024-05-16T06:00"),
        ("daily 22:00 - 06:00", "2024-05-16T05:00", "2024-05-16T06:00"),
        ("daily 22:00 - 06:00", "2024-05-16T07:00", None),
        ("daily 08:00 - 18:00", "2024-05-16T12:00", "2024-05-16T18:00"),
        ("Mon 08:00 - 18:00", "2024-05-13T12:00", "2024-05-13T18:00"),
        ("Mon 08:00 - 18:00", "2024-05-14T12:00", None),
        # A weekend with the change of clocks lasts an hour longer.
        ("Fri 16:00 - Mon 08:00", "2024-10-26T12:00", "2024-10-28T08:00"),
    ],
)
def test_a_span_says_when_it_ends(span: str, now: str, ends: str | None) -> None:
    assert span_end(span, BERLIN, at(now)) == (None if ends is None else at(ends))


@given(st.floats(1.6e9, 1.9e9), st.sampled_from(["daily", "Mon", "Sat"]), st.integers(0, 1439))
def test_the_last_moment_is_never_ahead_and_never_more_than_a_week_ago(
    now: float, day: str, minutes: int
) -> None:
    found = last_moment(f"{day} {minutes // 60:02d}:{minutes % 60:02d}", BERLIN, now)
    reach = 86_400.0 if day == "daily" else 7 * 86_400.0
    # An hour more, for the changes of clocks.
    assert now - reach - 3600 <= found <= now


@pytest.mark.parametrize("text", ["03:00", "Sunday 03:00", "Sun 24:00", "Sun 03:60", "", "daily"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="no time of the week"):
        read_moment(text)


@pytest.mark.parametrize("text", ["Fri 16:00", "Fri 16:00-Mon 08:00", "daily 10:00 - Mon 08:00"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        read_span(text)


def test_what_is_no_time_zone_is_refused() -> None:
    with pytest.raises(SpecError, match="no time zone"):
        time_zone("Mars/Olympus")


@pytest.mark.parametrize(
    ("heal", "path"),
    [
        (HealSpec(freeze=("weekend",)), "heal.freeze"),
        (HealSpec(on=("schedule",), schedule=("soon",)), "heal.schedule"),
        (HealSpec(on=("schedule",)), "heal.schedule"),
        (HealSpec(schedule=("Sun 03:00",)), "heal.schedule"),
        (HealSpec(time_zone="Mars/Olympus"), "heal.time_zone"),
        (HealSpec(runs_per_day=0), "heal.runs_per_day"),
        (HealSpec(influenced_weight=1.0), "heal.influenced_weight"),
    ],
)
def test_the_spec_names_the_key_that_does_not_fit(heal: HealSpec, path: str) -> None:
    with pytest.raises(SpecError, match=path):
        check(Spec(heal=heal))


def test_a_week_of_healing_that_fits_is_taken() -> None:
    heal = HealSpec(
        on=("drift", "age", "schedule"),
        schedule=("Sun 03:00", "daily 04:30"),
        freeze=("Fri 16:00 - Mon 08:00", "daily 22:00 - 06:00"),
        time_zone=BERLIN,
    )
    assert check(Spec(heal=heal)).heal == heal
