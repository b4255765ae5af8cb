"""The words for kinds of columns and tasks, and the spellings of a missing value."""

from __future__ import annotations

from typing import Literal

Kind = Literal[
    "number", "boolean", "category", "datetime", "identifier", "constant", "text", "ignored"
]
Task = Literal["binary", "multiclass", "regression"]


MISSING_SPELLINGS: tuple[str, ...] = (
    "",
    "?",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "NaN",
    "nan",
    "NULL",
    "null",
    "None",
    "none",
    "-",
)
"""Texts that mean "no value" unless the spec says otherwise; blanks around them do not count."""
