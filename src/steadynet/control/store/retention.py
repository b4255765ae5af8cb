"""Which answered rows are kept, so that their number is bounded and late labels still find some.

Laws, for each model, after `drop`:

- All of the newest rows are there, and of the older ones the newest that have a label.
- Of the older ones without a label those with the smallest `draw` are there, a hash of their id: a
  bottom-k sample (Cohen, Kaplan 2007, "Summarizing data using bottom-k sketches"), even over all
  rows of the span. It knows nothing of row, answer or label, so labels that find their rows in it
  say of the traffic what all labels would.
- Answers of several versions to one row have one id, so they stay or go together.
- A label goes with its last row; labels that wait for a row are bounded as well.
"""

from __future__ import annotations

from zlib import crc32

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from steadynet.control.store import tables

DRAWS = 1 << 32
"""Draws are below this."""
_SEED = 0x9E37_79B9
_SPREAD = 0x85EB_CA6B
"""Other numbers than `rollout.router.sampled` has, so that a row's place among the kept does not
follow from its being logged."""


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows of one model are kept, and how long."""

    newest: int
    """Rows that are kept whatever they are."""
    labelled: int
    """Older rows that have a label, the newest of them."""
    waiting: int
    """Older rows without a label, drawn by their ids; and labels that name no row."""
    spread_since: float
    """Rows answered before then (seconds UTC) are the first of the waiting to go."""
    oldest: float
    """What was answered before then goes in any case."""


def draw_of(row_id: str) -> int:
    """Return a number in [0, `DRAWS`) that is even over ids and the same for one id always."""
    return crc32(row_id.encode("utf-8", "surrogatepass"), _SEED) * _SPREAD & (DRAWS - 1)


def drop(connection: Connection, model: str, kept: Retention) -> int:
    """Forget rows as the module says. Return how many. For a writing transaction."""
    rows, joins = tables.rows, tables.joins
    # A plain comparison would let SQLite go by the index of the model, and then look each row up.
    mine = sa.func.coalesce(rows.c.model, "") == model
    has_label = sa.exists().where(joins.c.row == rows.c.number)
    dropped = 0
    first = connection.scalar(sa.select(rows.c.at).where(mine).order_by(rows.c.number).limit(1))
    if first is not None and first < kept.oldest:
        dropped += _forget(connection, model, mine & (rows.c.at < kept.oldest))
    edge = _nth(connection, rows.c.number, mine, rows.c.number.desc(), kept.newest)
    if edge is not None:
        old = mine & (rows.c.number <= edge)
        dropped += _drop_labelled(connection, model, old, kept.labelled)
        late = sa.case((rows.c.at < kept.spread_since, DRAWS), else_=0)
        rank = rows.c.draw + late
        waiting = old & ~has_label
        last = _nth(connection, rank, waiting, rank, kept.waiting)
        if last is not None:
            over = sa.delete(rows).where(waiting & (rank >= last))
            dropped += connection.execute(over).rowcount
    _drop_labels(connection, model, kept)
    return dropped


def _drop_labelled(
    connection: Connection, model: str, old: sa.ColumnElement[bool], kept: int
) -> int:
    """Forget the old rows whose labels came first, beyond `kept`."""
    rows, joins = tables.rows, tables.joins
    query = (
        sa.select(joins.c.number)
        .select_from(joins.join(rows, rows.c.number == joins.c.row))
        .where((joins.c.model == model) & old)
        .order_by(joins.c.number.desc())
        .offset(kept)
        .limit(1)
    )
    edge = connection.scalar(query)
    if edge is None:
        return 0
    first = sa.select(joins.c.row).where((joins.c.model == model) & (joins.c.number <= edge))
    return _forget(connection, model, old & rows.c.number.in_(first))


def _forget(connection: Connection, model: str, where: sa.ColumnElement[bool]) -> int:
    """Forget rows with their labels, where no other row has them."""
    rows, labels, joins = tables.rows, tables.labels, tables.joins
    gone = sa.select(rows.c.number).where(where)
    said = sa.select(joins.c.label).where(joins.c.row.in_(gone))
    others = sa.select(joins.c.label).where(joins.c.row.not_in(gone))
    connection.execute(
        sa.delete(labels).where(labels.c.number.in_(said) & labels.c.number.not_in(others))
    )
    # `where` may look at the joins, so they go last.
    dropped = connection.execute(sa.delete(rows).where(where)).rowcount
    left = sa.exists().where(rows.c.number == joins.c.row)
    connection.execute(sa.delete(joins).where((joins.c.model == model) & ~left))
    return dropped


def _drop_labels(connection: Connection, model: str, kept: Retention) -> None:
    """Forget labels that name no row: old ones, and those beyond as many as rows may wait."""
    labels, joins = tables.labels, tables.joins
    joined = sa.select(joins.c.label).where(joins.c.model == model)
    alone = (labels.c.model == model) & labels.c.number.not_in(joined)
    edge = _nth(connection, labels.c.number, alone, labels.c.number.desc(), kept.waiting)
    stale = labels.c.at < kept.oldest
    if edge is not None:
        stale |= labels.c.number <= edge
    connection.execute(sa.delete(labels).where(alone & stale))


def _nth(
    connection: Connection,
    value: sa.ColumnElement[int],
    where: sa.ColumnElement[bool],
    order: sa.ColumnElement[int],
    place: int,
) -> int | None:
    """Return the value of the row at a place of the order, counted from 0; None beyond the last."""
    query = sa.select(value).where(where).order_by(order).offset(place).limit(1)
    return connection.scalar(query)
