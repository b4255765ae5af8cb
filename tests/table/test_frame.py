"""A Parquet file that is read by columns says what the same table in memory says."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.errors import TableError
from steadynet.spec.model import SplitSpec, TableSpec
from steadynet.table.cells import Part, to_cells
from steadynet.table.convert import to_columns
from steadynet.table.frame import ParquetFrame, bytes_in_memory, keep_rows
from steadynet.table.infer import infer_schema
from steadynet.table.quality import check_quality
from steadynet.table.read import open_table, read_table
from steadynet.table.snapshot import snapshot_sha256
from steadynet.table.split import split_rows

SPEC = TableSpec(target="y")


def mixed(rows: int = 400) -> pl.DataFrame:
    """Return columns of every kind, with gaps, duplicates and types that only Parquet knows."""
    random = np.random.default_rng(0)
    day = datetime.date(2024, 1, 1)
    frame = pl.DataFrame(
        {
            "number": pl.Series([None if n % 7 == 0 else n / 3 for n in range(rows)]),
            "flag": [n % 3 == 0 for n in range(rows)],
            "city": [("Lyon", "Turku", "", None, "Ürümqi")[n % 5] for n in range(rows)],
            "kind": pl.Series([("a", "b", "c")[n % 3] for n in range(rows)], dtype=pl.Categorical),
            "price": pl.Series([n % 90 for n in range(rows)]).cast(pl.Decimal(10, 2)),
            "wait": pl.Series([datetime.timedelta(hours=n % 40) for n in range(rows)]),
            "day": [day + datetime.timedelta(days=n % 300) for n in range(rows)],
            "y": random.choice(["no", "yes"], rows),
        }
    )
    return pl.concat([frame, frame.head(40)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A Parquet file of `mixed`."""
    file = tmp_path / "mixed.parquet"
    mixed().write_parquet(file)
    return file


def test_all_that_is_found_out_about_it_is_the_same(path: Path) -> None:
    whole = read_table(path, SPEC)
    streamed, _ = open_table(path, SPEC, stream_above=0)
    assert isinstance(streamed, ParquetFrame)
    assert (streamed.columns, streamed.height, streamed.width) == (
        whole.columns,
        whole.height,
        whole.width,
    )
    found = []
    for frame in (whole, streamed):
        schema = infer_schema(frame, SPEC, SplitSpec())
        split = split_rows(frame, schema, SplitSpec())
        findings = check_quality(frame, schema, split)
        found.append((schema, [rows.tolist() for rows in split], findings, snapshot_sha256(frame)))
    assert found[0] == found[1]
    assert any(finding.code == "duplicates_in_test" for finding in found[0][2])


def test_rows_can_be_left_out_again_and_again(path: Path) -> None:
    frame = ParquetFrame(path)
    even = pl.Series([place % 2 == 0 for place in range(frame.height)])
    kept = keep_rows(frame, even)
    fewer = keep_rows(kept, pl.Series([place < 10 for place in range(kept.height)]))
    assert fewer.height == 10
    wanted = mixed().filter(even).head(10)
    assert fewer["city"].to_list() == wanted["city"].to_list()
    rows = np.array([3, 1, 9])
    assert fewer[rows]["number"].to_list() == wanted["number"].gather(rows).to_list()
    assert keep_rows(fewer, pl.Series([True] * 10)) is fewer


def test_a_file_that_changes_meanwhile_is_refused(path: Path) -> None:
    frame = ParquetFrame(path)
    mixed().head(100).write_parquet(path)
    with pytest.raises(TableError, match="was changed while it was read"):
        frame["number"]


def test_a_file_that_is_cut_short_is_refused_whatever_its_size(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(TableError, match="cannot be read as Parquet"):
        open_table(path, SPEC, stream_above=0)


def test_only_what_is_large_is_streamed(path: Path) -> None:
    size = bytes_in_memory(path)
    assert isinstance(open_table(path, SPEC, stream_above=size)[0], pl.DataFrame)
    assert isinstance(open_table(path, SPEC, stream_above=size - 1)[0], ParquetFrame)
    assert isinstance(open_table(mixed(), SPEC, stream_above=0)[0], pl.DataFrame)


@settings(deadline=None, max_examples=60)
@given(
    texts=st.lists(st.none() | st.text(max_size=4), min_size=2, max_size=30),
    picked=st.lists(st.integers(0, 1), max_size=5),
)
def test_coded_texts_are_the_texts(texts: list[str | None], picked: list[int]) -> None:
    frame = pl.DataFrame(
        {"c": pl.Series(texts, dtype=pl.String), "y": [str(n % 2) for n in range(len(texts))]}
    )
    spec = TableSpec(target="y", kinds={"c": "category"})
    schema = infer_schema(frame, spec, SplitSpec())
    wanted, cells = to_columns(frame, schema), to_cells(frame, schema)
    assert cells["c"][:].tolist() == wanted["c"].tolist()
    rows = np.array(picked, dtype=np.int64)
    part: Any = Part(cells, rows)
    assert part["c"].tolist() == wanted["c"][rows].tolist()
    assert len(cells["c"]) == len(texts)
    assert list(part) == ["c"]
