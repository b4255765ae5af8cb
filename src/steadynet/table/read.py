"""Read a table from a file or an object in memory, as it is: kinds are inferred elsewhere."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from steadynet.errors import TableError
from steadynet.spec.model import TableSpec
from steadynet.table.csv_file import read_csv
from steadynet.table.findings import Finding
from steadynet.table.frame import Frame, ParquetFrame, bytes_in_memory, plain_series
from steadynet.table.values import BLANKS, category

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

CSV_SUFFIXES = (".csv", ".tsv", ".txt")
PARQUET_SUFFIXES = (".parquet", ".pq")


class Read(NamedTuple):
    """A table as it was read, and what there is to say about the reading."""

    frame: pl.DataFrame
    findings: tuple[Finding, ...]


def read_table(source: object, spec: TableSpec) -> pl.DataFrame:
    """Return the frame of `read_with_findings` alone."""
    return read_with_findings(source, spec).frame


def read_with_findings(source: object, spec: TableSpec) -> Read:
    """Read a CSV or Parquet file by its path, or a pandas, Polars or Arrow table.

    CSV cells stay texts. Other types become what `table.parse` takes: decimals and durations
    (seconds) become floats, category types texts. Raises `TableError` for a file that is absent,
    empty or malformed, a suffix or type that is not known, and duplicate column names.
    """
    findings: list[Finding] = []
    if isinstance(source, str | Path):
        frame = _read_file(Path(source), findings)
    else:
        frame = _read_object(source)
    if frame.width == 0:
        raise TableError("the table has no columns", got="an empty table")
    frame = _name_blank_columns(frame, findings)
    if isinstance(source, str | Path) and Path(source).suffix.lower() in CSV_SUFFIXES:
        frame = _with_empty_labels(frame, spec)
    return Read(_plain(frame, spec), tuple(findings))


def open_table(
    source: object, spec: TableSpec, *, stream_above: float
) -> tuple[Frame, tuple[Finding, ...]]:
    """Return a table as `read_with_findings` does, or a large Parquet file to read by columns.

    A Parquet file counts as large where its cells would take more than `stream_above` bytes.
    """
    path = Path(source) if isinstance(source, str | Path) else None
    if path is not None and path.suffix.lower() in PARQUET_SUFFIXES and path.is_file():
        try:
            streamed = bytes_in_memory(path) > stream_above
            frame = ParquetFrame(path, frozenset(spec.drop)) if streamed else None
        except (pl.exceptions.PolarsError, OSError):
            frame = None  # what is wrong with it is said by reading it whole
        if frame is not None and all(name.strip(BLANKS) for name in frame.columns):
            return frame, ()
    return read_with_findings(source, spec)


def _read_file(path: Path, findings: list[Finding]) -> pl.DataFrame:
    suffix = path.suffix.lower()
    if suffix not in CSV_SUFFIXES + PARQUET_SUFFIXES:
        raise TableError(
            f"{path.name} is not a table that can be read",
            expected="a file that ends in " + ", ".join(CSV_SUFFIXES + PARQUET_SUFFIXES),
            got=f"the ending {path.suffix!r}",
        )
    if not path.is_file():
        raise TableError(
            f"there is no file {path}" if not path.exists() else f"{path} is not a file",
            expected="the path of a CSV or Parquet file",
            do="Check the path and the folder that you are in.",
        )
    try:
        if suffix in CSV_SUFFIXES:
            return read_csv(path, findings)
        # No memory map: a file that is replaced meanwhile must not change the frame.
        return pl.read_parquet(path, memory_map=False)
    except pl.exceptions.PolarsError as error:
        # The error's own text can hold cells.
        kind = "CSV" if suffix in CSV_SUFFIXES else "Parquet"
        raise TableError(
            f"{path.name} cannot be read as {kind}",
            expected=f"a well-formed {kind} file",
            got=f"a {type(error).__name__} of the reader",
        ) from error
    except OSError as error:
        raise TableError(f"{path} cannot be read", got=error.strerror or str(error)) from error


def _read_object(source: object) -> pl.DataFrame:
    """Return a table in memory as a Polars frame, told by its module's name.

    pandas and pyarrow are not imported for it: who passes their tables has imported them.
    """
    if isinstance(source, pl.DataFrame):
        return source
    if isinstance(source, pl.LazyFrame):
        return source.collect()
    library = type(source).__module__.partition(".")[0]
    name = type(source).__name__
    if library == "pandas" and name == "DataFrame":
        return _from_pandas(source)  # type: ignore[arg-type]
    if library == "pyarrow" and name in ("Table", "RecordBatch"):
        return _from_arrow(source)
    raise TableError(
        "that is not a table that can be read",
        expected="a path, or a pandas, Polars or Arrow table",
        got=f"{library}.{name}",
    )


def _from_pandas(table: pd.DataFrame) -> pl.DataFrame:
    names = [str(name) for name in table.columns]
    _check_unique(names)
    columns = [_series_from_pandas(name, table.iloc[:, place]) for place, name in enumerate(names)]
    return pl.DataFrame(columns)


def _series_from_pandas(name: str, column: pd.Series[Any]) -> pl.Series:
    """Return a pandas column; objects of several types are read as texts, one by one."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(column.dtype, pd.DatetimeTZDtype):
        # Without a zone times are UTC here; pyarrow asks pandas for zones in a deprecated way.
        column = column.dt.tz_convert(None)
    try:
        return pl.Series(name, pl.from_arrow(pa.array(column, from_pandas=True)))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError):
        cells = column.astype(object).where(column.notna(), None).tolist()
    try:
        texts = [None if cell is None else category(cell, ()) for cell in cells]
    except ValueError as error:
        raise TableError(
            f"the column {name!r} holds objects that cannot be read",
            expected="texts, numbers, true and false, or dates",
            got=str(error),
            do="Drop the column, or convert it to text.",
        ) from error
    return pl.Series(name, texts, dtype=pl.String)


def _from_arrow(table: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    _check_unique(list(table.schema.names))
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _check_unique(names: list[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise TableError(
            "the table has columns of the same name",
            expected="a name of its own for each column",
            got=", ".join(repr(name) for name in twice[:5]),
        )


def _name_blank_columns(frame: pl.DataFrame, findings: list[Finding]) -> pl.DataFrame:
    """Name columns without a name by their place; pandas writes its index so."""
    blank = {
        name: f"column_{place}"
        for place, name in enumerate(frame.columns, start=1)
        if not name.strip(BLANKS)
    }
    if not blank:
        return frame
    _check_unique([blank.get(name, name) for name in frame.columns])
    for name in blank.values():
        findings.append(
            Finding(
                level="note",
                code="unnamed_column",
                column=name,
                message=f"a column without a name is called {name!r}",
            )
        )
    return frame.rename(blank)


def _with_empty_labels(frame: pl.DataFrame, spec: TableSpec) -> pl.DataFrame:
    """Return a CSV file's frame where an empty cell of labels is a text: no label, but known."""
    if spec.labels_separator is None or spec.target not in frame.columns:
        return frame
    return frame.with_columns(pl.col(spec.target).fill_null(""))


def _plain(frame: pl.DataFrame, spec: TableSpec) -> pl.DataFrame:
    """Turn the types that only some formats know into those that `table.parse` takes."""
    return frame.with_columns(
        plain_series(frame[name]) for name in frame.columns if name not in spec.drop
    )
