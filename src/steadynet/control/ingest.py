"""From the spool into the store, exactly once: records and cursor in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from steadynet.control.facts import LABEL_FLOW
from steadynet.control.turn import Turn
from steadynet.monitoring.label_flow import LabelFlow, received
from steadynet.monitoring.records import Feedback, LoggedRow
from steadynet.monitoring.windows import Window
from steadynet.runtime.spool import forget, read_spool

MOST_RECORDS = 10_000
"""Records of one kind per tick."""


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What one tick took in."""

    windows: tuple[Window, ...]
    rows: int
    labels: int


def ingest(turn: Turn) -> Ingested:
    """Take in what workers and callers have spooled since the last tick.

    Rows come before labels, so that a label that is read with its row finds it there.
    """
    with turn.write() as tx:
        seen = tx.observations
        found = seen.cursors(turn.model)
        cursors = {kind: found.get(kind, {}) for kind in ("windows", "rows", "feedback")}
        folders = {kind: turn.home.spool(turn.model, kind) for kind in cursors}
        before = dict(cursors)
        windows, cursors["windows"] = read_spool(
            folders["windows"], cursors["windows"], Window, MOST_RECORDS
        )
        rows, cursors["rows"] = read_spool(
            folders["rows"], cursors["rows"], LoggedRow, MOST_RECORDS
        )
        labels, cursors["feedback"] = read_spool(
            folders["feedback"], cursors["feedback"], Feedback, MOST_RECORDS
        )
        mine = [window for window in windows if window.model == turn.model]
        seen.add_windows(mine)
        seen.add_rows(turn.model, rows)
        if labels:
            taken = seen.add_labels(turn.model, labels, now=turn.now)
            flow = tx.decisions.fact(turn.model, LABEL_FLOW, LabelFlow) or LabelFlow()
            counted = msgspec.structs.asdict(taken)
            tx.decisions.remember(turn.model, LABEL_FLOW, received(flow, **counted))
        for kind, cursor in cursors.items():
            if cursor != before[kind]:
                seen.save_cursor(turn.model, kind, cursor)
    for kind, cursor in cursors.items():
        if cursor:
            forget(folders[kind], cursor)
    return Ingested(windows=tuple(mine), rows=len(rows), labels=len(labels))
