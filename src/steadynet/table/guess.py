"""Guess a column's kind from its values and its name.

The order of questions matters: a column without differences says nothing; words for yes and no
are booleans before they are categories; texts that are all numbers or all dates are those; what
is left is told apart by how often values come back and how many words they have.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

import polars as pl

from steadynet.spec.kinds import Kind
from steadynet.table import values
from steadynet.table.dates import find_date_order, is_ambiguous
from steadynet.table.number_texts import (
    count_words,
    describe_format,
    find_number_format,
    is_comma_ambiguous,
    units_of,
)
from steadynet.table.parse import parse_datetimes, parse_numbers, present_texts
from steadynet.table.schema import PLAIN, DateOrder, NumberFormat

ID_NAME = re.compile(
    r"(?:^|[_\W])(?:id|ids|nbr|num|no|nr|key|uuid|guid|index|hash|token|ref|reference|rownum|row)$",
    re.IGNORECASE,
)
CODE_NAME = re.compile(r"(?:^|[_\W])(?:id|code|zip|zipcode|postcode)$", re.IGNORECASE)
CAMEL_ID = re.compile(r"[a-z](?:ID|Id|Nbr|Key|UUID|Uuid)$")
UNNAMED = re.compile(r"(?:Unnamed: \d+|column_\d+|level_0)")

MIN_UNIQUE_ROWS = 20
"""With fewer rows, values that never come back prove nothing."""
LONG_COUNT = 1000
"""Rows from which whole numbers without gap or repetition count rows, wherever they begin."""
NEAR_UNIQUE = 0.95
NAMED_UNIQUE = 0.5
"""Share of distinct values from which a column named like an identifier is one."""
TEXT_WORDS = 4.0
"""Mean number of words from which texts are prose."""
TEXT_DISTINCT = 0.3
MIN_COVERED = 0.1
"""Share of rows whose value comes back at least twice more, for categories to be of use."""
CODES = 100
"""Whole numbers named like codes are categories up to as many."""


class Guess(NamedTuple):
    """A column's kind and why."""

    kind: Kind
    reason: str
    date_order: DateOrder = "year_first"
    number_format: NumberFormat = PLAIN


def named_like_identifier(name: str) -> bool:
    """Return whether a name ends as identifiers do: id, nbr, key, uuid …"""
    return bool(ID_NAME.search(name) or CAMEL_ID.search(name) or UNNAMED.fullmatch(name))


def guess_moments(series: pl.Series) -> Guess:
    """Guess the kind of a column of dates or times."""
    return _constant(series.drop_nulls(), len(series)) or Guess("datetime", "dates or times")


def guess_booleans(series: pl.Series) -> Guess:
    """Guess the kind of a column of true and false."""
    return _constant(series.drop_nulls(), len(series)) or Guess("boolean", "true and false")


def guess_numbers(series: pl.Series, name: str, *, written: NumberFormat = PLAIN) -> Guess:
    """Guess the kind of a column of numbers: number, identifier, codes, or constant."""
    present = series.drop_nulls().cast(pl.Float64).drop_nans()
    if constant := _constant(present, len(series)):
        return constant
    whole = bool((present.is_finite() & (present == present.round(0))).all())
    distinct = present.n_unique()
    # A unit says that numbers are amounts, whatever their name says.
    may_be_code = whole and not written.has_unit
    if may_be_code and (identifier := _identifier_of_numbers(present, distinct, name)):
        return identifier
    if may_be_code and distinct <= CODES and _named_like_code(name):
        return Guess(
            "category", f"{distinct} different whole numbers, and its name says that they are codes"
        )
    how = "whole numbers" if whole else "numbers"
    if distinct == 2 and set(present.unique().to_list()) == {0.0, 1.0}:
        how = "only 0 and 1: a flag, left open to other numbers"
    how += describe_format(written)
    if len(present) < len(series):
        how += f"; blank or spelled as missing in {len(series) - len(present)} of {len(series)}"
    return Guess("number", how, number_format=written)


def guess_texts(series: pl.Series, missing: Collection[str]) -> Guess:
    """Guess the kind of a column of texts."""
    texts = present_texts(series, missing)
    present = texts.drop_nulls()
    if constant := _constant(present, len(series)):
        return constant
    words = set(present.unique().head(20).str.to_lowercase().to_list())
    if _are_boolean_words(words) and present.n_unique() <= 8:
        return Guess("boolean", f"only the words {_list_words(words)}")
    hint = ""
    if not _has_leading_zeros(present):
        if numbers := _guess_number_texts(texts, series.name, missing):
            return numbers
        hint = _nearly_numbers(texts, missing)
    if dates := _guess_date_texts(texts, missing):
        return dates
    return _guess_words(present, series.name, hint)


def _constant(present: pl.Series, rows: int) -> Guess | None:
    """Return why a column says nothing, or None where its values differ."""
    if len(present) == 0:
        return Guess("constant", "no row has a value")
    if present.n_unique() == 1 and len(present) == rows:
        return Guess("constant", "every row has the same value")
    return None


def _identifier_of_numbers(present: pl.Series, distinct: int, name: str) -> Guess | None:
    rows = len(present)
    if distinct == rows >= MIN_UNIQUE_ROWS:
        low, high = present.min(), present.max()
        span = float(high) - float(low) + 1  # type: ignore[arg-type]
        # Sixty years, each once, count no rows; counts begin at 0 or 1, or go on for long.
        counts = low in (0, 1) or rows >= LONG_COUNT or named_like_identifier(name)
        if span == rows and counts:
            return Guess("identifier", "whole numbers that count the rows, each once")
    if not named_like_identifier(name) or rows == 0:
        return None
    if distinct == rows:
        return Guess("identifier", "a different whole number in each row, and its name says so")
    if distinct / rows >= NAMED_UNIQUE and distinct > CODES:
        return Guess(
            "identifier",
            f"{distinct} different whole numbers in {rows} rows, and its name says so. Some come"
            f" back: to keep one in one part, set split.group_column = {name!r}",
        )
    return None


def _named_like_code(name: str) -> bool:
    return bool(CODE_NAME.search(name) or CAMEL_ID.search(name))


def _are_boolean_words(words: set[str]) -> bool:
    """Return whether words are for yes and for no, and not the digits 0 and 1."""
    true, false = words & set(values.TRUE_WORDS), words & set(values.FALSE_WORDS)
    digits = {"0", "1", "0.0", "1.0"}
    return bool(true and false and words == true | false and not words <= digits)


def _list_words(words: set[str]) -> str:
    return " and ".join(sorted(words))


def _has_leading_zeros(present: pl.Series) -> bool:
    """Return whether some text is a number with leading zeros: a code, as 02134."""
    return bool(present.str.contains(r"^0[0-9]+$").any())


def _guess_number_texts(texts: pl.Series, name: str, missing: Collection[str]) -> Guess | None:
    written = find_number_format(texts, missing)
    if written is None:
        return None
    numbers = parse_numbers(texts, missing, written=written).values
    return guess_numbers(numbers, name, written=written)


def _nearly_numbers(texts: pl.Series, missing: Collection[str]) -> str:
    if is_comma_ambiguous(texts, missing):
        return (
            ". With commas that may group digits or be decimal commas: tell by an example in"
            " table.written"
        )
    if units := units_of(texts, missing):
        return f". Numbers in several units ({', '.join(units)}): write all of them in one"
    if words := count_words(texts, missing):
        present = len(texts) - texts.null_count()
        return (
            f". Only {words} of {present} texts are no numbers: if they mean that the number is"
            " missing, name them in table.more_missing"
        )
    return ""


def _guess_date_texts(texts: pl.Series, missing: Collection[str]) -> Guess | None:
    order = find_date_order(texts, missing)
    if order is None:
        return None
    ways = {
        "year_first": "dates or times, year first",
        "day_first": "dates, day before month",
        "month_first": "dates, month before day",
    }
    reason = ways[order]
    if order != "year_first" and is_ambiguous(texts, missing):
        reason += (
            " (both would be dates; read so because more rows then follow in time."
            " Write YYYY-MM-DD to be safe)"
        )
    seconds = parse_datetimes(texts, missing, order=order).values
    return _constant(seconds.drop_nulls(), len(texts)) or Guess(
        "datetime", reason, date_order=order
    )


def _guess_words(present: pl.Series, name: str, hint: str) -> Guess:
    rows = len(present)
    distinct = present.n_unique()
    share = distinct / rows
    words = present.str.count_matches(r"\S+").mean()
    mean_words = float(words)  # type: ignore[arg-type]
    if mean_words >= TEXT_WORDS and share >= TEXT_DISTINCT and rows >= MIN_UNIQUE_ROWS:
        return Guess(
            "text",
            f"free text: {mean_words:.0f} words on average, {share:.0%} of them different."
            " Texts are not read yet",
        )
    if share >= NEAR_UNIQUE and rows >= MIN_UNIQUE_ROWS:
        return Guess("identifier", f"{share:.0%} of the texts are different{hint}")
    if share >= NAMED_UNIQUE and named_like_identifier(name):
        return Guess("identifier", f"{share:.0%} of the texts are different, and its name says so")
    if rows >= MIN_UNIQUE_ROWS and (covered := _covered_share(present)) < MIN_COVERED:
        return Guess(
            "identifier",
            f"{distinct} different texts in {rows} rows; only {covered:.0%} of rows have one that"
            f" comes back often enough to learn from{hint}",
        )
    return Guess("category", f"{distinct} different texts{hint}")


def _covered_share(present: pl.Series) -> float:
    counts = present.value_counts(name="rows")["rows"]
    return float(counts.filter(counts >= 3).sum()) / len(present)
