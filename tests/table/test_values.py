"""The scalar rules by example."""

from __future__ import annotations

import datetime
import fractions
import math

import numpy as np
import pytest

from steadynet.spec.kinds import Kind
from steadynet.table import values
from steadynet.table.schema import GROUPED, MISSING_DATETIME, Column


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3.0),
        (2.5, 2.5),
        (True, 1.0),
        (" 4.50\t", 4.5),
        ("-1e3", -1000.0),
        ("+.5", 0.5),
        ("7.", 7.0),
        ("Infinity", math.inf),
        ("-inf", -math.inf),
        (1e39, math.inf),
        (-(10**400), -math.inf),
        (np.float32(0.5), 0.5),
        (np.int64(9), 9.0),
        (fractions.Fraction(1, 4), 0.25),
    ],
)
def test_numbers(value: object, expected: float) -> None:
    assert values.number(value) == expected


@pytest.mark.parametrize("value", ["1,5", "1 000", "12%", "$3", "0x1", "1_0", "five", "١", "--1"])
def test_texts_that_are_no_numbers(value: str) -> None:
    with pytest.raises(ValueError, match=r"^text$"):
        values.number(value)


@pytest.mark.parametrize("value", [[1], {"a": 1}, datetime.date(2024, 1, 1), object()])
def test_objects_are_no_numbers_categories_or_booleans(value: object) -> None:
    for parse in (values.number, values.category, values.boolean):
        with pytest.raises(ValueError, match=r"list|object|date"):
            parse(value)


def test_thousands_are_read_only_where_they_are_expected() -> None:
    assert values.number("-1,234,567.5", written=GROUPED) == -1234567.5
    with pytest.raises(ValueError):
        values.number("1,234")
    for odd in ("1,23", "12,3456", ",123", "1,234,", "0,123"):
        with pytest.raises(ValueError):
            values.number(odd, written=GROUPED)


@pytest.mark.parametrize("value", [None, math.nan, "", "  ", " ? ", "NA", "null", np.nan])
def test_missing_values_of_each_kind(value: object) -> None:
    assert values.is_missing(value)
    assert math.isnan(values.number(value))
    assert math.isnan(values.boolean(value))
    assert values.category(value) == ""
    assert values.datetime_seconds(value) == MISSING_DATETIME


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" Berlin ", "Berlin"),
        (5, "5"),
        (5.0, "5"),
        ("5.0", "5"),
        ("05.0", "05"),
        ("5.5", "5.5"),
        (5.5, "5.5"),
        (True, "true"),
        (False, "false"),
        (np.int32(7), "7"),
        (-0.0, "0"),
        (1e20, "1e+20"),
        ("a\u00a0b", "a\u00a0b"),
    ],
)
def test_categories(value: object, expected: str) -> None:
    assert values.category(value) == expected


@pytest.mark.parametrize("value", [True, 1, 1.0, "TRUE", "t", "Yes", " y ", "1", "1.0"])
def test_true(value: object) -> None:
    assert values.boolean(value) == 1.0


@pytest.mark.parametrize("value", [False, 0, 0.0, "False", "F", "no", "N", "0", "0.0"])
def test_false(value: object) -> None:
    assert values.boolean(value) == 0.0


@pytest.mark.parametrize("value", [2, -1, 0.5, "ja", "on", "10"])
def test_no_booleans(value: object) -> None:
    with pytest.raises(ValueError):
        values.boolean(value)


MORNING = 1_704_099_600
"""2024-01-01 09:00:00 UTC."""


@pytest.mark.parametrize(
    "value",
    [
        "2024-01-01T09:00:00Z",
        "2024-01-01 09:00",
        "2024/01/01 9:00:00",
        "2024.1.1 09:00:00.999",
        "2024-01-01T10:00:00+01:00",
        "2024-01-01T04:00:00-0500",
        "2024-01-01 09:00:00 UTC",
        "1 Jan 2024 9:00 AM",
        "01-Jan-2024 09:00",
        MORNING,
        MORNING + 0.7,
        datetime.datetime(2024, 1, 1, 9),
        datetime.datetime(2024, 1, 1, 11, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    ],
)
def test_moments(value: object) -> None:
    assert values.datetime_seconds(value) == MORNING


def test_the_order_of_day_and_month() -> None:
    day = values.datetime_seconds("2024-03-04")
    assert values.datetime_seconds("04/03/2024", order="day_first") == day
    assert values.datetime_seconds("03/04/2024", order="month_first") == day
    assert values.datetime_seconds("2024-03-04", order="month_first") == day
    with pytest.raises(ValueError):
        values.datetime_seconds("04/03/2024")


def test_midnight_and_noon_with_am_and_pm() -> None:
    day = values.datetime_seconds("2024-01-01")
    assert values.datetime_seconds("2024-01-01 12:00 AM") == day
    assert values.datetime_seconds("2024-01-01 12:30 pm") == day + 12 * 3600 + 1800
    with pytest.raises(ValueError):
        values.datetime_seconds("2024-01-01 13:00 PM")


@pytest.mark.parametrize(
    "value",
    [
        "2023-02-29",
        "2024-13-01",
        "2024-01-01 25:00",
        "2024-01-01 10:60",
        "2024-01-01T00:00:00+30:00",
        "20240101",
        "yesterday",
        "0000-01-01",
        True,
        math.inf,
        1_704_099_600_000,
        10**30,
        10**400,
        -(10**400),
    ],
)
def test_no_moments(value: object) -> None:
    with pytest.raises(ValueError):
        values.datetime_seconds(value)


def test_before_1970_seconds_are_rounded_down() -> None:
    moment = datetime.datetime(1969, 12, 31, 23, 59, 59, 500_000)
    assert values.datetime_seconds(moment) == -1
    assert values.datetime_seconds(-0.5) == -1


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("number", "1,234.5", 1234.5),
        ("category", 3, "3"),
        ("boolean", "no", 0.0),
        ("datetime", "31/12/1970", 364 * 86_400),
    ],
)
def test_a_value_is_read_as_its_column_says(kind: Kind, value: object, expected: object) -> None:
    column = Column(name="x", kind=kind, reason="", number_format=GROUPED, date_order="day_first")
    assert values.scalar(column, value) == expected


def test_a_column_that_is_no_feature_has_no_values() -> None:
    with pytest.raises(ValueError, match="identifier"):
        values.scalar(Column(name="x", kind="identifier", reason=""), 1)


@pytest.mark.parametrize("secret", ["s3cret", "4111 1111 1111 1111"])
def test_no_message_shows_the_value(secret: str) -> None:
    for parse in (values.number, values.boolean, values.datetime_seconds):
        with pytest.raises(ValueError) as caught:
            parse(secret)
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "no value"),
        ("x", "text"),
        (True, "true or false"),
        (1, "a number"),
        (np.float32(1), "a number"),
        (datetime.date(2024, 1, 1), "a date"),
        ([1], "a list"),
        ({}, "an object"),
        (b"x", "a value of type bytes"),
    ],
)
def test_kinds_of_values_in_words(value: object, kind: str) -> None:
    assert values.kind_of(value) == kind
