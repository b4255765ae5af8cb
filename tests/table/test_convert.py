"""A frame to the graph's inputs: types, missing values, and columns that changed."""

from __future__ import annotations

import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.errors import InputError
from steadynet.runtime.columns import decode_columns
from steadynet.table.convert import to_columns
from steadynet.table.schema import GROUPED, MISSING_DATETIME, Column, Schema, Target

SCHEMA = Schema(
    columns=(
        Column(name="age", kind="number", reason=""),
        Column(name="fee", kind="number", reason="", number_format=GROUPED),
        Column(name="job", kind="category", reason="", categories=("a", "b")),
        Column(name="on", kind="boolean", reason=""),
        Column(name="at", kind="datetime", reason="", date_order="day_first"),
        Column(name="who", kind="identifier", reason=""),
    ),
    target=Target(name="y", task="regression", reason=""),
)

FRAME = pl.DataFrame(
    {
        "age": ["1.5", " ? "],
        "fee": ["1,234", ""],
        "job": [" a ", None],
        "on": ["Yes", "NA"],
        "at": ["02/01/1970", None],
        "extra": [[1], [2]],
    }
)


def test_each_kind_has_its_type_and_missing_value() -> None:
    columns = to_columns(FRAME, SCHEMA)
    assert list(columns) == ["age", "fee", "job", "on", "at"]
    assert all(values.shape == (2, 1) for values in columns.values())
    assert [values.dtype for values in columns.values()] == [
        np.float32,
        np.float32,
        np.dtype(object),
        np.float32,
        np.int64,
    ]
    np.testing.assert_array_equal(columns["age"], [[1.5], [np.nan]])
    np.testing.assert_array_equal(columns["fee"], [[1234], [np.nan]])
    assert columns["job"].tolist() == [["a"], [""]]
    np.testing.assert_array_equal(columns["on"], [[1], [np.nan]])
    assert columns["at"].tolist() == [[86_400], [MISSING_DATETIME]]


def test_a_table_without_rows() -> None:
    columns = to_columns(FRAME.head(0), SCHEMA)
    assert {values.shape for values in columns.values()} == {(0, 1)}
    assert columns["job"].dtype == object


def test_numbers_too_large_for_float32_are_infinite() -> None:
    columns = to_columns(FRAME.with_columns(age=pl.Series([1e300, -1e39])), SCHEMA)
    assert columns["age"].ravel().tolist() == [np.inf, -np.inf]


def test_an_absent_column_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'job' is absent.*Did you mean 'jobs'") as caught:
        to_columns(FRAME.rename({"job": "jobs"}), SCHEMA)
    assert caught.value.column == "job"


@pytest.mark.parametrize(
    ("name", "cells", "expected", "got"),
    [
        ("age", ["3", "s3cret"], "a number", "1 of 2 values"),
        ("age", [datetime.date(2024, 1, 1)] * 2, "a number", "2 of 2 values"),
        ("on", ["yes", "s3cret"], "true or false", "1 of 2"),
        ("on", [1, 2], "true or false", "1 of 2"),
        ("at", ["2024-01-01", "s3cret"], "a date and time", "1 of 2"),
        ("at", [True, False], "a date and time", "2 of 2"),
        ("job", [datetime.date(2024, 1, 1), None], "a text", "1 of 2"),
        ("job", [[1], None], "a text", "1 of 2"),
    ],
)
def test_a_column_of_another_kind(name: str, cells: list[object], expected: str, got: str) -> None:
    with pytest.raises(InputError, match=f"expected {expected}.*got {got}") as caught:
        to_columns(FRAME.with_columns(pl.Series(name, cells)), SCHEMA)
    assert caught.value.column == name
    assert "s3cret" not in str(caught.value)


CELLS = {
    "age": st.one_of(st.none(), st.floats(width=32), st.integers(-(2**40), 2**40)).map(
        lambda cell: None if cell is None else float(cell)
    ),
    "fee": st.one_of(st.none(), st.integers(0, 10**9).map(lambda n: f"{n:,}"), st.just("?")),
    "job": st.one_of(st.none(), st.sampled_from(["a", " b ", "new", "5.0", "NA", ""])),
    "on": st.one_of(st.none(), st.booleans()),
    "at": st.one_of(
        st.none(), st.dates().map(lambda day: day.strftime("%d/%m/") + f"{day.year:04}")
    ),
}


@given(st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=8))
def test_a_table_and_a_request_give_the_same_inputs(rows: list[dict[str, object]]) -> None:
    frame = pl.DataFrame(
        [
            pl.Series("age", [row["age"] for row in rows], dtype=pl.Float64),
            pl.Series("fee", [row["fee"] for row in rows], dtype=pl.String),
            pl.Series("job", [row["job"] for row in rows], dtype=pl.String),
            pl.Series("on", [row["on"] for row in rows], dtype=pl.Boolean),
            pl.Series("at", [row["at"] for row in rows], dtype=pl.String),
        ]
    )
    table = to_columns(frame, SCHEMA)
    request = decode_columns(SCHEMA, {name: [row[name] for row in rows] for name in CELLS})
    assert list(table) == list(request)
    for name, values in table.items():
        assert values.dtype == request[name].dtype
        np.testing.assert_array_equal(values, request[name])
