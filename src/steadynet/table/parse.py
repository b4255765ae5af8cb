"""Whole columns to values, by the rules of `table.values` (held equal by a property test).

Each function takes a Polars series and returns the parsed values, with null for what is missing,
and the number of values that do not fit (also null in the result).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple, TypeVar

import numpy as np
import polars as pl

from steadynet.table import values
from steadynet.table.schema import MISSING_DATETIME, PLAIN, DateOrder, NumberFormat

Scalar = TypeVar("Scalar", float, int, str)

_SECOND_UNITS = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class Parsed(NamedTuple):
    """A parsed column."""

    values: pl.Series
    wrong: int
    """Values that do not fit the kind."""


def present_texts(series: pl.Series, missing: Collection[str]) -> pl.Series:
    """Return a text column without blanks at the ends, null where it is spelled as missing."""
    stripped = series.cast(pl.String).str.strip_chars(values.BLANKS)
    return stripped.set(stripped.is_in(list(missing)).fill_null(False), None)


def parse_numbers(
    series: pl.Series, missing: Collection[str], *, written: NumberFormat = PLAIN
) -> Parsed:
    """Parse numbers: float64, infinite where float32 cannot hold the number."""
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        numbers = series.cast(pl.Float64).fill_nan(None)
        wrong = 0
    elif series.dtype in (pl.String, pl.Null):
        texts = present_texts(series, {*missing, *written.missing})
        plain = plain_digits(texts, written)
        wrong = plain.null_count() - texts.null_count()
        numbers = plain.cast(pl.Float64)
    else:
        return _nothing_fits(series, pl.Float64)
    beyond = (numbers.abs() >= values.FLOAT32_LIMIT).fill_null(False)
    if beyond.any():
        numbers = numbers.zip_with(~beyond, numbers.sign() * float("inf"))
    return Parsed(numbers, wrong)


def plain_digits(texts: pl.Series, written: NumberFormat) -> pl.Series:
    """Return numbers as `written` as digits with a decimal point; null where they are not so."""
    if written.has_unit:
        texts = texts.str.replace(values.unit_pattern(written.prefix, written.suffix), "${1}${2}")
    fits = texts.str.to_lowercase().str.contains(values.INFINITE_PATTERN)
    if written.decimal_comma:
        fits |= texts.str.contains(values.DECIMAL_COMMA_PATTERN)
        texts = texts.str.replace_all(values.COMMA_GROUPING, "").str.replace(",", ".", literal=True)
    else:
        fits |= texts.str.contains(values.NUMBER_PATTERN)
        if written.grouped:
            fits |= texts.str.contains(values.GROUPED_PATTERN)
            texts = texts.str.replace_all(values.GROUPING, "")
    return texts.set((~fits).fill_null(True), None)


def parse_categories(series: pl.Series, missing: Collection[str]) -> Parsed:
    """Parse category names: text."""
    if series.dtype in (pl.String, pl.Null):
        texts = present_texts(series, missing)
        return Parsed(texts.str.replace(values.WHOLE_PATTERN, "${1}"), 0)
    return _parse_distinct(series, lambda value: values.category(value, missing) or None, pl.String)


def parse_booleans(series: pl.Series, missing: Collection[str]) -> Parsed:
    """Parse booleans: float64 1 and 0."""
    if series.dtype == pl.Boolean:
        return Parsed(series.cast(pl.Float64), 0)
    parsed, wrong = _parse_distinct(
        series, lambda value: values.boolean(value, missing), pl.Float64
    )
    return Parsed(parsed.fill_nan(None), wrong)


def parse_datetimes(
    series: pl.Series, missing: Collection[str], *, order: DateOrder = "year_first"
) -> Parsed:
    """Parse dates and times: int64 seconds since 1970 UTC, rounded down."""
    dtype = series.dtype
    if isinstance(dtype, pl.Datetime):
        ticks = series.cast(pl.Int64)
        seconds = ticks // _SECOND_UNITS[dtype.time_unit]
        return _within_years(seconds, 0)
    if dtype == pl.Date:
        return _within_years(series.cast(pl.Int64) * 86_400, 0)
    if dtype.is_integer():
        # Unsigned and wider whole numbers do not all fit in 64 bits.
        within = _within_years(series.cast(pl.Int128), 0)
        return Parsed(within.values.cast(pl.Int64), within.wrong)
    if dtype.is_float():
        finite = series.is_finite() | series.is_nan()
        wrong = int((~finite).sum())
        floored = series.set((~series.is_finite()).fill_null(False), None).floor()
        whole = floored.clip(-1e18, 1e18).cast(pl.Int64)
        return _within_years(whole, wrong)
    if dtype in (pl.String, pl.Null):
        return _parse_date_texts(present_texts(series, missing), order)
    return _nothing_fits(series, pl.Int64)


def _parse_distinct(
    series: pl.Series,
    parse: Callable[[object], Scalar | None],
    dtype: type[pl.DataType],
) -> Parsed:
    """Parse each distinct value once by the scalar rule."""
    try:
        distinct = series.drop_nulls().unique()
    except pl.exceptions.InvalidOperationError:
        return _nothing_fits(series, dtype)
    results: list[Scalar | None] = []
    unfit: list[bool] = []
    for value in distinct.to_list():
        try:
            results.append(parse(value))
            unfit.append(False)
        except ValueError:
            results.append(None)
            unfit.append(True)
    table = pl.DataFrame(
        {
            "value": distinct,
            "parsed": pl.Series(results, dtype=dtype),
            "unfit": pl.Series(unfit, dtype=pl.Boolean),
        }
    )
    joined = series.to_frame("value").join(
        table, on="value", how="left", maintain_order="left", nulls_equal=False
    )
    return Parsed(joined["parsed"], int(joined["unfit"].sum()))


def _nothing_fits(series: pl.Series, dtype: type[pl.DataType]) -> Parsed:
    return Parsed(
        pl.Series(series.name, [None], dtype=dtype).new_from_index(0, len(series)),
        len(series) - series.null_count(),
    )


def _within_years(seconds: pl.Series, wrong: int) -> Parsed:
    inside = seconds.is_between(values.FIRST_SECOND, values.LAST_SECOND)
    return Parsed(seconds.set((~inside).fill_null(False), None), wrong + int((~inside).sum()))


def _parse_date_texts(texts: pl.Series, order: DateOrder) -> Parsed:
    """Parse texts by the patterns of `values`; arithmetic in NumPy, -1 where a part is absent."""
    frame = texts.to_frame("text")
    seconds = np.full(len(texts), MISSING_DATETIME, dtype=np.int64)
    for pattern, places in _date_patterns(order):
        groups = frame.select(pl.col("text").str.extract_groups(pattern).struct.unnest())
        matched = groups.to_series(0).is_not_null().to_numpy()
        if matched.any():
            found = _seconds_of_groups(groups.filter(pl.Series(matched)), places)
            seconds[matched] = found
    parsed = pl.Series(texts.name, seconds)
    absent = pl.Series(seconds == MISSING_DATETIME)
    parsed = parsed.set(absent, None)
    within = _within_years(parsed, 0)
    wrong = len(texts) - texts.null_count() - (len(texts) - within.values.null_count())
    return Parsed(within.values, wrong)


def _date_patterns(order: DateOrder) -> list[tuple[str, tuple[int, int, int]]]:
    """Return each pattern with the places of year, month and day among its groups."""
    patterns = [
        (values.YEAR_FIRST_PATTERN, (0, 1, 2)),
        (values.MONTH_WORD_PATTERN, (2, 1, 0)),
    ]
    if order == "day_first":
        patterns.append((values.YEAR_LAST_PATTERN, (2, 1, 0)))
    elif order == "month_first":
        patterns.append((values.YEAR_LAST_PATTERN, (2, 0, 1)))
    return patterns


def _seconds_of_groups(
    groups: pl.DataFrame, places: tuple[int, int, int]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return seconds since 1970 UTC, `MISSING_DATETIME` where the parts are no date or time."""
    year, month, day = (_whole(_month_number(groups.to_series(place))) for place in places)
    hour, minute, second = (_whole(groups.to_series(place)) for place in (3, 4, 5))
    half = groups.to_series(6).str.to_lowercase()
    zone, zone_fits = _zone_seconds(groups.to_series(7))
    fits = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & zone_fits
    first = np.where(fits, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    month_days = ((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")).astype(
        np.int64
    )
    fits &= day <= month_days
    has_half = half.is_not_null().to_numpy()
    afternoon = (half == "pm").fill_null(False).to_numpy()
    fits &= ~has_half | ((hour >= 1) & (hour <= 12))
    hour = np.where(has_half, hour % 12 + 12 * afternoon, np.maximum(hour, 0))
    fits &= (hour <= 23) & (minute <= 59) & (second <= 59)
    days = first.astype("datetime64[D]").astype(np.int64) + day - 1
    time = hour * 3600 + np.maximum(minute, 0) * 60 + np.maximum(second, 0)
    return np.where(fits, days * 86_400 + time - zone, MISSING_DATETIME)


def _month_number(part: pl.Series) -> pl.Series:
    numbers = {word: str(number) for number, word in enumerate(values.MONTH_WORDS, start=1)}
    return part.replace(numbers)


def _whole(part: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return part.cast(pl.Int64).fill_null(-1).to_numpy()


def _zone_seconds(
    zone: pl.Series,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    digits = zone.str.replace(":", "", literal=True)
    offset = digits.str.contains(r"^[+-]").fill_null(False)
    hours = _whole(digits.str.slice(1, 2).set(~offset, "0"))
    minutes = _whole(digits.str.slice(3, 2).set(~offset, "0"))
    sign = np.where(digits.str.starts_with("-").fill_null(False).to_numpy(), -1, 1)
    return sign * (hours * 3600 + minutes * 60), (hours <= 23) & (minutes <= 59)
