"""The scalar rules of `table.values` and the vectorised ones of `table.parse` are equal."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import TypeVar

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.spec.kinds import MISSING_SPELLINGS
from steadynet.table import parse, values
from steadynet.table.schema import MISSING_DATETIME, DateOrder, NumberFormat

T = TypeVar("T")

BLANK = st.sampled_from(["", " ", "\t", "\u00a0", " \u3000", "\ufeff", "\x1c", "\n"])
DIGITS = st.text("0123456789", min_size=1, max_size=20)

NUMBER_TEXTS = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    DIGITS,
    st.text("0123456789+-.eE,_ xinfatyINFATY", max_size=9),
    st.sampled_from(["inf", "-Infinity", "+INF", "1e400", "3.4028236e38", "-3.5e38", "1_0", "١"]),
    st.sampled_from(["1,234", "12,345.6", "1,2345", "0,000,001", ",123", "1,234,", "-9,999."]),
    st.sampled_from(MISSING_SPELLINGS),
)
DATE_TEXTS = st.one_of(
    st.datetimes().map(str),
    st.datetimes(timezones=st.sampled_from([datetime.UTC])).map(lambda d: d.isoformat()),
    st.dates().map(lambda d: d.strftime("%d/%m/%Y")),
    st.dates().map(lambda d: d.strftime("%m-%d-%Y 1:30 PM")),
    st.dates().map(lambda d: d.strftime("%d.%m.%Y 23:59")),
    st.dates().map(lambda d: f"{d.day} {values.MONTH_WORDS[d.month - 1]} {d.year:04d}"),
    st.from_regex(values.YEAR_FIRST_PATTERN, alphabet=st.characters(codec="ascii")),
    st.from_regex(values.YEAR_LAST_PATTERN, alphabet=st.characters(codec="ascii")),
    st.text("0123456789-/:TZ .+apm", max_size=20),
    st.sampled_from(["2024-02-29", "2023-02-29", "0000-01-01", "9999-12-31 23:59:59.9"]),
    st.sampled_from(["0001-01-01T00:00:00+14:00", "2024-01-01T00:00:00+24:00", "2024-1-1 24:00"]),
)
ANY_TEXTS = st.one_of(NUMBER_TEXTS, DATE_TEXTS, st.text(st.characters(codec="utf-8"), max_size=8))
ORDERS = st.sampled_from(["year_first", "day_first", "month_first"])


def padded(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str | None]:
    """Put blanks around texts, and None among them."""
    return st.one_of(st.none(), st.tuples(BLANK, texts, BLANK).map("".join))


def by_scalars(
    cells: list[T], parse_one: Callable[[T], float | int | str]
) -> tuple[list[float | int | str | None], int]:
    """Apply a scalar rule to each cell: results with None for missing or wrong, wrong cells."""
    results: list[float | int | str | None] = []
    wrong = 0
    for cell in cells:
        try:
            result = parse_one(cell)
        except ValueError:
            wrong += 1
            results.append(None)
            continue
        absent_time = isinstance(result, int) and result == MISSING_DATETIME
        missing = result == "" or absent_time or result != result
        results.append(None if missing else result)
    return results, wrong


@st.composite
def written_numbers(draw: st.DrawFn) -> tuple[NumberFormat, list[str | None]]:
    """Draw a way of writing numbers, and texts that are nearly so."""
    written = draw(
        st.builds(
            NumberFormat,
            grouped=st.booleans(),
            decimal_comma=st.booleans(),
            prefix=st.sampled_from(["", "$", "EUR", "R$", "Rs."]),
            suffix=st.sampled_from(["", "%", "kg", "m²", "km/h", "(est.)"]),
            missing=st.sampled_from([(), ("unknown", "n.k.")]),
        )
    )
    plain = st.one_of(
        NUMBER_TEXTS,
        st.from_regex(values.GROUPED_PATTERN, fullmatch=True),
        st.from_regex(values.DECIMAL_COMMA_PATTERN, fullmatch=True),
        st.sampled_from(["unknown", "1.234,5", "1.234", "12'000", "1\xa0234,5", "+-5", "-", ""]),
    )
    sign = st.sampled_from(["", "-", "+"])
    unit = (
        st.sampled_from(["", written.prefix, "$"]),
        st.sampled_from(["", written.suffix, "%", "kg"]),
    )
    texts = st.tuples(sign, unit[0], BLANK, plain, BLANK, unit[1]).map("".join)
    return written, draw(st.lists(padded(texts)))


@given(written_numbers())
def test_number_texts(drawn: tuple[NumberFormat, list[str | None]]) -> None:
    written, cells = drawn
    expected = by_scalars(cells, lambda cell: values.number(cell, written=written))
    series = pl.Series("x", cells, dtype=pl.String)
    parsed, wrong = parse.parse_numbers(series, MISSING_SPELLINGS, written=written)
    assert (parsed.to_list(), wrong) == expected


@given(st.lists(st.one_of(st.none(), st.floats())))
def test_floats(cells: list[float | None]) -> None:
    series = pl.Series("x", cells, dtype=pl.Float64)
    for scalar, column in (
        (values.number, parse.parse_numbers),
        (values.category, parse.parse_categories),
        (values.boolean, parse.parse_booleans),
        (values.datetime_seconds, parse.parse_datetimes),
    ):
        parsed, wrong = column(series, MISSING_SPELLINGS)
        assert (parsed.to_list(), wrong) == by_scalars(cells, scalar)


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-2, 2))))
def test_integers(cells: list[int | None]) -> None:
    series = pl.Series("x", cells, dtype=pl.Int64)
    for scalar, column in (
        (values.number, parse.parse_numbers),
        (values.category, parse.parse_categories),
        (values.boolean, parse.parse_booleans),
        (values.datetime_seconds, parse.parse_datetimes),
    ):
        parsed, wrong = column(series, MISSING_SPELLINGS)
        assert (parsed.to_list(), wrong) == by_scalars(cells, scalar)


@given(st.lists(st.one_of(st.none(), st.booleans())))
def test_true_and_false(cells: list[bool | None]) -> None:
    series = pl.Series("x", cells, dtype=pl.Boolean)
    for scalar, column in (
        (values.number, parse.parse_numbers),
        (values.category, parse.parse_categories),
        (values.boolean, parse.parse_booleans),
        (values.datetime_seconds, parse.parse_datetimes),
    ):
        parsed, wrong = column(series, MISSING_SPELLINGS)
        assert (parsed.to_list(), wrong) == by_scalars(cells, scalar)


@given(st.lists(padded(ANY_TEXTS)))
def test_category_texts(cells: list[str | None]) -> None:
    series = pl.Series("x", cells, dtype=pl.String)
    parsed, wrong = parse.parse_categories(series, MISSING_SPELLINGS)
    assert (parsed.to_list(), wrong) == by_scalars(cells, values.category)


@given(
    st.lists(
        padded(st.one_of(st.sampled_from([*values.TRUE_WORDS, "No", "F", "TRUE", "ja"]), ANY_TEXTS))
    )
)
def test_boolean_texts(cells: list[str | None]) -> None:
    series = pl.Series("x", cells, dtype=pl.String)
    parsed, wrong = parse.parse_booleans(series, MISSING_SPELLINGS)
    assert (parsed.to_list(), wrong) == by_scalars(cells, values.boolean)


@settings(max_examples=300)
@given(st.lists(padded(DATE_TEXTS)), ORDERS)
def test_date_texts(cells: list[str | None], order: DateOrder) -> None:
    expected = by_scalars(cells, lambda cell: values.datetime_seconds(cell, order=order))
    series = pl.Series("x", cells, dtype=pl.String)
    parsed, wrong = parse.parse_datetimes(series, MISSING_SPELLINGS, order=order)
    assert (parsed.to_list(), wrong) == expected


@given(st.lists(st.one_of(st.none(), st.datetimes())), st.sampled_from(["ms", "us"]))
def test_datetimes(cells: list[datetime.datetime | None], unit: str) -> None:
    series = pl.Series("x", cells, dtype=pl.Datetime("us"))
    if unit == "ms":
        series = series.cast(pl.Datetime("ms"))
    parsed, wrong = parse.parse_datetimes(series, MISSING_SPELLINGS)
    assert (parsed.to_list(), wrong) == by_scalars(series.to_list(), values.datetime_seconds)


@given(st.lists(st.one_of(st.none(), st.dates())))
def test_dates(cells: list[datetime.date | None]) -> None:
    series = pl.Series("x", cells, dtype=pl.Date)
    parsed, wrong = parse.parse_datetimes(series, MISSING_SPELLINGS)
    assert (parsed.to_list(), wrong) == by_scalars(cells, values.datetime_seconds)
    refused = len(cells) - cells.count(None)
    for column in (parse.parse_numbers, parse.parse_categories, parse.parse_booleans):
        assert column(series, MISSING_SPELLINGS).wrong == refused


def test_a_zoned_column_is_read_in_utc() -> None:
    moment = datetime.datetime(
        2024, 7, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2))
    )
    series = pl.Series("x", [moment]).dt.convert_time_zone("Europe/Berlin")
    parsed, _ = parse.parse_datetimes(series, MISSING_SPELLINGS)
    assert parsed.to_list() == [values.datetime_seconds(moment)] == [1_719_828_000]


def test_whole_numbers_beyond_64_bits_are_no_moments() -> None:
    series = pl.Series("x", [2**63 + 5, 86_400, None], dtype=pl.UInt64)
    parsed, wrong = parse.parse_datetimes(series, MISSING_SPELLINGS)
    assert (parsed.to_list(), wrong) == ([None, 86_400, None], 1)
    assert parsed.dtype == pl.Int64


def test_an_all_null_column_is_missing_in_every_kind() -> None:
    series = pl.Series("x", [None, None], dtype=pl.Null)
    for column in (
        parse.parse_numbers,
        parse.parse_categories,
        parse.parse_booleans,
        parse.parse_datetimes,
    ):
        parsed, wrong = column(series, MISSING_SPELLINGS)
        assert (parsed.to_list(), wrong) == ([None, None], 0)


@pytest.mark.parametrize("spelling", MISSING_SPELLINGS)
def test_the_spec_can_say_that_a_spelling_is_a_value(spelling: str) -> None:
    series = pl.Series("x", [spelling])
    parsed, _ = parse.parse_categories(series, ("absent",))
    assert parsed.to_list() == [values.category(spelling, ("absent",))] == [spelling]
    assert math.isnan(values.number("absent", ("absent",)))
