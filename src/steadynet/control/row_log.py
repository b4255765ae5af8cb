"""The log of answered rows as Parquet files that other programs read.

Files are `<model>-<first>-<last>.parquet`, named by the numbers of the stored rows in them, so that
the folder itself says how far an export has come: each row is in one file, however often and from
wherever it is exported. Redacted columns are null: their values were never kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steadynet.control.store import Store
from steadynet.home import Home
from steadynet.monitoring.records import LoggedRow
from steadynet.table.schema import Column, Schema

if TYPE_CHECKING:
    import polars as pl

FILE_ROWS = 100_000


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What one export did."""

    files: tuple[Path, ...]
    rows: int
    removed: tuple[Path, ...]
    """Old files beyond the number to keep."""


def export_rows(
    home: Home, model: str, schema: Schema, folder: Path, *, keep: int, file_rows: int = FILE_ROWS
) -> Exported:
    """Write the rows that the folder does not hold yet; remove the oldest beyond `keep` files.

    Raises `StoreError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    after = max((last for _, last, _ in _files(folder, model)), default=0)
    written: list[Path] = []
    rows = 0
    with Store.of(home) as store:
        while True:
            with store.read() as tx:
                found = tx.observations.rows_after(model, after=after, limit=file_rows)
            if not found:
                break
            first, after = found[0][0], found[-1][0]
            path = folder / f"{model}-{first:012d}-{after:012d}.parquet"
            _write(path, to_frame([row for _, row in found], schema))
            written.append(path)
            rows += len(found)
    old = [path for _, _, path in _files(folder, model)][: -keep or None]
    for path in old:
        path.unlink()
    return Exported(files=tuple(written), rows=rows, removed=tuple(old))


def to_frame(rows: Sequence[LoggedRow], schema: Schema) -> pl.DataFrame:
    """Return rows as a table: `id`, `at`, `version`, `role`, the outputs, then `row.<column>`."""
    import polars as pl

    at = pl.Series("at", [int(row.at * 1e6) for row in rows], dtype=pl.Int64)
    columns = [
        pl.Series("id", [row.id for row in rows], dtype=pl.String),
        at.cast(pl.Datetime("us", "UTC")),
        pl.Series("version", [row.version for row in rows], dtype=pl.String),
        pl.Series("role", [row.role for row in rows], dtype=pl.String),
        pl.Series("label", [row.label for row in rows], dtype=pl.String),
        pl.Series(
            "probabilities",
            [list(row.probabilities) or None for row in rows],
            dtype=pl.List(pl.Float64),
        ),
        pl.Series("prediction", [row.prediction for row in rows], dtype=pl.Float64),
    ]
    return pl.DataFrame([*columns, *(_cells(rows, column) for column in schema.features)])


def _cells(rows: Sequence[LoggedRow], column: Column) -> pl.Series:
    """Return one column as callers sent it: numbers as numbers, everything else as text."""
    import polars as pl

    values = [row.row.get(column.name) for row in rows]
    texts = [None if value is None else _text(value) for value in values]
    series = pl.Series(f"row.{column.name}", texts, dtype=pl.String)
    return series.cast(pl.Float64, strict=False) if column.kind == "number" else series


def _text(value: str | float | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write(path: Path, frame: pl.DataFrame) -> None:
    temporary = path.with_suffix(".part")
    frame.write_parquet(temporary, compression="zstd")
    os.replace(temporary, path)


def _files(folder: Path, model: str) -> list[tuple[int, int, Path]]:
    """Return first and last number of each of a model's files, oldest first."""
    pattern = re.compile(re.escape(model) + r"-(\d{12})-(\d{12})\.parquet")
    found = []
    for path in folder.iterdir():
        if match := pattern.fullmatch(path.name):
            found.append((int(match[1]), int(match[2]), path))
    return sorted(found)
