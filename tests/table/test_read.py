"""Reading tables: files and objects, odd and broken ones."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from steadynet.errors import TableError
from steadynet.spec.model import TableSpec
from steadynet.table.csv_file import sniff_separator
from steadynet.table.read import read_table, read_with_findings

SPEC = TableSpec()
WriteCsv = Callable[..., Path]


def cells(source: object) -> list[tuple[object, ...]]:
    """Return a table's rows."""
    return read_table(source, SPEC).rows()


def test_csv_cells_stay_texts(write_csv: WriteCsv) -> None:
    path = write_csv("a,b\n007,1.50\n,NA\n")
    assert cells(path) == cells(str(path)) == [("007", "1.50"), (None, "NA")]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_found(write_csv: WriteCsv, separator: str) -> None:
    lines = ["a{0}b{0}c", '1{0}"x{0}y"{0}3', "4{0}5{0}6"]
    path = write_csv("\n".join(lines).format(separator))
    assert cells(path) == [("1", f"x{separator}y", "3"), ("4", "5", "6")]


def test_decimal_commas_do_not_pass_for_separators() -> None:
    assert sniff_separator("a;b;c\n1,5;2,5;x\n3,5;4,5;y\n") == ";"
    assert sniff_separator("only\n1\n2\n") == ","


def test_a_byte_order_mark_is_no_part_of_the_first_name(write_csv: WriteCsv) -> None:
    frame = read_table(write_csv(b"\xef\xbb\xbfname,b\nZ\xc3\xbcrich,1\n"), SPEC)
    assert frame.columns == ["name", "b"]
    assert frame["name"].to_list() == ["Zürich"]


def test_latin_1_is_read_and_said(write_csv: WriteCsv) -> None:
    read = read_with_findings(write_csv("ort,b\nZürich,1\n".encode("latin-1")), SPEC)
    assert read.frame["ort"].to_list() == ["Zürich"]
    assert [finding.code for finding in read.findings] == ["encoding"]


def test_utf_16_is_read_by_its_mark(write_csv: WriteCsv) -> None:
    assert cells(write_csv("a,b\nü,1\n".encode("utf-16"))) == [("ü", "1")]


def test_quotes_lines_and_blank_lines(write_csv: WriteCsv) -> None:
    path = write_csv('a ,"b"\r\n"x ""q""\r\ny",1\r\n\r\n2,3\r\n\r\n')
    frame = read_table(path, SPEC)
    assert frame.columns == ["a", "b"]
    assert frame.rows() == [('x "q"\r\ny', "1"), ("2", "3")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"  \n\n", "is empty"),
        (b"a,b\n", "no rows"),
        (b"a,b\n\n\n", "no rows"),
        (b"a,b,a\n1,2,3\n", "columns of the same name.*'a'"),
        (b"a,b\n1,2\n1,2,3\n4\n", "2 rows with more or fewer cells, the first at line 3"),
        (b'a,b\n1,"2\n3,4\n', "well-formed.*line 3"),
        (b'a,b\n1,"2"x\n', "well-formed.*line 2"),
    ],
)
def test_broken_csv_files(write_csv: WriteCsv, content: bytes, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_table(write_csv(content), SPEC)


def test_no_message_shows_a_cell(write_csv: WriteCsv) -> None:
    with pytest.raises(TableError) as caught:
        read_table(write_csv("a,b\nhunter2,1,hunter2\n"), SPEC)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["table.xlsx", "table", "table.csv.gz"])
def test_unknown_endings(tmp_path: Path, name: str) -> None:
    with pytest.raises(TableError, match=r"ends in \.csv"):
        read_table(tmp_path / name, SPEC)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no file"):
        read_table(tmp_path / "no.csv", SPEC)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TableError, match="is not a file"):
        read_table(tmp_path / "folder.csv", SPEC)


def test_a_parquet_file(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1, None], "b": ["x", "y"]})
    frame.write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", SPEC).equals(frame)


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(TableError, match="cannot be read as Parquet"):
        read_table(tmp_path / "t.parquet", SPEC)


def test_a_parquet_file_replaced_after_reading_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pl.DataFrame({"a": [1, 2]}).write_parquet(path)
    frame = read_table(path, SPEC)
    path.write_bytes(b"overwritten")
    assert frame["a"].to_list() == [1, 2]


def test_pandas_types() -> None:
    table = pd.DataFrame(
        {
            "mixed": pd.Series(["a", 1, None, 2.0, True], dtype=object),
            "category": pd.Categorical(["x", None, "y", "x", "x"]),
            "whole": pd.array([1, None, 2, 3, 4], dtype="Int64"),
            "float": [1.5, np.nan, 2.0, np.inf, 0.0],
            "time": pd.to_datetime(["2020-01-01 12:00"] * 4 + [""]).tz_localize("Europe/Berlin"),
            "flag": pd.array([True, None, False, True, True], dtype="boolean"),
            "length": pd.to_timedelta([1, 2, 3, 4, 90], unit="s"),
            7: list("abcde"),
        }
    )
    frame = read_table(table, SPEC)
    assert frame["mixed"].to_list() == ["a", "1", None, "2", "true"]
    assert frame["category"].to_list() == ["x", None, "y", "x", "x"]
    assert frame["whole"].to_list() == [1, None, 2, 3, 4]
    assert frame["float"].to_list() == [1.5, None, 2.0, float("inf"), 0.0]
    assert frame["time"].dt.epoch("s").to_list()[0] == 1_577_876_400
    assert frame["time"].null_count() == 1
    assert frame["flag"].to_list() == [True, None, False, True, True]
    assert frame["length"].to_list() == [1.0, 2.0, 3.0, 4.0, 90.0]
    assert frame["7"].to_list() == list("abcde")


def test_pandas_objects_that_cannot_be_read() -> None:
    table = pd.DataFrame({"a": pd.Series([{1: 2}, "x", 3], dtype=object)})
    with pytest.raises(TableError, match="'a' holds objects"):
        read_table(table, SPEC)


def test_pandas_columns_of_one_name() -> None:
    table = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(TableError, match="same name"):
        read_table(table, SPEC)


def test_arrow_tables_and_batches() -> None:
    batch = pa.RecordBatch.from_pydict({"a": [1, None], "b": ["x", "y"]})
    expected = [(1, "x"), (None, "y")]
    assert cells(batch) == cells(pa.Table.from_batches([batch])) == expected


def test_polars_types_become_plain() -> None:
    frame = pl.DataFrame(
        {
            "c": pl.Series(["x", "y"], dtype=pl.Categorical),
            "e": pl.Series(["x", "y"], dtype=pl.Enum(["x", "y"])),
            "d": [decimal.Decimal("1.50"), None],
            "t": [datetime.time(1, 0, 0), datetime.time(0, 0, 1)],
        }
    )
    plain = read_table(frame.lazy(), SPEC)
    assert plain.rows() == [("x", "x", 1.5, 3600.0), ("y", "y", None, 1.0)]


def test_columns_without_a_name_are_called_by_their_place(write_csv: WriteCsv) -> None:
    read = read_with_findings(write_csv(",x\n0,a\n1,b\n"), SPEC)
    assert read.frame.columns == ["column_1", "x"]
    assert [finding.column for finding in read.findings] == ["column_1"]


@pytest.mark.parametrize("source", [42, None, [1, 2], {"a": [1]}, pd.Series([1])])
def test_objects_that_are_no_tables(source: object) -> None:
    with pytest.raises(TableError, match="not a table"):
        read_table(source, SPEC)


def test_a_table_without_columns() -> None:
    with pytest.raises(TableError, match="no columns"):
        read_table(pl.DataFrame(), SPEC)
