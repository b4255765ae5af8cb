"""How a column's values are written, told by an example: "31.12.2024", "1.234,50 €".

An example is what a person would write into `table.written`, and what a retrain hands on, since the
table that it trains on is written plainly while callers go on as before.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import polars as pl

from steadynet.errors import TableError
from steadynet.spec.model import TableSpec
from steadynet.table.dates import find_date_order
from steadynet.table.number_texts import find_number_format
from steadynet.table.schema import Column, DateOrder, NumberFormat

_DATES: dict[DateOrder, str] = {
    "year_first": "2024-12-31",
    "day_first": "31.12.2024",
    "month_first": "12/31/2024",
}


class Written(NamedTuple):
    """What an example tells: one of both."""

    date_order: DateOrder | None = None
    number_format: NumberFormat | None = None


def read_example(example: str) -> Written | None:
    """Return how values like the example are written, None where it is no number and no date."""
    texts = pl.Series("example", [example])
    if order := find_date_order(texts, ()):
        return Written(date_order=order)
    if number_format := find_number_format(texts, (), with_words=False):
        return Written(number_format=number_format)
    return None


def declared_format(table: TableSpec, name: str) -> Written | None:
    """Return how a column is written by `table.written` and `table.more_missing`.

    None where they do not name it. Raises `TableError` for an example that tells nothing.
    """
    example, words = table.written.get(name), table.more_missing.get(name, ())
    if example is None:
        return Written(number_format=NumberFormat(missing=words)) if words else None
    written = read_example(example)
    if written is None:
        raise TableError(
            f"the example of {name!r} in table.written tells nothing",
            expected='a date or a number, as "31.12.2024", "1.234,50 €" or "12.5 %"',
            got=repr(example),
        )
    if written.number_format is None:
        return written
    return Written(number_format=msgspec.structs.replace(written.number_format, missing=words))


def write_example(column: Column) -> str | None:
    """Return an example of how a column's values are written, None where they are plain."""
    if column.kind == "datetime" and column.date_order != "year_first":
        return _DATES[column.date_order]
    return write_number(column.number_format) if column.kind == "number" else None


def write_number(number_format: NumberFormat) -> str | None:
    """Return an example of how numbers are written, None where they are plain."""
    plain = not (number_format.grouped or number_format.decimal_comma)
    if plain and not number_format.has_unit:
        return None
    digits = "1234.5"
    if number_format.decimal_comma:
        digits = "1.234,5"
    elif number_format.grouped:
        digits = "1,234.5"
    return f"{number_format.prefix} {digits} {number_format.suffix}".strip()
