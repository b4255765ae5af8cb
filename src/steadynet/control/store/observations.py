"""What was observed: windows, logged rows, labels, and how far the spool was read.

Law: reading a spool and storing what was read with the new cursor in one transaction makes
ingestion exactly-once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import groupby
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from steadynet.control.store import tables
from steadynet.control.store.retention import Retention, draw_of, drop
from steadynet.control.store.upsert import insert_new, upsert
from steadynet.control.tally import add_up
from steadynet.monitoring.records import Feedback, LoggedRow
from steadynet.monitoring.windows import Role, Window

T = TypeVar("T")

BUCKET_S = 1
"""Windows of one version and role that start within the same second are stored as one."""
COARSE_BUCKET_S = 60
BATCH = 500
"""Keys per query."""
NUL, REPLACED = "\x00", "\ufffd"
MANY = 5_000
"""Rows per insertion."""


USERS: tuple[Role, ...] = ("champion", "challenger")
"""Whose answers are a sample of all callers: a version that is asked for by number has others."""


def _joins_after(table: sa.Table) -> sa.Select[tuple[int, int]]:
    """Return the query for the rows, or the labels, after a number, with their counterparts.

    By their numbers, not by a list of ids: the database finds them in one piece.
    """
    # A plain comparison would let SQLite go through all rows of the model by their index.
    mine = sa.func.coalesce(table.c.model, "") == sa.bindparam("of")
    rows, labels = tables.rows, tables.labels
    same = (rows.c.model == labels.c.model) & (rows.c.id == labels.c.id)
    return (
        sa.select(rows.c.number.label("row"), labels.c.number.label("label"))
        .select_from(labels.join(rows, same))
        .where(mine & (table.c.number > sa.bindparam("after")))
        .order_by(rows.c.at)
    )


# Asked in every turn: a statement that is made once is not compiled anew.
_CURSORS = sa.select(tables.cursors.c.kind, tables.cursors.c.cursor_json).where(
    tables.cursors.c.model == sa.bindparam("of")
)
_BUCKET = sa.select(tables.windows.c.body).where(
    sa.and_(
        *(
            tables.windows.c[name] == sa.bindparam(f"of_{name}")
            for name in ("model", "version", "role", "bucket", "width")
        )
    )
)
_LAST_ROW = sa.select(sa.func.max(tables.rows.c.number))
_LAST_LABEL = sa.select(sa.func.max(tables.labels.c.number))
_LAST_JOIN = sa.select(sa.func.max(tables.joins.c.number)).where(
    tables.joins.c.model == sa.bindparam("of")
)
_JOINS_OF_ROWS = _joins_after(tables.rows)
_JOINS_OF_LABELS = _joins_after(tables.labels)


class LabelledRow(msgspec.Struct, frozen=True, kw_only=True):
    """An answered row and what really happened."""

    number: int
    """Grows in the order in which row and label came together."""
    row: LoggedRow
    label: str | float
    labelled_at: float
    value: float | None = None
    """What the answer was worth to the caller."""
    influenced: bool = False
    """Whether the answer itself brought the label about."""


class LabelsTaken(msgspec.Struct, frozen=True, kw_only=True):
    """What labels that were stored were to those before them."""

    new: int = 0
    duplicates: int = 0
    """Same row, same label."""
    contradictory: int = 0
    """Same row, another label."""


class Observations:
    """Windows, rows, labels and cursors of all models within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def cursors(self, model: str) -> dict[str, dict[str, int]]:
        """Return how far the model's spool was read, by the kinds that were read."""
        return {
            kind: msgspec.json.decode(text, type=dict[str, int])
            for kind, text in self._connection.execute(_CURSORS, {"of": model})
        }

    def save_cursor(self, model: str, kind: str, cursor: dict[str, int]) -> None:
        """Remember how far one kind of the model's spool was read."""
        values = {
            "model": model,
            "kind": kind,
            "cursor_json": msgspec.json.encode(cursor).decode(),
        }
        upsert(self._connection, tables.cursors, [values], keys=("model", "kind"))

    def add_windows(self, windows: Iterable[Window]) -> None:
        """Add up windows with those of the same model, version, role and second."""
        ordered = sorted(windows, key=_bucket_key)
        for key, group in groupby(ordered, key=_bucket_key):
            self._add_to_bucket(key, reduce(add_up, group), BUCKET_S)

    def windows(self, model: str, since: float) -> list[Window]:
        """Return the model's stored windows that start at `since` or later, oldest first."""
        stored = tables.windows
        query = (
            sa.select(stored.c.body)
            .where((stored.c.model == model) & (stored.c.start >= since))
            .order_by(stored.c.start)
        )
        return [
            msgspec.msgpack.decode(body, type=Window) for body in self._connection.scalars(query)
        ]

    def compact_windows(self, model: str, *, fine_before: float, drop_before: float) -> None:
        """Merge windows older than `fine_before` by the minute; drop those before `drop_before`."""
        stored = tables.windows
        mine = stored.c.model == model
        self._connection.execute(sa.delete(stored).where(mine & (stored.c.start < drop_before)))
        old = mine & (stored.c.width == BUCKET_S) & (stored.c.start < fine_before)
        bodies = self._connection.scalars(sa.select(stored.c.body).where(old)).all()
        self._connection.execute(sa.delete(stored).where(old))
        items = [msgspec.msgpack.decode(body, type=Window) for body in bodies]
        for key, group in groupby(sorted(items, key=_coarse_key), key=_coarse_key):
            self._add_to_bucket(key, reduce(add_up, group), COARSE_BUCKET_S)

    def _add_to_bucket(self, key: tuple[str, str, str, int], window: Window, width: int) -> None:
        stored = tables.windows
        model, version, role, bucket = key
        identity = {
            "model": model,
            "version": version,
            "role": role,
            "bucket": bucket,
            "width": width,
        }
        body = self._connection.scalar(
            _BUCKET, {f"of_{name}": value for name, value in identity.items()}
        )
        if body is not None:
            window = add_up(msgspec.msgpack.decode(body, type=Window), window)
        values = {
            **identity,
            "start": window.start,
            "requests": window.requests,
            "body": msgspec.msgpack.encode(window),
        }
        upsert(self._connection, stored, [values], keys=tuple(identity))

    def add_rows(self, model: str, logged: Sequence[LoggedRow]) -> None:
        """Store answered rows, and join those whose labels came before them.

        Of several rows with one id and role the first is kept.
        """
        if not logged:
            return
        before = self._connection.scalar(_LAST_ROW) or 0
        for batch in _batches(logged, MANY):
            values = [
                {
                    "model": model,
                    "id": row.id.replace(NUL, REPLACED),
                    "role": row.role,
                    "version": row.version,
                    "at": row.at,
                    "draw": draw_of(row.id),
                    "body": msgspec.msgpack.encode(row),
                }
                for row in batch
            ]
            insert_new(self._connection, tables.rows, values, keys=("model", "id", "role"))
        self._join(model, _JOINS_OF_ROWS, before)

    def add_labels(self, model: str, feedback: Sequence[Feedback], *, now: float) -> LabelsTaken:
        """Store labels, the newest of each id, and join them with the rows that are there.

        A row whose label is another one now is joined anew, so that whoever reads on sees it.
        """
        taken = [0, 0, 0]
        if not feedback:
            return LabelsTaken(new=0, duplicates=0, contradictory=0)
        last = self._connection.scalar(_LAST_LABEL) or 0
        for batch in _batches(feedback):
            newest = {_storable(item.id): item for item in batch}
            stored = self._labels_of(model, list(newest))
            known = dict(stored)
            for item in batch:
                row_id, label = _storable(item.id), msgspec.json.encode(item.label).decode()
                before = known.get(row_id)
                taken[0 if before is None else 1 if before == label else 2] += 1
                known[row_id] = label
            self._part(model, [item for item, label in stored.items() if label != known[item]])
            values = [
                {
                    "model": model,
                    "id": row_id,
                    "label_json": msgspec.json.encode(item.label).decode(),
                    "at": item.at or now,
                    "value": item.value,
                    "influenced": item.influenced,
                }
                for row_id, item in newest.items()
            ]
            upsert(self._connection, tables.labels, values, keys=("model", "id"))
        self._join(model, _JOINS_OF_LABELS, last)
        return LabelsTaken(new=taken[0], duplicates=taken[1], contradictory=taken[2])

    def _part(self, model: str, ids: Sequence[str]) -> None:
        """Forget the labels of ids, so that the next ones are joined as new."""
        if not ids:
            return
        labels, joins = tables.labels, tables.joins
        theirs = (labels.c.model == model) & labels.c.id.in_(ids)
        numbers = sa.select(labels.c.number).where(theirs)
        self._connection.execute(sa.delete(joins).where(joins.c.label.in_(numbers)))
        self._connection.execute(sa.delete(labels).where(theirs))

    def _labels_of(self, model: str, ids: Sequence[str]) -> dict[str, str]:
        """Return id → label as JSON, of those that are known."""
        labels = tables.labels
        query = sa.select(labels.c.id, labels.c.label_json).where(
            (labels.c.model == model) & labels.c.id.in_(ids)
        )
        return {item.id: item.label_json for item in self._connection.execute(query)}

    def count_unknown_labels(self, model: str) -> int:
        """Return how many stored labels name no row that is known."""
        labels, joins = tables.labels, tables.joins
        known = sa.select(joins.c.label).where(joins.c.model == model)
        query = (
            sa.select(sa.func.count())
            .select_from(labels)
            .where((labels.c.model == model) & labels.c.number.not_in(known))
        )
        return self._connection.scalar(query) or 0

    def _join(self, model: str, query: sa.Select[tuple[int, int]], after: int) -> None:
        """Join the rows, or the labels, that are newer than a number with their counterparts."""
        values = [
            {"model": model, "row": item.row, "label": item.label}
            for item in self._connection.execute(query, {"of": model, "after": after})
        ]
        if values:
            insert_new(self._connection, tables.joins, values, keys=("row",))

    def labelled(
        self,
        model: str,
        *,
        limit: int,
        after: int = 0,
        version: str | None = None,
        roles: tuple[Role, ...] = USERS,
    ) -> list[LabelledRow]:
        """Return the newest `limit` labelled rows joined after number `after`, oldest first."""
        rows, joins = tables.rows, tables.joins
        where = (joins.c.model == model) & (joins.c.number > after) & rows.c.role.in_(roles)
        if version is not None:
            where &= rows.c.version == version
        query = _labelled_query().where(where).order_by(joins.c.number.desc()).limit(limit)
        return [_labelled(item) for item in self._connection.execute(query)][::-1]

    def labelled_after(
        self, model: str, *, after: int, limit: int, version: str | None = None
    ) -> list[LabelledRow]:
        """Return labelled rows that were joined after number `after`, in order.

        Those of every version and role; with `version`, those that the route had it answer.
        """
        rows, joins = tables.rows, tables.joins
        where = (joins.c.model == model) & (joins.c.number > after)
        if version is not None:
            where &= (rows.c.version == version) & rows.c.role.in_(USERS)
        query = _labelled_query().where(where).order_by(joins.c.number).limit(limit)
        return [_labelled(item) for item in self._connection.execute(query)]

    def count_labelled(self, model: str, *, since: float = 0.0, influenced: bool = True) -> int:
        """Return how many rows that `labelled` may return, answered at `since` or later, there are.

        Without `influenced` those are left out whose label the answer brought about.
        """
        joins, rows, labels = tables.joins, tables.rows, tables.labels
        joined = joins.join(rows, rows.c.number == joins.c.row)
        where = (joins.c.model == model) & (rows.c.at >= since) & rows.c.role.in_(USERS)
        if not influenced:
            joined = joined.join(labels, labels.c.number == joins.c.label)
            where &= labels.c.influenced.is_(False)
        query = sa.select(sa.func.count()).select_from(joined).where(where)
        return self._connection.scalar(query) or 0

    def rows_after(self, model: str, *, after: int, limit: int) -> list[tuple[int, LoggedRow]]:
        """Return the next answered rows stored after number `after`, with their numbers."""
        rows = tables.rows
        query = (
            sa.select(rows.c.number, rows.c.body)
            .where((rows.c.model == model) & (rows.c.number > after))
            .order_by(rows.c.number)
            .limit(limit)
        )
        return [
            (number, msgspec.msgpack.decode(body, type=LoggedRow))
            for number, body in self._connection.execute(query)
        ]

    def last_join(self, model: str) -> int:
        """Return the number of the newest labelled row; 0 where there is none."""
        return self._connection.scalar(_LAST_JOIN, {"of": model}) or 0

    def drop_rows(self, model: str, kept: Retention) -> int:
        """Forget rows and labels beyond what is kept. Return how many rows were dropped."""
        return drop(self._connection, model, kept)


def _labelled_query() -> sa.Select[tuple[int, bytes, str, float, float | None, bool]]:
    rows, labels, joins = tables.rows, tables.labels, tables.joins
    joined = joins.join(rows, rows.c.number == joins.c.row).join(
        labels, labels.c.number == joins.c.label
    )
    return sa.select(
        joins.c.number,
        rows.c.body,
        labels.c.label_json,
        labels.c.at,
        labels.c.value,
        labels.c.influenced,
    ).select_from(joined)


def _labelled(item: sa.Row[tuple[int, bytes, str, float, float | None, bool]]) -> LabelledRow:
    return LabelledRow(
        number=item.number,
        row=msgspec.msgpack.decode(item.body, type=LoggedRow),
        label=msgspec.json.decode(item.label_json, type=str | float),
        labelled_at=item.at,
        value=item.value,
        influenced=item.influenced,
    )


def _storable(row_id: str) -> str:
    """Return a caller's id as every database can keep it: PostgreSQL's texts hold no NUL."""
    return row_id.replace(NUL, REPLACED)


def _bucket_key(window: Window) -> tuple[str, str, str, int]:
    return window.model, window.version, window.role, int(window.start // BUCKET_S)


def _coarse_key(window: Window) -> tuple[str, str, str, int]:
    return window.model, window.version, window.role, int(window.start // COARSE_BUCKET_S)


def _batches(items: Sequence[T], size: int = BATCH) -> Iterable[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
