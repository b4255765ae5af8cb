"""A frame to the graph's inputs, and the target to what a network is fitted to."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from steadynet.errors import InputError, TableError
from steadynet.spec.names import did_you_mean
from steadynet.table import parse
from steadynet.table.frame import Frame
from steadynet.table.schema import MISSING_DATETIME, Column, Schema
from steadynet.table.values import EXPECTED


def to_columns(frame: Frame, schema: Schema) -> dict[str, np.ndarray[Any, Any]]:
    """Return the graph's inputs: column name → array (N, 1) of float32, int64 or object (str).

    Columns that the schema does not use are ignored. Raises `InputError` for a feature column
    that is absent or holds values of another kind.
    """
    return {column.name: to_input(frame, column, schema) for column in schema.features}


def parse_column(series: pl.Series, column: Column, missing: tuple[str, ...]) -> parse.Parsed:
    """Parse a feature column's values by its kind."""
    if column.kind == "number":
        return parse.parse_numbers(series, missing, written=column.number_format)
    if column.kind == "boolean":
        return parse.parse_booleans(series, missing)
    if column.kind == "datetime":
        return parse.parse_datetimes(series, missing, order=column.date_order)
    return parse.parse_categories(series, missing)


def encode_target(frame: Frame, schema: Schema) -> np.ndarray[Any, Any]:
    """Return class indices int64 (N,) or, for regression, numbers float64 (N,).

    Raises `TableError` where the target is absent or missing in some rows, is no finite number
    (regression) or holds a class that the schema does not know.
    """
    target, parsed = schema.target, _parse_target(frame, schema)
    _refuse(target.name, parsed.null_count(), "a value in every row", "rows without one")
    if target.task == "regression":
        return parsed.to_numpy()
    indices = parsed.replace_strict(
        list(target.classes), range(len(target.classes)), default=None, return_dtype=pl.Int64
    )
    _refuse(
        target.name,
        indices.null_count(),
        f"one of {len(target.classes)} known classes",
        "rows with another class",
    )
    return indices.to_numpy()


class Truth(NamedTuple):
    """What is known of a target."""

    values: np.ndarray[Any, Any]
    """Class indices int64 or numbers float64, (N,); 0 where none is known."""
    known: np.ndarray[Any, np.dtype[np.bool_]]
    """Whether a row has a value, (N,)."""

    @property
    def rows(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The rows that have a value."""
        return np.flatnonzero(self.known)

    def among(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, Any]:
        """Return those of some rows that have a value, in their order."""
        chosen: np.ndarray[Any, Any] = rows[self.known[rows]]
        return chosen


def encode_known_target(frame: Frame, schema: Schema) -> Truth:
    """Return the target of the rows that have one. Raises `TableError` as `encode_target` does."""
    known = _parse_target(frame, schema).is_not_null().to_numpy()
    some = encode_target(frame[schema.target.name].to_frame().filter(known), schema)
    values = np.zeros(len(known), some.dtype)
    values[known] = some
    return Truth(values, known)


def _parse_target(frame: Frame, schema: Schema) -> pl.Series:
    """Return numbers or class names, null where a row has none."""
    target = schema.target
    if target.name not in frame.columns:
        raise TableError(
            f"the table has no column {target.name!r}, the target",
            do=did_you_mean(target.name, frame.columns),
        )
    series = frame[target.name]
    if target.task == "regression":
        numbers, wrong = parse.parse_numbers(
            series, schema.missing_spellings, written=target.number_format
        )
        wrong += int(numbers.is_infinite().sum())
        _refuse(target.name, wrong, "finite numbers", "values that are none")
        return numbers
    # A class can be spelled as other columns spell a missing value: "none".
    missing = [word for word in schema.missing_spellings if word not in target.classes]
    names, wrong = parse.parse_categories(series, missing)
    _refuse(target.name, wrong, "class names", "values that are none")
    return names


def _refuse(target: str, count: int, expected: str, what: str) -> None:
    if count:
        raise TableError(
            f"the target {target!r} does not fit", expected=expected, got=f"{count} {what}"
        )


def to_input(frame: Frame, column: Column, schema: Schema) -> np.ndarray[Any, Any]:
    """Return one input (N, 1) of `to_columns`."""
    return _as_input(parsed_input(frame, column, schema), column).reshape(-1, 1)


def parsed_input(frame: Frame, column: Column, schema: Schema) -> pl.Series:
    """Return a feature column's parsed values. Raises `InputError` as `to_columns` does."""
    if column.name not in frame.columns:
        raise InputError(
            f"the column {column.name!r} is absent",
            column=column.name,
            expected=EXPECTED[column.kind],
            got="no such column",
            do=did_you_mean(column.name, frame.columns) or "Add it; its values may be missing.",
        )
    series = frame[column.name]
    parsed, wrong = parse_column(series, column, schema.missing_spellings)
    if wrong:
        raise InputError(
            f"the column {column.name!r} is of another kind than in training",
            column=column.name,
            expected=EXPECTED[column.kind],
            got=f"{wrong} of {len(series)} values that are none (data type {series.dtype})",
        )
    return parsed


def _as_input(parsed: pl.Series, column: Column) -> np.ndarray[Any, Any]:
    if column.kind == "category":
        return np.array(parsed.fill_null("").to_list(), dtype=object)
    if column.kind == "datetime":
        return parsed.fill_null(MISSING_DATETIME).to_numpy()
    return parsed.cast(pl.Float32).fill_null(float("nan")).to_numpy()
