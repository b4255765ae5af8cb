"""A table that is asked for a column at a time: a Polars frame, or a large Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt
import polars as pl

from steadynet.errors import TableError

Rows = npt.NDArray[np.int64]

STRING_BYTES = 24
"""About what a text takes in memory."""
CELL_BYTES = 8
NANOSECONDS = 1_000_000_000


class Frame(Protocol):
    """What reading a table needs of it. `pl.DataFrame` is one."""

    @property
    def columns(self) -> list[str]:
        """The names, in order."""
        ...

    @property
    def height(self) -> int:
        """The number of rows."""
        ...

    @property
    def width(self) -> int:
        """The number of columns."""
        ...

    @overload
    def __getitem__(self, key: str) -> pl.Series: ...

    @overload
    def __getitem__(self, key: Rows) -> pl.DataFrame: ...

    def __getitem__(self, key: Any) -> Any:
        """Return a column by its name, or all columns of some rows (n,)."""
        ...


class ParquetFrame:
    """A Parquet file of which one column at a time is in memory.

    Invariant: every column is of the file as it was when this was made, else `TableError`.
    """

    def __init__(
        self, path: Path, untouched: frozenset[str] = frozenset(), kept: Rows | None = None
    ) -> None:
        """Take the path, columns whose type is left, and the rows that count, all unless given."""
        self._path = path
        self._untouched = untouched
        self._kept = kept
        self._state = _state(path)
        self._schema = pl.read_parquet_schema(path)
        rows = pl.scan_parquet(path).select(pl.len()).collect().item()
        self._rows = int(rows) if kept is None else len(kept)

    @property
    def columns(self) -> list[str]:
        """The names, in order."""
        return list(self._schema)

    @property
    def height(self) -> int:
        """The number of rows."""
        return self._rows

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self._schema)

    @overload
    def __getitem__(self, key: str) -> pl.Series: ...

    @overload
    def __getitem__(self, key: Rows) -> pl.DataFrame: ...

    def __getitem__(self, key: str | Rows) -> pl.Series | pl.DataFrame:
        """Read a column, or some rows (n,) of all columns, one after the other."""
        if not isinstance(key, str):
            return pl.DataFrame([self[name][key] for name in self.columns])
        if _state(self._path) != self._state:
            raise TableError(
                f"{self._path.name} was changed while it was read",
                expected="a file that stays as it is until training is done",
                do="Train again once it is written.",
            )
        try:
            series = pl.read_parquet(self._path, columns=[key], memory_map=False)[key]
        except (pl.exceptions.PolarsError, OSError) as error:
            raise TableError(
                f"{self._path.name} cannot be read as Parquet",
                expected="a well-formed Parquet file",
                got=f"a {type(error).__name__} of the reader at the column {key!r}",
            ) from error
        if self._kept is not None:
            series = series[self._kept]
        return series if key in self._untouched else plain_series(series)

    def keep(self, rows: Rows) -> ParquetFrame:
        """Return the frame of some of its rows (n,)."""
        return ParquetFrame(
            self._path, self._untouched, rows if self._kept is None else self._kept[rows]
        )


def keep_rows(frame: Frame, kept: pl.Series) -> Frame:
    """Return the rows where `kept` (N,) is true."""
    if kept.all():
        return frame
    if isinstance(frame, ParquetFrame):
        return frame.keep(kept.arg_true().to_numpy().astype(np.int64))
    assert isinstance(frame, pl.DataFrame)  # the two kinds that there are
    return frame.filter(kept)


def bytes_in_memory(path: Path) -> int:
    """Return about what a Parquet file's cells take in memory."""
    schema = pl.read_parquet_schema(path)
    rows: int = pl.scan_parquet(path).select(pl.len()).collect().item()
    cells = (STRING_BYTES if dtype == pl.String else CELL_BYTES for dtype in schema.values())
    return rows * sum(cells)


def plain_series(series: pl.Series) -> pl.Series:
    """Turn a type that only some formats know into one that `table.parse` takes."""
    dtype = series.dtype
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return series.cast(pl.String)
    if isinstance(dtype, pl.Decimal):
        return series.cast(pl.Float64)
    if isinstance(dtype, pl.Duration):
        return series.dt.total_nanoseconds().cast(pl.Float64) / NANOSECONDS
    if dtype == pl.Time:
        return series.cast(pl.Int64).cast(pl.Float64) / NANOSECONDS
    return series


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
