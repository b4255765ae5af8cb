"""The journal's chain: entries that cannot be changed without being noticed. Pure.

Invariants:
- The digest of an entry covers all of its fields and the digest of the entry before it, so that
  changing, removing or inserting an entry breaks the chain at that place.
- Numbers run from 1 without a gap, per model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from steadynet.files import sha256_bytes

CODE = "steadynet"
"""Key of an entry's data: the version of the code that wrote it."""
GENESIS = "0" * 64
"""What the first entry of a model names as the digest before it."""


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was observed, decided or done."""

    model: str
    number: int
    at: float
    """Seconds UTC."""
    kind: str
    """What it is about, as "rollout.aborted"."""
    text: str
    """One sentence for people, with its numbers."""
    data_json: str
    """The inputs, statistics and thresholds behind it, as the JSON text that was digested."""
    previous: str
    digest: str

    @property
    def data(self) -> dict[str, Any]:
        """The inputs, statistics and thresholds behind the entry."""
        decoded: dict[str, Any] = msgspec.json.decode(self.data_json)
        return decoded


def make_entry(
    *, model: str, number: int, at: float, kind: str, text: str, data_json: str, previous: str
) -> JournalEntry:
    """Return the entry with its digest."""
    return JournalEntry(
        model=model,
        number=number,
        at=at,
        kind=kind,
        text=text,
        data_json=data_json,
        previous=previous,
        digest=_digest(previous, model, number, at, kind, text, data_json),
    )


def find_forgery(entries: Iterable[JournalEntry], anchor: tuple[int, str]) -> list[str]:
    """Return what is wrong with a chain beside a signed number and digest of one of its entries.

    A chain that was written anew from some entry on is whole in itself; what was signed before
    then is no longer in it.
    """
    number, digest = anchor
    found = next((entry for entry in entries if entry.number == number), None)
    if found is None:
        return [f"entry {number}, which was signed, is missing"]
    if found.digest != digest:
        return [f"entry {number} is not the one that was signed: the journal was written anew"]
    return []


def find_breaks(entries: Iterable[JournalEntry], head: tuple[int, str] | None) -> list[str]:
    """Return what is wrong with a model's chain of entries, in order; empty where it is whole.

    `head` is the number and digest of the last entry as it was kept apart from the entries, so
    that cutting off the end is noticed too.
    """
    problems: list[str] = []
    number, previous = 0, GENESIS
    for entry in entries:
        if entry.number != number + 1:
            problems.append(f"entries {number + 1} to {entry.number - 1} are missing")
        elif entry.previous != previous:
            problems.append(f"entry {entry.number} does not follow entry {number}")
        expected = _digest(
            entry.previous,
            entry.model,
            entry.number,
            entry.at,
            entry.kind,
            entry.text,
            entry.data_json,
        )
        if entry.digest != expected:
            problems.append(f"entry {entry.number} was changed")
        number, previous = entry.number, entry.digest
    if (number, previous) != (head or (0, GENESIS)):
        kept = 0 if head is None else head[0]
        problems.append(f"the journal ends at entry {number}; its kept head is entry {kept}")
    return problems


def _digest(*fields: str | float) -> str:
    return sha256_bytes(msgspec.json.encode(fields))
