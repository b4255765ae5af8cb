"""Which way a column writes its numbers: 1,234.5 or 1.234,5, with a unit, with words for gaps.

A text that could be a code stays one: letters before a number are no unit ("A12") unless they name
a currency, and letters right behind it only where they are known for it ("12kg", not "12B").
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import msgspec
import polars as pl

from steadynet.table import values
from steadynet.table.parse import plain_digits, present_texts
from steadynet.table.schema import GROUPED, NumberFormat
from steadynet.table.units import is_currency, is_unit

FEW_WORDS = 0.1
"""Share of texts without a digit that may be words for a missing number."""
MAX_WORDS = 3
"""Different ones."""
MIN_NUMBERS = 20
"""Different numbers beside them: fewer may be codes, and the word one of them."""
MANY_GROUPED = 10
"""Different texts with three digits behind the comma after which it is taken to group them."""
MOSTLY = 0.5
"""Share of texts that must have a unit."""

PROBE_ROWS = 1000
"""Rows that are looked at before a whole column is."""

_PARTS = (
    r"^[+-]?([^0-9.,+\s-][^0-9,+\s-]*)?\s*([+-]?[0-9.].*?|[+-]?[0-9.])"
    r"(\s*)([^0-9.,'\u2019\s+-][^0-9,]*)?$"
)
"""Groups: what stands before the number, the number, blanks, what stands behind it."""


_DECIMAL_COMMA_PROOF = (
    r"^[+-]?0+,|,(?:[0-9]{0,2}|[0-9]{4,})$|[.'\u2019 \xa0\u202f][0-9]{3}(?:[.'\u2019 \xa0\u202f]|,)"
)
"""Decimals of another length than three, no whole part, or digits grouped by something else."""


class _Texts(NamedTuple):
    """A column's texts, apart."""

    numbers: pl.Series
    """Distinct texts that hold a digit."""
    rows: pl.Series
    """How often each comes."""
    words: pl.Series
    """Distinct texts without a digit."""
    word_rows: int


class _Parts(NamedTuple):
    """Texts in parts, each null where a text has none."""

    before: pl.Series
    number: pl.Series
    blanks: pl.Series
    after: pl.Series

    @property
    def are_apart(self) -> bool:
        """Whether blanks stand before all units."""
        blanks = self.blanks.filter(self.after.is_not_null()).fill_null("")
        return bool((blanks != "").all())


def find_number_format(
    series: pl.Series, missing: Collection[str], *, with_words: bool = True
) -> NumberFormat | None:
    """Return how a column of texts writes its numbers, or None where it holds others.

    With `with_words`, a few words without a digit among many different numbers are taken to mean
    that the number is missing.
    """
    found = _apart(present_texts(series, missing))
    digits = None if found is None else _digits_of(found)
    if found is None or digits is None or len(found.words) == 0:
        return digits
    if not with_words or _count_numbers(found, digits) < MIN_NUMBERS:
        return None
    return msgspec.structs.replace(digits, missing=tuple(found.words.sort().to_list()))


def count_words(series: pl.Series, missing: Collection[str]) -> int:
    """Return in how many rows a word stands among numbers, too few to say that it is no code."""
    found = _apart(present_texts(series, missing))
    if found is None or _digits_of(found) is None:
        return 0
    return found.word_rows


def units_of(series: pl.Series, missing: Collection[str]) -> list[str]:
    """Return the units behind a column's numbers, where there are several; else nothing."""
    found = _apart(present_texts(series, missing))
    if found is None:
        return []
    parts = _parts_of(found.numbers)
    units = sorted(parts.after.drop_nulls().unique().to_list())
    if not 2 <= len(units) <= MAX_WORDS or parts.number.n_unique() < MIN_NUMBERS:
        return []
    return units if parts.are_apart or all(map(is_unit, units)) else []


def is_comma_ambiguous(series: pl.Series, missing: Collection[str]) -> bool:
    """Return whether all texts are numbers with commas that may group digits or be decimal."""
    texts = present_texts(series, missing).drop_nulls()
    if len(texts) == 0 or not texts.str.contains(",", literal=True).any():
        return False
    return plain_digits(texts, GROUPED).null_count() == 0


def describe_format(written: NumberFormat) -> str:
    """Return what is odd about the way numbers are written, for people; `""` where nothing is."""
    parts = []
    if written.grouped:
        parts.append("digits grouped by commas")
    if written.decimal_comma:
        parts.append("with decimal commas")
    if written.prefix:
        parts.append(f"{written.prefix!r} before them")
    if written.suffix:
        parts.append(f"{written.suffix!r} behind them")
    if written.missing:
        words = ", ".join(map(repr, written.missing))
        parts.append(f"{words} taken for a missing number")
    return "".join(f", {part}" for part in parts)


def _apart(texts: pl.Series) -> _Texts | None:
    """Return a column's texts apart; None where too many are words."""
    present = texts.drop_nulls()
    # Most columns of texts are told apart by a few of them.
    probe = present.head(PROBE_ROWS)
    if len(probe.filter(probe.str.contains(r"[0-9]"))) < MOSTLY * len(probe):
        return None
    counted = present.value_counts(name="rows")
    has_digit = counted[texts.name].str.contains(r"[0-9]")
    has_digit |= counted[texts.name].str.to_lowercase().str.contains(values.INFINITE_PATTERN)
    numbers, words = counted.filter(has_digit), counted.filter(~has_digit)
    if numbers.height == 0 or words.height > MAX_WORDS:
        return None
    word_rows = int(words["rows"].sum())
    if word_rows > FEW_WORDS * len(present):
        return None
    return _Texts(numbers[texts.name], numbers["rows"], words[texts.name], word_rows)


def _digits_of(found: _Texts) -> NumberFormat | None:
    """Return how the numbers are written; None where that cannot be told."""
    unit = _find_unit(found)
    return None if unit is None else _find_digits(found.numbers, unit)


def _count_numbers(found: _Texts, digits: NumberFormat) -> int:
    return plain_digits(found.numbers, digits).cast(pl.Float64).n_unique()


def _find_unit(found: _Texts) -> NumberFormat | None:
    """Return the one unit of the numbers, before and behind them; None where there are several."""
    parts = _parts_of(found.numbers)
    # Texts that do not match have none of the parts; `_find_digits` refuses them.
    prefix, suffix = _only(parts.before), _only(parts.after)
    if prefix is None or suffix is None:
        return None
    rows = int(found.rows.sum())
    for unit, part in ((prefix, parts.before), (suffix, parts.after)):
        if unit and int(found.rows.filter((part == unit).fill_null(False)).sum()) < MOSTLY * rows:
            return None
    if prefix and not is_currency(prefix):
        return None
    if suffix and not parts.are_apart and not is_unit(suffix):
        return None
    return NumberFormat(prefix=prefix, suffix=suffix)


def _parts_of(texts: pl.Series) -> _Parts:
    groups = texts.to_frame("text").select(
        pl.col("text").str.extract_groups(_PARTS).struct.unnest()
    )
    return _Parts(*(groups.to_series(place) for place in range(4)))


def _only(part: pl.Series) -> str | None:
    """Return the one text of a column, `""` where it has none, None where it has several."""
    distinct = part.drop_nulls().unique()
    if len(distinct) > 1:
        return None
    return str(distinct[0]).strip(values.BLANKS) if len(distinct) else ""


def _find_digits(numbers: pl.Series, unit: NumberFormat) -> NumberFormat | None:
    """Return how the digits are written, given the unit; None where it cannot be told."""
    if plain_digits(numbers, unit).null_count() == 0:
        return unit
    bare = numbers.str.replace(values.unit_pattern(unit.prefix, unit.suffix), "${1}${2}")
    with_commas = NumberFormat(decimal_comma=True)
    is_proven = bool(bare.str.contains(_DECIMAL_COMMA_PROOF).any())
    if is_proven and plain_digits(bare, with_commas).null_count() == 0:
        return msgspec.structs.replace(unit, decimal_comma=True)
    if plain_digits(bare, GROUPED).null_count() == 0 and _is_grouped(bare):
        return msgspec.structs.replace(unit, grouped=True)
    return None


def _is_grouped(bare: pl.Series) -> bool:
    """Return whether commas can only group digits, and are no decimal commas.

    "1,234,567" and "1,234.5" prove it, and so do apostrophes and blanks; so do many different texts
    with three digits after the comma, for decimals would have other lengths too.
    """
    proof = bare.str.contains(r",[0-9]{3},|[,'\u2019 \xa0\u202f][0-9]{3}\.|['\u2019 \xa0\u202f]")
    with_comma = bare.filter(bare.str.contains(",", literal=True))
    return bool(proof.any()) or len(with_comma) >= MANY_GROUPED
