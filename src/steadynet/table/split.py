"""Which rows train, validate and test."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from steadynet.errors import TableError
from steadynet.spec.model import SplitSpec
from steadynet.spec.names import did_you_mean
from steadynet.table.convert import encode_target
from steadynet.table.dates import find_date_order
from steadynet.table.frame import Frame
from steadynet.table.parse import parse_categories, parse_datetimes, parse_numbers
from steadynet.table.schema import Schema

Indices = npt.NDArray[np.int64]

TARGET_BINS = 10
"""A regression's rows are stratified by as many quantiles of the target at most."""
ROWS_PER_BIN = 10
"""Fewer rows in a quantile could not be shared out over three parts."""


class Split(NamedTuple):
    """Row numbers (int64) of each part; together every row once."""

    train: Indices
    validation: Indices
    test: Indices


def split_rows(frame: Frame, schema: Schema, split: SplitSpec) -> Split:
    """Cut a table in three: by time or by group where the spec names a column, else at random.

    At random means stratified by class or by the target's quantiles and seeded; a class with at
    least 3 rows is in every part. By time, the newest rows test and rows of one moment stay
    together. Raises `TableError` for too few rows, moments or groups, and for an unknown column.
    """
    if frame.height < split.min_rows:
        raise TableError(
            "the table has too few rows to train on",
            expected=f"at least {split.min_rows} rows with a target",
            got=str(frame.height),
        )
    if split.time_column is not None:
        return _by_time(time_keys(frame, split.time_column, schema), split)
    if split.group_column is not None:
        return _by_group(group_keys(frame, split.group_column, schema), split)
    return _stratified(_strata(encode_target(frame, schema), schema), split)


def _strata(target: npt.NDArray[np.generic], schema: Schema) -> Indices:
    """Return the stratum of each row: its class, or the quantile of its target."""
    if schema.target.task != "regression":
        return target.astype(np.int64)
    ranks = np.empty(len(target), dtype=np.int64)
    ranks[np.argsort(target, kind="stable")] = np.arange(len(target))
    bins = max(1, min(TARGET_BINS, len(target) // ROWS_PER_BIN))
    return ranks * bins // len(target)


def _stratified(strata: Indices, split: SplitSpec) -> Split:
    generator = np.random.default_rng(split.seed)
    parts: tuple[list[Indices], list[Indices], list[Indices]] = ([], [], [])
    for stratum in np.unique(strata):
        rows = generator.permutation(np.flatnonzero(strata == stratum))
        test, validation = _part_sizes(len(rows), split)
        parts[2].append(rows[:test])
        parts[1].append(rows[test : test + validation])
        parts[0].append(rows[test + validation :])
    return Split(*(np.sort(np.concatenate(rows)) for rows in parts))


def _part_sizes(rows: int, split: SplitSpec) -> tuple[int, int]:
    """Return how many of a stratum's rows test and validate; the rest trains, at least one."""
    if rows < 3:
        return 0, 0
    test = max(1, round(rows * split.test_share))
    validation = max(1, round(rows * split.validation_share))
    while test + validation > rows - 1:
        if test >= validation:
            test -= 1
        else:
            validation -= 1
    return test, validation


def _by_time(keys: npt.NDArray[np.float64], split: SplitSpec) -> Split:
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    # A moment begins where the key changes; parts are cut only there.
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    if len(starts) < 3:
        raise TableError(
            f"the time column {split.time_column!r} cannot be cut in three parts",
            expected="at least 3 different times",
            got=str(len(starts)),
        )
    rows = len(keys)
    test = _nearest_cut(starts[2:], rows * (1 - split.test_share))
    earlier = starts[(starts > 0) & (starts < test)]
    validation = _nearest_cut(earlier, rows * (1 - split.test_share - split.validation_share))
    return Split(order[:validation], order[validation:test], order[test:])


def _nearest_cut(cuts: Indices, wanted: float) -> int:
    return int(cuts[np.argmin(np.abs(cuts - wanted))])


def _by_group(groups: Indices, split: SplitSpec) -> Split:
    sizes = np.bincount(groups)
    if len(sizes) < 3:
        raise TableError(
            f"the group column {split.group_column!r} cannot be cut in three parts",
            expected="at least 3 groups",
            got=str(len(sizes)),
        )
    part_of_group = _deal(sizes, split)
    part = part_of_group[groups]
    return Split(*(np.flatnonzero(part == number) for number in range(3)))


def _deal(sizes: Indices, split: SplitSpec) -> Indices:
    """Return each group's part (0 train, 1 validation, 2 test).

    Groups come in random order, and each goes to the part that lacks most of its share.
    """
    rows = sizes.sum()
    wanted = rows * np.array(
        [1 - split.validation_share - split.test_share, split.validation_share, split.test_share]
    )
    lacking = wanted.copy()
    parts = np.zeros(len(sizes), dtype=np.int64)
    for group in np.random.default_rng(split.seed).permutation(len(sizes)):
        part = int(np.argmax(lacking / wanted))
        parts[group] = part
        lacking[part] -= sizes[group]
    return parts


def _column(frame: Frame, name: str, role: str) -> pl.Series:
    if name not in frame.columns:
        raise TableError(
            f"the table has no column {name!r}, the {role} column of the split",
            do=did_you_mean(name, frame.columns),
        )
    return frame[name]


def time_keys(frame: Frame, name: str, schema: Schema) -> npt.NDArray[np.float64]:
    """Return a sortable time for each row; rows without one come first (they train)."""
    series = _column(frame, name, "time")
    missing = schema.missing_spellings
    parsed, wrong = parse_numbers(series, missing)
    if wrong:
        order = find_date_order(series, missing)
        parsed, wrong = parse_datetimes(series, missing, order=order or "year_first")
    if wrong:
        raise TableError(
            f"the time column {name!r} cannot be put in order",
            expected="dates, times or numbers",
            got=f"{wrong} values that are neither",
        )
    keys: npt.NDArray[np.float64] = parsed.cast(pl.Float64).fill_null(float("-inf")).to_numpy()
    return keys


def group_keys(frame: Frame, name: str, schema: Schema) -> Indices:
    """Return each row's group as a number from 0; rows without a group are one group each."""
    series = _column(frame, name, "group")
    names, wrong = parse_categories(series, schema.missing_spellings)
    if wrong:
        raise TableError(
            f"the group column {name!r} cannot be read",
            expected="texts or numbers",
            got=f"data type {series.dtype}",
        )
    alone = pl.int_range(len(names), eager=True).cast(pl.String)
    keys = ("group " + names).zip_with(names.is_not_null(), "row " + alone)
    _, numbers = np.unique(keys.to_numpy(), return_inverse=True)
    return numbers.astype(np.int64)
