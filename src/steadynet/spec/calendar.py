"""Times of the week as people write them: "daily 03:00", "Fri 16:00 - Mon 08:00". Pure.

A moment is a day (`Mon` to `Sun`, or `daily`) and a time of day; a span is two moments with " - "
between them, of which the second may leave the day out. Times are a time zone's wall clock: on the
day that clocks change, a time that occurs twice is the first of the two, and one that is left out
is as long after midnight as it would be.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from steadynet.errors import SpecError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAILY = "daily"
_MOMENT = re.compile(r"(?:(?P<day>[a-z]{3,5})\s+)?(?P<hour>\d{1,2}):(?P<minute>\d\d)")

Moment = tuple[int | None, int]
"""Weekday from 0, Monday (None: every day), and minutes after midnight."""


def time_zone(name: str) -> ZoneInfo:
    """Return a time zone of the IANA database. Raises `SpecError`."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise SpecError(
            "that is no time zone", expected="a name as Europe/Berlin or UTC", got=repr(name[:40])
        ) from error


def read_moment(text: str) -> Moment:
    """Read "Sun 03:00" or "daily 03:00". Raises `SpecError`."""
    found = _MOMENT.fullmatch(text.strip().lower())
    day = "" if found is None else found["day"] or ""
    if found is None or day not in (*DAYS, DAILY) or not _is_time(found):
        raise SpecError(
            "that is no time of the week",
            expected='a day and a time, as "Sun 03:00" or "daily 03:00"',
            got=repr(text[:40]),
        )
    return (None if day == DAILY else DAYS.index(day)), _minutes(found)


def read_span(text: str) -> tuple[Moment, Moment]:
    """Read "Fri 16:00 - Mon 08:00" or "daily 22:00 - 06:00". Raises `SpecError`."""
    first, dash, last = text.partition(" - ")
    if not dash:
        raise SpecError(
            "that is no span of the week",
            expected='two times, as "Fri 16:00 - Mon 08:00" or "daily 22:00 - 06:00"',
            got=repr(text[:40]),
        )
    start = read_moment(first)
    words = last.strip()
    if words[:1].isdigit():
        words = f"{DAILY if start[0] is None else DAYS[start[0]]} {words}"
    end = read_moment(words)
    if (start[0] is None) != (end[0] is None):
        raise SpecError(
            "a span cannot begin daily and end on a day, or the other way round",
            expected='as "Fri 16:00 - Mon 08:00" or "daily 22:00 - 06:00"',
            got=repr(text[:40]),
        )
    return start, end


def last_moment(text: str, zone: str, now: float) -> float:
    """Return when the moment was last, at `now` (seconds UTC) or before it."""
    day, minutes = read_moment(text)
    local = datetime.fromtimestamp(now, time_zone(zone))
    for back in range(9):
        date = local.date() - timedelta(days=back)
        if day is not None and date.weekday() != day:
            continue
        at = _at(date.year, date.month, date.day, minutes, time_zone(zone))
        if at <= now:
            return at
    raise AssertionError("every week has every moment")


def span_end(text: str, zone: str, now: float) -> float | None:
    """Return when the span that `now` lies in ends, seconds UTC; None where it lies in none."""
    (start_day, start), (end_day, end) = read_span(text)
    words = f"{DAILY if start_day is None else DAYS[start_day]} {start // 60:02d}:{start % 60:02d}"
    began = last_moment(words, zone, now)
    local = datetime.fromtimestamp(began, time_zone(zone))
    days = 0 if end_day is None else (end_day - local.weekday()) % 7
    if days == 0 and end <= start:
        days = 1 if end_day is None else 7
    date = local.date() + timedelta(days=days)
    ends = _at(date.year, date.month, date.day, end, time_zone(zone))
    return ends if now < ends else None


def _at(year: int, month: int, day: int, minutes: int, zone: ZoneInfo) -> float:
    return datetime(year, month, day, minutes // 60, minutes % 60, tzinfo=zone).timestamp()


def _minutes(found: re.Match[str]) -> int:
    return 60 * int(found["hour"]) + int(found["minute"])


def _is_time(found: re.Match[str]) -> bool:
    return int(found["hour"]) < 24 and int(found["minute"]) < 60
