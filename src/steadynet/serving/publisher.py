"""The telemetry thread's side: counts, encodes and writes.

Its methods run in one thread alone; `feedback`, which shares nothing with them, in another.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from steadynet.home import Home
from steadynet.monitoring.findings import Findings
from steadynet.monitoring.records import Feedback, LoggedRow
from steadynet.monitoring.windows import Role, Window, merge
from steadynet.runtime.batching import Arrays, Table
from steadynet.runtime.columns import plain_values
from steadynet.runtime.matrix import Matrix
from steadynet.runtime.spool import SpoolWriter
from steadynet.serving.controller_metrics import read_findings
from steadynet.serving.counting import Counted, Reference, count
from steadynet.serving.metrics import Snapshot, read_total, write_snapshot
from steadynet.serving.pace import Pace
from steadynet.serving.versions import LoadedVersion
from steadynet.serving.worker_counts import (
    Batches,
    Share,
    add_batches,
    count_batches,
    own_process,
)

logger = logging.getLogger(__name__)

WRITTEN_AT_ONCE = 256 * 1024
"""Bytes of rows; writing megabytes would keep the worker's core for milliseconds."""


class Key(NamedTuple):
    """What windows are apart by."""

    version: str
    role: Role


class Answered(NamedTuple):
    """One request as it was answered; its rows are written out later."""

    id: str
    at: float
    key: Key
    loaded: LoadedVersion
    table: Table
    rows: int
    outputs: Arrays


class Publisher:
    """Holds the windows that are not published yet, and the sum of all that were."""

    def __init__(
        self, home: Home, model: str, worker: str, *, redact: frozenset[str], pace: Pace
    ) -> None:
        self._home = home
        self._model = model
        self._worker = worker
        self._redact = redact
        self._metrics = home.metrics(model)
        self._windows = SpoolWriter(home.spool(model, "windows"), worker)
        self._rows = SpoolWriter(home.spool(model, "rows"), worker)
        self._feedback = SpoolWriter(home.spool(model, "feedback"), worker)
        self._open: dict[Key, Window] = {}
        self._since_start: dict[Key, Window] = {}
        self._batches: dict[str, Batches] = {}
        self._slow_s: dict[str, float] = {}
        self._pace = pace

    @property
    def dropped(self) -> int:
        """Records that the spool could not hold."""
        return self._windows.dropped + self._rows.dropped + self._feedback.dropped

    def count(
        self, counted: Counted, reference: Reference, role: Role, start: float, end: float
    ) -> None:
        """Turn what was counted into a part of the open window; let go of its batches."""
        self._pace.begin()
        window = count(counted, reference, role, start, end, self._worker, self._pace.rest)
        self._slow_s[f"{reference.model}/{reference.version}"] = reference.slow_s
        key = Key(reference.version, role)
        before = self._open.get(key)
        self._open[key] = window if before is None else merge([before, window])
        total = self._since_start.get(key)
        slim = msgspec.structs.replace(window, features={}, output=())
        self._since_start[key] = slim if total is None else merge([total, slim])
        if counted.scored:
            name = f"{reference.model}/{reference.version}/{role}"
            batches = count_batches(counted.scored)
            known = self._batches.get(name)
            self._batches[name] = batches if known is None else add_batches(known, batches)
        self._let_go(counted)

    def publish(self, answered: deque[Answered], counters: Snapshot) -> None:
        """Write the open windows, the kept rows and the snapshot; `answered` is empty then."""
        self._pace.begin()
        self._windows.append(self._open.values())
        self._windows.flush()
        self._open.clear()
        while answered:
            # Its last reference: thousands of rows let go of at once would take milliseconds.
            self._rows.append(logged_rows(answered.popleft(), self._redact))
            if self._rows.buffered_bytes > WRITTEN_AT_ONCE:
                self._rows.flush()
            self._pace.rest()
        self._rows.flush()
        self._write_snapshot(counters)

    def feedback(self, records: Sequence[Feedback]) -> int:
        """Write labels; return how many there was room for."""
        before = self._feedback.dropped
        self._feedback.append(records)
        self._feedback.flush()
        return len(records) - (self._feedback.dropped - before)

    def total(self, counters: Snapshot) -> Snapshot:
        """Return the counts of all workers, this one's written first."""
        self._write_snapshot(counters)
        return read_total(self._metrics)

    def found(self) -> Findings | None:
        """Return what the controller found last."""
        return read_findings(self._home, self._model)

    def close(self) -> None:
        """Close the spools."""
        for spool in (self._windows, self._rows, self._feedback):
            spool.close()

    def _let_go(self, counted: Counted) -> None:
        """Let go of batches piece by piece: thousands of arrays at once take milliseconds."""
        for parts in (counted.scored, counted.paired):
            while parts:
                parts.pop()
                self._pace.rest()

    def _write_snapshot(self, counters: Snapshot) -> None:
        windows = tuple(self._since_start.values())
        requests = sum(window.requests for window in windows if window.role != "shadow")
        queued = counters.shares[self._model][self._worker].queued_rows
        snapshot = msgspec.structs.replace(
            counters,
            windows=windows,
            batches=dict(self._batches),
            shares={self._model: {self._worker: Share(requests, queued)}},
            processes={self._worker: own_process()},
            slow_s=dict(self._slow_s),
        )
        try:
            write_snapshot(self._metrics, snapshot)
        except OSError as error:
            logger.warning("the metrics cannot be written: %s", error.strerror)


def logged_rows(request: Answered, redact: frozenset[str]) -> Iterator[LoggedRow]:
    """Yield the records of an answered request's rows, without the values of columns to redact."""
    outputs = {name: array.tolist() for name, array in request.outputs.items()}
    labels = outputs.get("label")
    probabilities = outputs.get("probabilities")
    predictions = outputs.get("prediction")
    columns = request.loaded.columns
    for position, row in enumerate(_plain_rows(request, redact)):
        yield LoggedRow(
            id=request.id if request.rows == 1 else f"{request.id}#{position}",
            at=request.at,
            version=request.key.version,
            role=request.key.role,
            row=dict(zip(columns, row, strict=True)),  # type: ignore[arg-type]
            probabilities=tuple(probabilities[position]) if probabilities else (),
            prediction=predictions[position] if predictions else None,
            label=labels[position] if labels else None,
        )


def _plain_rows(request: Answered, redact: frozenset[str]) -> Iterable[Sequence[object]]:
    """Return the rows' values in the order of the columns."""
    columns, table = request.loaded.columns, request.table
    if type(table) is Matrix and not redact and table.names == columns:
        cells, width = table.cells, len(columns)
        if isinstance(cells, list):
            return [cells[at : at + width] for at in range(0, len(cells), width)]
        plain: list[list[object]] = cells.tolist()
        if cells.dtype.kind == "f" and np.isnan(cells).any():
            return [[None if cell != cell else cell for cell in row] for row in plain]
        return plain
    values = [table[name] for name in columns]
    if not redact and all(type(own) is list for own in values):
        return zip(*values, strict=True)
    return zip(*(_plain(request, name, redact) for name in columns), strict=True)


def _plain(request: Answered, name: str, redact: frozenset[str]) -> Sequence[object]:
    if name in redact:
        return [None] * request.rows
    return plain_values(request.table[name], is_datetime=name in request.loaded.datetimes)
