"""What the doctor says: plain data for people and programs."""

from __future__ import annotations

import msgspec

from steadynet.table.findings import Level

MOST_ROWS = 20
"""Rows that a symptom names; it counts all."""


class Symptom(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong or odd."""

    level: Level
    code: str
    """A fixed word for programs, as `label_error`."""
    message: str
    column: str | None = None
    rows: tuple[int, ...] = ()
    """Row numbers as in the file, the first row of data being 1; the surest first."""
    count: int = 0
    """Rows concerned in all."""
    do: str = ""
    """What a person can do about it."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All symptoms of a table, the most harmful first."""

    rows: int
    columns: int
    target: str
    task: str
    symptoms: tuple[Symptom, ...]
    sampled: int = 0
    """Rows that the trees of the costly checks were fitted on at most, 0 where on all; they look
    at every row either way."""
