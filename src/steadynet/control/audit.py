"""The journal of the home: what was changed that belongs to no single model, as callers' keys.

It is a chain of its own beside the models' chains, under a name that no model can have.
"""

from __future__ import annotations

from collections.abc import Mapping

from steadynet.clock import Clock, SystemClock
from steadynet.control.anchor import sign_head
from steadynet.control.journal import JournalEntry, find_breaks
from steadynet.control.store import Store
from steadynet.home import Home

HOME = "@home"


def record(
    home: Home, kind: str, text: str, data: Mapping[str, object], *, clock: Clock | None = None
) -> JournalEntry:
    """Chain an entry to the home's journal. Raises `StoreError`."""
    at = (clock or SystemClock()).now()
    with Store.of(home) as store, store.write() as tx:
        entry = tx.journal.append(HOME, at=at, kind=kind, text=text, data=data)
    sign_head(home, HOME, entry.number, entry.digest)
    return entry


def history(home: Home, count: int) -> tuple[list[JournalEntry], list[str]]:
    """Return the last entries, oldest first, and what is wrong with the whole chain."""
    with Store.of(home) as store, store.read() as tx:
        return tx.journal.last(HOME, count), find_breaks(
            tx.journal.all(HOME), tx.journal.head(HOME)
        )
