"""A digest of a table's content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import polars as pl

from steadynet.table.frame import Frame

TEXT_ROWS = 1 << 20
"""Texts that are joined at a time."""


def snapshot_sha256(frame: Frame) -> str:
    """Return a SHA-256 in hex over names, types and cells, in the order of columns and rows.

    Equal tables have equal digests however they lie in memory; NaN counts as NaN whatever its
    bits, and -0.0 as 0.0.
    """
    digest = hashlib.sha256()
    digest.update(f"{frame.height} rows".encode())
    for name in frame.columns:
        series = frame[name]
        digest.update(f"|{len(series.name)}:{series.name}|{series.dtype}|".encode())
        digest.update(np.packbits(series.is_null().to_numpy()).tobytes())
        for data in _cells(series.rechunk()):
            digest.update(data)
    return digest.hexdigest()


def _cells(series: pl.Series) -> Iterator[bytes]:
    """Return a column's cells as bytes that differ whenever a cell does."""
    dtype = series.dtype
    if dtype.is_integer() or dtype.is_temporal():
        physical = series.to_physical()
        zero = pl.Series([0], dtype=physical.dtype)[0]
        yield physical.fill_null(zero).to_numpy().tobytes()
        return
    if dtype.is_float():
        floats = series.fill_null(0.0).to_numpy() + 0.0
        floats[np.isnan(floats)] = np.nan
        yield floats.tobytes()
        return
    if dtype == pl.Boolean:
        yield np.packbits(series.fill_null(False).to_numpy()).tobytes()
        return
    if dtype == pl.String:
        texts = series.fill_null("")
        yield texts.str.len_bytes().to_numpy().astype(np.int64).tobytes()
        for part in texts.to_frame().iter_slices(TEXT_ROWS):
            yield str(part.to_series().str.join().item()).encode()
        return
    # Nested and rarer types: Python's own notation, one cell a line.
    for cell in series:
        yield repr(cell).encode() + b"\n"
