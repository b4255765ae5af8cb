"""What checks of a table find, for people and for programs."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["error", "warning", "note"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was found. An error stops training; warnings and notes are told."""

    level: Level
    code: str
    """A fixed word for programs, as `leak`."""
    message: str
    column: str | None = None
