"""Silences: a person's word that alerts of a model need not be told for a while. Pure.

Laws:
- A silence has an end, `MOST_S` away at most. What it kept back and still holds then is told.
- It keeps back what is new: an alert, or a ticket that becomes a page. What was told before goes on
  as told, and its end is told.
- It hides nothing from whoever looks: alerts open, and are written down, as they always are.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

MOST_S = 7 * 86_400.0
"""The longest silence: what shall be quiet for longer is not wanted as an alert."""


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """One silence of a model's alerts."""

    id: int
    """Counted for each model; the same number is never given twice."""
    key: str
    """The alerts' key, or its beginning before a `/`; empty: all of the model."""
    since: float
    """Seconds UTC."""
    until: float
    reason: str
    by: str
    """Who said so."""
    alertmanager: str = ""
    """Id of the silence that Alertmanager keeps in the program's place; empty where none does."""

    def covers(self, key: str, now: float) -> bool:
        """Tell whether an alert's key is silenced here at `now`."""
        named = self.key in ("", key) or key.startswith(f"{self.key}/")
        return named and now < self.until and not self.alertmanager


def silencing(silences: Iterable[Silence], key: str, now: float) -> str:
    """Say why an alert's key is not told at `now`; empty where it is told."""
    found = [silence for silence in silences if silence.covers(key, now)]
    return words(max(found, key=lambda silence: silence.until)) if found else ""


def words(silence: Silence) -> str:
    """Return until when, by whom and why, as it is read aloud."""
    until = datetime.fromtimestamp(silence.until, UTC)
    return f"silenced until {until:%Y-%m-%d %H:%M} UTC by {silence.by}: {silence.reason}"


def what(silence: Silence) -> str:
    """Name the alerts that a silence is about."""
    return f"alerts {silence.key}" if silence.key else "all alerts"
