"""Which way a column writes its dates: 03/04/2024 is in March or in April."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from steadynet.table.parse import parse_datetimes
from steadynet.table.schema import DateOrder

ORDERS: tuple[DateOrder, ...] = ("year_first", "day_first", "month_first")

PROBE_TEXTS = 50
"""Distinct texts that are tried before a whole column is."""


def find_date_order(series: pl.Series, missing: Collection[str]) -> DateOrder | None:
    """Return the order in which every text of a column is a date, or None.

    Where days and months cannot be told apart, the order under which more neighbouring rows go
    forward in time is taken; tables are mostly written in the order of time.
    """
    fitting = [order for order in ORDERS if _all_dates(series, missing, order)]
    if not fitting:
        return None
    if "year_first" in fitting:
        return "year_first"
    return max(fitting, key=lambda order: _forward_steps(series, missing, order))


def is_ambiguous(series: pl.Series, missing: Collection[str]) -> bool:
    """Return whether a column's dates can be read day first and month first, and differ."""
    day_first = parse_datetimes(series, missing, order="day_first")
    month_first = parse_datetimes(series, missing, order="month_first")
    if day_first.wrong or month_first.wrong:
        return False
    return not day_first.values.equals(month_first.values)


def _all_dates(series: pl.Series, missing: Collection[str], order: DateOrder) -> bool:
    if series.dtype == pl.String:
        probe = series.drop_nulls().head(PROBE_TEXTS * 4).unique().head(PROBE_TEXTS)
        if parse_datetimes(probe, missing, order=order).wrong:
            return False
    return parse_datetimes(series, missing, order=order).wrong == 0


def _forward_steps(series: pl.Series, missing: Collection[str], order: DateOrder) -> int:
    seconds = parse_datetimes(series, missing, order=order).values.drop_nulls()
    return int((seconds.diff() >= 0).sum())
