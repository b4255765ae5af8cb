"""Read a CSV file strictly: what is odd about it is said, never silently repaired."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from steadynet.errors import TableError
from steadynet.table.findings import Finding
from steadynet.table.values import BLANKS

SEPARATORS = (",", ";", "\t", "|")
SNIFF_RECORDS = 200
SNIFF_CHARACTERS = 1 << 20
DECODE_BYTES = 1 << 22
FALLBACK_ENCODINGS = {"cp1252": "Windows-1252", "latin-1": "Latin-1"}
"""What a file is read as that is not UTF-8, in this order, and its name."""


def read_csv(path: Path, findings: list[Finding]) -> pl.DataFrame:
    """Return the file's cells as texts, an empty cell as null.

    UTF-8 with or without a byte order mark, else Windows-1252 or Latin-1 (a note is added to
    `findings`); separated by comma, semicolon, tab or bar, whichever gives the most regular rows.
    Raises `TableError` for a file without rows, duplicate names, and rows longer or shorter than
    the header.
    """
    data = path.read_bytes()
    if not data.strip():
        raise TableError(f"{path.name} is empty", expected="a header and rows", got="no content")
    encoding = _encoding(data)
    if encoding in FALLBACK_ENCODINGS:
        findings.append(
            Finding(
                level="note",
                code="encoding",
                message=f"{path.name} is not UTF-8 and was read as {FALLBACK_ENCODINGS[encoding]}",
            )
        )
    separator = sniff_separator(_open(data, encoding).read(SNIFF_CHARACTERS))
    names = _check_records(_open(data, encoding), separator, path.name)
    frame = pl.read_csv(
        _as_utf8(data, encoding),
        infer_schema=False,
        separator=separator,
        has_header=True,
        new_columns=names,
    )
    # Blank lines are read as rows without a value.
    if frame.width > 1:
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    if frame.height == 0:
        raise _no_rows(path.name)
    return frame


def _encoding(data: bytes) -> str:
    """Return the encoding of a file: UTF-16 by its mark, else the first that all bytes fit."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if _fits(data, "utf-8"):
        return "utf-8-sig"
    return next(encoding for encoding in FALLBACK_ENCODINGS if _fits(data, encoding))


def _fits(data: bytes, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for start in range(0, len(data), DECODE_BYTES):
            decoder.decode(data[start : start + DECODE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _open(data: bytes, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline="")


def _as_utf8(data: bytes, encoding: str) -> bytes:
    if encoding == "utf-8-sig":
        return data.removeprefix(codecs.BOM_UTF8)
    return data.decode(encoding).encode()


def sniff_separator(text: str) -> str:
    """Return the separator that cuts the first records into the most alike rows.

    The share of records as long as the header decides, then the number of columns; a single
    column has no separator, and a comma is returned.
    """
    best, best_score = SEPARATORS[0], (0.0, 0)
    for separator in SEPARATORS:
        try:
            lengths = _lengths(text, separator)
        except csv.Error:
            continue
        if not lengths or lengths[0] < 2:
            continue
        alike = lengths.count(lengths[0]) / len(lengths)
        if (alike, lengths[0]) > best_score:
            best, best_score = separator, (alike, lengths[0])
    return best


def _lengths(text: str, separator: str) -> list[int]:
    lengths = []
    for record in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
        if record:
            lengths.append(len(record))
        if len(lengths) == SNIFF_RECORDS:
            break
    return lengths


def _check_records(lines: Iterable[str], separator: str, name: str) -> list[str]:
    """Read every record once, refuse what cannot be a table, and return the header's names."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
    odd: list[int] = []
    rows = 0
    try:
        header = [cell.strip(BLANKS) for cell in next(reader, [])]
        width = len(header)
        for record in reader:
            if not record:
                continue
            rows += 1
            if len(record) != width:
                odd.append(reader.line_num)
    except csv.Error as error:
        raise TableError(
            f"{name} is not a well-formed CSV file", got=f"line {reader.line_num}: {error}"
        ) from error
    if rows == 0:
        raise _no_rows(name)
    if odd:
        raise TableError(
            f"{name} has rows that do not fit its header",
            expected=f"{width} cells in each row, separated by {_name(separator)}",
            got=f"{len(odd)} rows with more or fewer cells, the first at line {odd[0]}",
            do="Quote cells that hold the separator, and fill short rows.",
        )
    _check_names(header, name)
    return header


def _no_rows(name: str) -> TableError:
    return TableError(f"{name} has no rows", expected="a header and rows", got="a header alone")


def _check_names(header: list[str], name: str) -> None:
    counts = Counter(column for column in header if column)
    twice = sorted(column for column, count in counts.items() if count > 1)
    if twice:
        raise TableError(
            f"{name} has columns of the same name",
            expected="a name of its own for each column",
            got=", ".join(repr(column) for column in twice[:5]),
        )


def _name(separator: str) -> str:
    return {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}[separator]
