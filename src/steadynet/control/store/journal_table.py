"""The journal: appended to, read, never changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

import steadynet
from steadynet.control.journal import CODE, GENESIS, JournalEntry, make_entry
from steadynet.control.store import tables
from steadynet.control.store.upsert import upsert

_HEAD = sa.select(tables.journal_heads.c.number, tables.journal_heads.c.digest).where(
    tables.journal_heads.c.model == sa.bindparam("of")
)


class JournalTable:
    """The journals of all models within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(
        self, model: str, *, at: float, kind: str, text: str, data: Mapping[str, object]
    ) -> JournalEntry:
        """Chain an entry to the model's journal and return it. `data` must be JSON's.

        The version of the code that decides is written beside it.
        """
        head = self.head(model)
        number, previous = head or (0, GENESIS)
        entry = make_entry(
            model=model,
            number=number + 1,
            at=at,
            kind=kind,
            # PostgreSQL's texts hold no NUL, and an error's words may.
            text=text.replace("\x00", "\ufffd"),
            data_json=msgspec.json.encode(
                {**data, CODE: steadynet.__version__}, order="sorted"
            ).decode(),
            previous=previous,
        )
        self._connection.execute(sa.insert(tables.journal).values(msgspec.structs.asdict(entry)))
        upsert(
            self._connection,
            tables.journal_heads,
            [{"model": model, "number": entry.number, "digest": entry.digest}],
            keys=("model",),
        )
        return entry

    def head(self, model: str) -> tuple[int, str] | None:
        """Return number and digest of the model's last entry; None where there is none."""
        row = self._connection.execute(_HEAD, {"of": model}).one_or_none()
        return None if row is None else (row.number, row.digest)

    def models(self) -> list[str]:
        """Return whose journals there are."""
        heads, journal = tables.journal_heads, tables.journal
        query = sa.select(heads.c.model).union(sa.select(journal.c.model))
        return sorted(self._connection.scalars(query))

    def last(self, model: str, count: int, *, kinds: str = "%") -> list[JournalEntry]:
        """Return the model's `count` newest entries of kinds like the SQL pattern, oldest first."""
        journal = tables.journal
        query = (
            sa.select(journal)
            .where((journal.c.model == model) & journal.c.kind.like(kinds))
            .order_by(journal.c.number.desc())
            .limit(count)
        )
        return [_entry(row) for row in self._connection.execute(query)][::-1]

    def kinds_after(self, model: str, number: int) -> Counter[str]:
        """Count the model's entries after a number, by their kind."""
        journal = tables.journal
        query = (
            sa.select(journal.c.kind, sa.func.count())
            .where((journal.c.model == model) & (journal.c.number > number))
            .group_by(journal.c.kind)
        )
        return Counter({row[0]: row[1] for row in self._connection.execute(query)})

    def all(self, model: str) -> Iterator[JournalEntry]:
        """Yield the model's entries, oldest first."""
        journal = tables.journal
        query = sa.select(journal).where(journal.c.model == model).order_by(journal.c.number)
        for row in self._connection.execute(query):
            yield _entry(row)


def _entry(row: sa.Row[tuple[object, ...]]) -> JournalEntry:
    return JournalEntry(**row._mapping)
