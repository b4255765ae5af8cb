"""The digest of a table's content."""

from __future__ import annotations

import datetime
import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.table.snapshot import snapshot_sha256

FRAME = pl.DataFrame(
    {
        "number": [1.5, None, -0.0],
        "whole": [1, 2, None],
        "text": ["a", "", None],
        "flag": [True, None, False],
        "day": [datetime.date(2024, 1, 1), None, datetime.date(1960, 1, 1)],
        "at": [datetime.datetime(2024, 1, 1, 1), None, None],
        "list": [[1, 2], None, []],
    }
)


def test_equal_content_has_an_equal_digest_however_it_lies_in_memory() -> None:
    chunked = pl.concat([FRAME.head(1), FRAME.slice(1)], rechunk=False)
    assert chunked["text"].n_chunks() == 2
    assert snapshot_sha256(chunked) == snapshot_sha256(FRAME)
    longer = pl.concat([FRAME, FRAME])
    assert snapshot_sha256(longer.slice(3, 3)) == snapshot_sha256(FRAME)


def test_the_digest_is_the_same_on_every_machine() -> None:
    frame = pl.DataFrame({"a": [1, None], "b": ["x", "ü"]})
    digest = "cc91f7acc6b1ac4b51561f345e070863aadb7961bd802aaf8be54e6c392f0ea5"
    assert snapshot_sha256(frame) == digest


@pytest.mark.parametrize(
    "changed",
    [
        FRAME.with_columns(number=pl.Series([1.5, None, 1e-300])),
        FRAME.with_columns(number=pl.Series([1.5, 0.0, 0.0])),
        FRAME.with_columns(whole=pl.Series([1, 3, None])),
        FRAME.with_columns(whole=pl.Series([1, None, 2])),
        FRAME.with_columns(text=pl.Series(["a", None, ""])),
        FRAME.with_columns(text=pl.Series(["", "a", None])),
        FRAME.with_columns(flag=pl.Series([True, False, False])),
        FRAME.with_columns(list=pl.Series([[1, 2], None, [3]])),
        FRAME.with_columns(pl.col("whole").cast(pl.Int32)),
        FRAME.rename({"text": "texts"}),
        FRAME.reverse(),
        FRAME.head(2),
        FRAME.select(reversed(FRAME.columns)),
        FRAME.drop("flag"),
    ],
)
def test_every_change_changes_the_digest(changed: pl.DataFrame) -> None:
    assert snapshot_sha256(changed) != snapshot_sha256(FRAME)


def test_nan_is_nan_and_zero_is_zero() -> None:
    one = pl.DataFrame({"a": [math.nan, 0.0]})
    two = pl.DataFrame({"a": [-math.nan, -0.0]})
    assert snapshot_sha256(one) == snapshot_sha256(two)
    assert snapshot_sha256(one) != snapshot_sha256(pl.DataFrame({"a": [None, 0.0]}))


TEXTS = st.lists(
    st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=3)), max_size=4
)


@given(TEXTS, TEXTS)
def test_texts_never_run_into_each_other(one: list[str | None], two: list[str | None]) -> None:
    frames = [pl.DataFrame({"a": pl.Series(cells, dtype=pl.String)}) for cells in (one, two)]
    assert (snapshot_sha256(frames[0]) == snapshot_sha256(frames[1])) == (one == two)
