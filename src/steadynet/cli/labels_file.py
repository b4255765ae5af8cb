"""A file of labels: CSV with the columns id, label and, if known, at, value and influenced."""

from __future__ import annotations

import csv
import math
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from steadynet.control.labels import truth_of
from steadynet.errors import TableError
from steadynet.monitoring.records import Feedback
from steadynet.table.schema import Target

YES_OR_NO = MappingProxyType(
    {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
)
BadLine = tuple[int, str]
"""Line number in the file, and what is wrong with it; never a value."""


def read_labels(path: Path, target: Target) -> tuple[list[Feedback], list[BadLine]]:
    """Return the labels that fit the target, and the lines that are none.

    Raises `TableError` where the file cannot be read or lacks a column.
    """
    good: list[Feedback] = []
    bad: list[BadLine] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            absent = [name for name in ("id", "label") if name not in (reader.fieldnames or [])]
            if absent:
                raise TableError(
                    f"{path.name} lacks the column {absent[0]!r}",
                    expected="the columns id,label and, if known, at, value and influenced",
                    got=", ".join(repr(name) for name in reader.fieldnames or []) or "nothing",
                )
            for row in reader:
                item = _label(row, target)
                if isinstance(item, str):
                    bad.append((reader.line_num, item))
                else:
                    good.append(item)
    except OSError as error:
        raise TableError(f"{path} cannot be read", got=error.strerror) from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path} cannot be read", expected="a text in UTF-8") from error
    except csv.Error as error:
        raise TableError(f"{path} is not valid CSV", got=str(error)) from error
    return good, bad


def _label(row: dict[str, str], target: Target) -> Feedback | str:
    """Return a line's label, or what is wrong with it."""
    row_id, label, at = row["id"], row["label"], row.get("at")
    if not row_id:
        return "the id is missing"
    if label is None or (not label and target.labels is None):
        return "the label is missing"
    if truth_of(target, label) is None:
        if target.labels is not None:
            return "none of the labels was in the training table"
        kind = (
            "a number" if target.task == "regression" else f"one of {len(target.classes)} classes"
        )
        return f"the label is not {kind}"
    try:
        known = _seconds(at) if at else 0.0
    except ValueError:
        return "`at` is no time (ISO 8601, or seconds since 1970 UTC)"
    try:
        worth = float(row["value"]) if row.get("value") else None
    except ValueError:
        return "`value` is no number"
    if worth is not None and not math.isfinite(worth):
        return "`value` is not finite"
    influenced = (row.get("influenced") or "false").strip().lower()
    if influenced not in YES_OR_NO:
        return "`influenced` is neither true nor false"
    truth = float(label) if target.task == "regression" else label
    return Feedback(id=row_id, label=truth, at=known, value=worth, influenced=YES_OR_NO[influenced])


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
