"""How one value becomes a graph input: the definition that tables and requests share.

Pure Python and light to import. `table.convert` does the same for whole columns and a property
test holds the two equal. A missing value is NaN, `""` or `MISSING_DATETIME`. Every function raises
`ValueError` for a value that does not fit; its text names the kind of the value, never the value.
"""

from __future__ import annotations

import datetime
import functools
import math
import numbers
import re
from collections.abc import Collection
from typing import TypeGuard

from steadynet.spec.kinds import MISSING_SPELLINGS, Kind
from steadynet.table.schema import MISSING_DATETIME, PLAIN, Column, DateOrder, NumberFormat

BLANKS = (
    " \t\n\r\x0b\x0c\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
    "\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""Characters that do not count at the ends of a text: Unicode's blanks and the byte order mark."""

MISSING = frozenset(MISSING_SPELLINGS)
NO_LABEL = "none"
"""After lower-casing: alone in a cell of labels it says that there are none."""

NUMBER_PATTERN = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
GROUPED_PATTERN = r"^[+-]?[1-9][0-9]{0,2}(?:[,'\u2019 \xa0\u202f][0-9]{3})+(?:\.[0-9]*)?$"
GROUPING = r"[,'\u2019 \xa0\u202f]"
DECIMAL_COMMA_PATTERN = (
    r"^[+-]?(?:[1-9][0-9]{0,2}(?:[.'\u2019 \xa0\u202f][0-9]{3})+|[0-9]+)"
    r"(?:,[0-9]*)?(?:[eE][+-]?[0-9]+)?$"
)
COMMA_GROUPING = r"[.'\u2019 \xa0\u202f]"
"""What groups digits where a comma stands before the decimals."""
INFINITE_PATTERN = r"^[+-]?(?:inf|infinity)$"
"""After lower-casing."""

WHOLE_PATTERN = r"^([+-]?[0-9]{1,15})\.0$"
"""A whole number written with a decimal point."""

TRUE_WORDS = ("true", "t", "yes", "y", "1", "1.0")
FALSE_WORDS = ("false", "f", "no", "n", "0", "0.0")
"""After lower-casing."""

TIME_PATTERN = (
    r"(?:(?:[Tt]| +)([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,][0-9]+)?)?"
    r"(?: ?([AaPp][Mm]))?(?: ?([Zz]|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}))?)?$"
)
YEAR_FIRST_PATTERN = r"^([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})" + TIME_PATTERN
YEAR_LAST_PATTERN = r"^([0-9]{1,2})[-/.]([0-9]{1,2})[-/.]([0-9]{4})" + TIME_PATTERN
"""Groups of both: three parts of the date; hour, minute, second, AM or PM, zone."""
MONTH_WORD_PATTERN = (
    r"^([0-9]{1,2})[- ](Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[- ]([0-9]{4})"
    + TIME_PATTERN
)
MONTH_WORDS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

FIRST_SECOND = -62_135_596_800
LAST_SECOND = 253_402_300_799
"""The years 1 to 9999, in seconds since 1970 UTC."""

FLOAT32_LIMIT = 3.4028235677973366e38
"""From here on a number rounds to an infinite float32."""

EXPECTED: dict[Kind, str] = {
    "number": "a number",
    "boolean": "true or false",
    "category": "a text",
    "datetime": "a date and time (ISO 8601 text, or seconds since 1970 UTC)",
}
"""What each kind of feature takes, for messages."""

_NUMBER = re.compile(NUMBER_PATTERN)
_GROUPED = re.compile(GROUPED_PATTERN)
_DECIMAL_COMMA = re.compile(DECIMAL_COMMA_PATTERN)
_INFINITE = re.compile(INFINITE_PATTERN)
_WHOLE = re.compile(WHOLE_PATTERN)
_YEAR_FIRST = re.compile(YEAR_FIRST_PATTERN)
_YEAR_LAST = re.compile(YEAR_LAST_PATTERN)
_MONTH_WORD = re.compile(MONTH_WORD_PATTERN)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_SECOND = datetime.timedelta(seconds=1)


def kind_of(value: object) -> str:
    """Return what a value is, for people: "text", "a number", "true or false", "a list" …"""
    if value is None:
        return "no value"
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, numbers.Real):
        return "a number"
    if isinstance(value, datetime.date):
        return "a date"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    return f"a value of type {type(value).__name__}"


def is_missing(value: object, missing: Collection[str] = MISSING) -> bool:
    """Return whether a value is None, NaN, NaT or, blanks at its ends apart, spelled as missing."""
    if isinstance(value, str):
        return value.strip(BLANKS) in missing
    return value is None or bool(value != value)


def scalar(column: Column, value: object, missing: Collection[str] = MISSING) -> float | int | str:
    """Return a value of a feature column as its graph input takes it.

    float for number and boolean, str for category, int seconds UTC for datetime. Raises
    `ValueError` where the value does not fit or the column is no feature.
    """
    if column.kind == "number":
        return number(value, missing, written=column.number_format)
    if column.kind == "category":
        return category(value, missing)
    if column.kind == "boolean":
        return boolean(value, missing)
    if column.kind == "datetime":
        return datetime_seconds(value, missing, order=column.date_order)
    raise ValueError(f"a column of kind {column.kind}")


def number(
    value: object, missing: Collection[str] = MISSING, *, written: NumberFormat = PLAIN
) -> float:
    """Return a number, NaN where it is missing; what float32 cannot hold is infinite.

    Takes numbers, true and false (1 and 0), decimal texts and texts `written` so. Raises
    `ValueError` for everything else.
    """
    if isinstance(value, str):
        text = value.strip(BLANKS)
        if text in missing or text in written.missing:
            return math.nan
        result = _number_of_text(text, written)
    elif value is None:
        return math.nan
    elif isinstance(value, numbers.Real):
        try:
            result = float(value)
        except OverflowError:
            # Only whole numbers are too large for a float, and they have a sign.
            result = math.inf if bool(value > 0) else -math.inf  # type: ignore[operator]
    elif value != value:
        return math.nan
    else:
        raise ValueError(kind_of(value))
    return math.copysign(math.inf, result) if abs(result) >= FLOAT32_LIMIT else result


@functools.lru_cache(maxsize=1024)
def unit_pattern(prefix: str, suffix: str) -> str:
    """Return a pattern of a number with its unit; its two groups, one after the other, are the
    number."""
    blanks = f"[{BLANKS}]*"
    before = f"(?:{re.escape(prefix)}{blanks})?" if prefix else ""
    after = f"(?:{blanks}{re.escape(suffix)})?" if suffix else ""
    return rf"^([+-]?){before}([+-]?[0-9.].*?){after}$"


def number_text(value: float, written: NumberFormat) -> str:
    """Return a number as a text that `number` reads back, `""` where it is missing."""
    if math.isnan(value):
        return ""
    return repr(value).replace(".", ",") if written.decimal_comma else repr(value)


def category(value: object, missing: Collection[str] = MISSING) -> str:
    """Return a category's name, `""` where it is missing.

    Blanks at the ends of a text do not count. Whole numbers are written without a decimal point
    ("5" for 5, 5.0 and "5.0": programs disagree on how they write codes once a cell is missing),
    true and false as "true" and "false". Raises `ValueError` for dates, lists and objects.
    """
    if isinstance(value, str):
        text = value.strip(BLANKS)
        if text in missing:
            return ""
        whole = _WHOLE.match(text)
        return whole.group(1) if whole else text
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        return _category_of_float(float(value))
    if value != value:
        return ""
    raise ValueError(kind_of(value))


def boolean(value: object, missing: Collection[str] = MISSING) -> float:
    """Return 1.0 or 0.0, NaN where it is missing.

    Takes true and false, 1 and 0, and the texts in `TRUE_WORDS` and `FALSE_WORDS` in any case.
    Raises `ValueError` for everything else.
    """
    if isinstance(value, str):
        text = value.strip(BLANKS)
        if text in missing:
            return math.nan
        word = text.lower()
        if word in TRUE_WORDS:
            return 1.0
        if word in FALSE_WORDS:
            return 0.0
        raise ValueError("text")
    if value is None or value != value:
        return math.nan
    if isinstance(value, numbers.Real) and value in (0, 1):
        return float(value)
    raise ValueError(kind_of(value))


def datetime_seconds(
    value: object,
    missing: Collection[str] = MISSING,
    *,
    order: DateOrder = "year_first",
) -> int:
    """Return whole seconds since 1970 UTC (rounded down), `MISSING_DATETIME` where it is missing.

    Takes dates, dates with times (without a zone they are UTC), numbers (seconds since 1970) and
    texts: ISO 8601, "31 Jan 2024", and with `order` also "31/01/2024" or "01/31/2024"; each with
    or without a time, AM or PM, and a zone. Raises `ValueError` for everything else and for
    what lies outside the years 1 to 9999.
    """
    if isinstance(value, str):
        text = value.strip(BLANKS)
        if text in missing:
            return MISSING_DATETIME
        seconds = _seconds_of_text(text, order)
    elif value is None or value != value:
        return MISSING_DATETIME
    elif isinstance(value, datetime.datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
        seconds = (aware - _EPOCH) // _SECOND
    elif isinstance(value, datetime.date):
        seconds = (value.toordinal() - _EPOCH.toordinal()) * 86_400
    elif _is_finite_number(value):
        seconds = math.floor(value)
    else:
        raise ValueError(kind_of(value))
    if not FIRST_SECOND <= seconds <= LAST_SECOND:
        raise ValueError("a time outside the years 1 to 9999")
    return seconds


def _number_of_text(text: str, written: NumberFormat) -> float:
    if written.has_unit:
        text = re.sub(unit_pattern(written.prefix, written.suffix), r"\1\2", text)
    if _INFINITE.match(text.lower()):
        return float(text)
    if written.decimal_comma:
        if _DECIMAL_COMMA.match(text):
            return float(re.sub(COMMA_GROUPING, "", text).replace(",", "."))
    elif _NUMBER.match(text):
        return float(text)
    elif written.grouped and _GROUPED.match(text):
        return float(re.sub(GROUPING, "", text))
    raise ValueError("text")


def _is_finite_number(value: object) -> TypeGuard[float]:
    if isinstance(value, bool):
        return False
    if not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        # A whole number beyond any float.
        return True


def _category_of_float(value: float) -> str:
    if math.isnan(value):
        return ""
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def _seconds_of_text(text: str, order: DateOrder) -> int:
    """Return seconds since 1970 UTC of a date that matches one of the patterns."""
    if match := _YEAR_FIRST.match(text):
        year, month, day = (int(part) for part in match.group(1, 2, 3))
    elif match := _MONTH_WORD.match(text):
        day, year = int(match.group(1)), int(match.group(3))
        month = MONTH_WORDS.index(match.group(2)) + 1
    elif order != "year_first" and (match := _YEAR_LAST.match(text)):
        first, second, year = (int(part) for part in match.group(1, 2, 3))
        day, month = (first, second) if order == "day_first" else (second, first)
    else:
        raise ValueError("text")
    try:
        days = datetime.date(year, month, day).toordinal() - _EPOCH.toordinal()
    except ValueError:
        raise ValueError("text that is no date of the calendar") from None
    hour, minute, second_, half, zone = match.group(4, 5, 6, 7, 8)
    return days * 86_400 + _seconds_of_day(hour, minute, second_, half) - _zone_seconds(zone)


def _seconds_of_day(hour: str | None, minute: str, second: str | None, half: str | None) -> int:
    if hour is None:
        return 0
    hours, minutes, seconds = int(hour), int(minute), int(second or 0)
    if half is not None:
        if not 1 <= hours <= 12:
            raise ValueError("text that is no time of day")
        hours = hours % 12 + (12 if half.lower() == "pm" else 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError("text that is no time of day")
    return hours * 3600 + minutes * 60 + seconds


def _zone_seconds(zone: str | None) -> int:
    """Return how far a zone's clock is ahead of UTC, in seconds."""
    if zone is None or zone in ("Z", "z", "UTC", "GMT"):
        return 0
    digits = zone[1:].replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        raise ValueError("text with no valid time zone")
    return (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)


def labels_in(text: str, separator: str) -> tuple[str, ...]:
    """Return the labels of a cell such as "red|blue", each once, in their order."""
    parts = dict.fromkeys(part.strip(BLANKS) for part in text.split(separator))
    found = tuple(part for part in parts if part)
    return () if len(found) == 1 and found[0].lower() == NO_LABEL else found
