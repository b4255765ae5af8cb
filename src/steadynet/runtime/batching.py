"""Batching of what is queued: many callers' rows in one run, each caller with exactly its own.

No timer holds a request back. `LoopLane` runs on the event loop what was submitted in one of its
turns; `ThreadLane` runs in a thread of its own, and what arrives meanwhile is the next batch.

Invariants:
- Every submitted group is answered once: with its own rows in their order, or with an error.
- An error of one group (wrong input, a row that the model fails on, a number that is not finite)
  reaches that group alone: the batch is run again in halves until the guilty groups stand apart.
- At most `max_queue_rows` rows wait (a single larger group waits alone); a group that was taken in
  is answered, or expires after `deadline_s`, or after its caller's own shorter time; a group whose
  caller has gone is not run.
- Lanes are used from the event loop's thread alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf
from queue import SimpleQueue
from time import monotonic
from typing import Any, NamedTuple, Protocol

import numpy as np

from steadynet.errors import (
    CallerTimeout,
    DeadlineExceeded,
    InputError,
    ModelFault,
    Overloaded,
    SteadynetError,
)
from steadynet.runtime.columns import plain_values
from steadynet.runtime.matrix import join_matrices
from steadynet.runtime.outputs import parts_of, rows_of, without_watched
from steadynet.table.schema import NOVELTY

Table = Mapping[str, Sequence[Any] | np.ndarray]
"""Column name → the values of a caller's rows as they were sent: a list, or a typed tensor (N,)."""
Arrays = Mapping[str, np.ndarray]
"""Outputs (N,) or (N, C) by output name."""
Columns = Mapping[str, np.ndarray]
"""Columns (N, 1) by column name."""


class Scorer(Protocol):
    """What a lane needs of a loaded version."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the feature columns."""
        ...

    def decode(self, table: Table) -> Columns:
        """Return columns; raise `InputError` for what does not fit the schema."""
        ...

    def run(self, columns: Columns) -> Arrays:
        """Return the graph's outputs, one row per row."""
        ...


# Made for every batch or caller: a frozen dataclass would take five times as long to make.


class Scored(NamedTuple):
    """One successful run: what telemetry counts."""

    rows: int
    columns: Columns
    outputs: Arrays
    seconds: float
    """How long decoding and the run took."""
    watched: Arrays | None = None
    """What only monitoring looks at, `HIDDEN` and `NOVELTY`, where the graph tells it."""


class Answer(NamedTuple):
    """One group's own rows of the outputs."""

    outputs: Arrays
    began: float
    """When the run that held the group began, `time.monotonic()`."""
    seconds: float
    """How long it took, decoding of the columns included."""
    novelty: np.ndarray | None = None
    """How far each row is from training, 1 being the limit; None where the graph does not tell."""


Outcome = Answer | SteadynetError


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a lane takes in."""

    max_batch_rows: int
    max_queue_rows: int
    deadline_s: float


class Group:
    """The rows of one caller in a lane."""

    __slots__ = ("deadline_s", "future", "hurried", "rows", "submitted", "table", "timer")

    def __init__(
        self,
        table: Table,
        rows: int,
        deadline_s: float,
        within_s: float,
        future: asyncio.Future[Answer],
    ) -> None:
        self.table = table
        self.rows = rows
        self.hurried = within_s < deadline_s
        """Whether the caller's own time is the shorter one."""
        self.deadline_s = within_s if self.hurried else deadline_s
        self.future = future
        self.submitted = monotonic()
        self.timer: asyncio.TimerHandle | None = None


def score_groups(
    scorer: Scorer, tables: Sequence[Table], rows: Sequence[int]
) -> tuple[list[Outcome], list[Scored]]:
    """Run groups together. Return each group's outcome in order, and the successful runs."""
    began = monotonic()
    try:
        columns = scorer.decode(_join(scorer.columns, tables))
        outputs, watched = without_watched(scorer.run(columns))
        _check_outputs(outputs, sum(rows))
        seconds = monotonic() - began
    # A graph runs in foreign code that may raise anything; whatever it is must stay with the rows
    # that caused it, so this is where it becomes one of our errors.
    except Exception as error:
        if len(tables) == 1:
            return [_own_error(error)], []
        middle = len(tables) // 2
        first, first_runs = score_groups(scorer, tables[:middle], rows[:middle])
        second, second_runs = score_groups(scorer, tables[middle:], rows[middle:])
        return [*first, *second], [*first_runs, *second_runs]
    scored = Scored(sum(rows), columns, outputs, seconds, watched)
    novelty = None if watched is None else watched.get(NOVELTY)
    if len(tables) == 1:
        return [Answer(outputs, began, seconds, novelty)], [scored]
    own = zip(parts_of(outputs, rows), rows_of(novelty, rows), strict=True)
    return [Answer(part, began, seconds, far) for part, far in own], [scored]


def _join(names: tuple[str, ...], tables: Sequence[Table]) -> Table:
    if len(tables) == 1:
        return tables[0]
    matrix = join_matrices(tables)
    if matrix is not None:
        return matrix
    # A column that one of the groups lacks raises `KeyError` here; the halves then show whose.
    return {name: _join_values([table[name] for table in tables]) for name in names}


def _join_values(parts: list[Sequence[Any] | np.ndarray]) -> list[Any] | np.ndarray:
    kinds = set(map(type, parts))
    if np.ndarray not in kinds:
        return list(chain.from_iterable(parts))
    if len(kinds) == 1 and len({part.dtype for part in parts}) == 1:  # type: ignore[union-attr]
        return np.concatenate(parts)
    return list(chain.from_iterable(map(plain_values, parts)))


def _check_outputs(outputs: Arrays, rows: int) -> None:
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise ModelFault("exception", f"the model's output {name!r} has another length")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelFault("not_finite", f"the model's output {name!r} is not finite")


def _own_error(error: Exception) -> SteadynetError:
    if isinstance(error, InputError | ModelFault):
        return error
    # The message of a foreign error may hold the row's values, so only its type is told.
    cause = error.__cause__ or error
    return ModelFault("exception", f"the model failed on these rows ({type(cause).__name__})")


class Lane(Protocol):
    """Where a version's groups queue and run."""

    queued_rows: int
    """Rows that wait."""

    def submit(self, table: Table, rows: int, within_s: float = inf) -> asyncio.Future[Answer]:
        """Queue a group, for its answer `within_s` or the lane's deadline, whichever is shorter.

        Raises `Overloaded` where there is no room.
        """
        ...

    def close(self) -> None:
        """Take no more groups, answer those queued, and end."""
        ...


class LoopLane:
    """Runs batches on the event loop: for models whose batch takes less than a millisecond."""

    def __init__(
        self, scorer: Scorer, limits: Limits, observe: Callable[[list[Scored]], None]
    ) -> None:
        self._scorer = scorer
        self._limits = limits
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Group] = deque()
        self.queued_rows = 0

    def submit(self, table: Table, rows: int, within_s: float = inf) -> asyncio.Future[Answer]:
        """Queue a group. Raises `Overloaded` where there is no room."""
        if self._queue and self.queued_rows + rows > self._limits.max_queue_rows:
            raise _overloaded(self._limits)
        group = Group(table, rows, self._limits.deadline_s, within_s, self._loop.create_future())
        if not self._queue:
            self._loop.call_soon(self._flush)
        self._queue.append(group)
        self.queued_rows += rows
        return group.future

    def close(self) -> None:
        """Nothing to end: what is queued is already scheduled."""

    def _flush(self) -> None:
        groups = _take(self._queue, self._limits.max_batch_rows)
        for group in groups:
            self.queued_rows -= group.rows
        if self._queue:
            # Other connections get their turn between two batches.
            self._loop.call_soon(self._flush)
        now = monotonic()
        live = [group for group in groups if _is_live(group, now)]
        if not live:
            return
        outcomes, scored = score_groups(
            self._scorer, [group.table for group in live], [group.rows for group in live]
        )
        for group, outcome in zip(live, outcomes, strict=True):
            _deliver(group, outcome)
        if scored:
            self._observe(scored)


class ThreadLane:
    """Runs batches in a thread of its own, so that the event loop stays free.

    The thread is started by the first group and is a daemon: a model that never returns holds
    neither the loop nor the end of the process.
    """

    def __init__(
        self,
        scorer: Scorer,
        limits: Limits,
        observe: Callable[[list[Scored]], None],
        *,
        name: str,
    ) -> None:
        self._scorer = scorer
        self._limits = limits
        self._observe = observe
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Group] = deque()
        self.queued_rows = 0
        self._running: list[Group] | None = None
        self._running_since = 0.0
        self._batches: SimpleQueue[list[Group] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def stuck(self) -> bool:
        """Whether the batch that runs has run for longer than the deadline."""
        if self._running is None:
            return False
        longest = max(
            self._limits.deadline_s if group.hurried else group.deadline_s
            for group in self._running
        )
        return monotonic() - self._running_since > longest

    def submit(self, table: Table, rows: int, within_s: float = inf) -> asyncio.Future[Answer]:
        """Queue a group. Raises `Overloaded` where there is no room or the lane is closed."""
        full = self._queue and self.queued_rows + rows > self._limits.max_queue_rows
        if self._closed or full:
            raise _overloaded(self._limits)
        # A deadline is meant for one batch; a group as large as several has as many times as long.
        deadline_s = self._limits.deadline_s * -(-rows // self._limits.max_batch_rows)
        group = Group(table, rows, deadline_s, within_s, self._loop.create_future())
        group.timer = self._loop.call_later(group.deadline_s, _expire, group)
        self._queue.append(group)
        self.queued_rows += rows
        if self._running is None:
            self._loop.call_soon(self._start)
        return group.future

    def close(self) -> None:
        """Take no more groups, answer those queued, and end the thread."""
        self._closed = True
        if self._running is None and not self._queue:
            self._batches.put(None)

    def _start(self) -> None:
        while self._running is None and self._queue:
            groups = _take(self._queue, self._limits.max_batch_rows)
            for group in groups:
                self.queued_rows -= group.rows
            live = [group for group in groups if not group.future.done()]
            if live:
                self._running = live
                self._running_since = monotonic()
                self._batches.put(live)
        if self._running is None and self._closed:
            self._batches.put(None)
        if self._running is not None and self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            outcomes, scored = score_groups(
                self._scorer, [group.table for group in batch], [group.rows for group in batch]
            )
            try:
                self._loop.call_soon_threadsafe(self._finish, batch, outcomes, scored)
            except RuntimeError:
                # The loop has closed meanwhile: nobody waits any more.
                return

    def _finish(self, batch: list[Group], outcomes: list[Outcome], scored: list[Scored]) -> None:
        self._running = None
        self._start()
        for group, outcome in zip(batch, outcomes, strict=True):
            _deliver(group, outcome)
        if scored:
            self._observe(scored)


def _take(queue: deque[Group], max_rows: int) -> list[Group]:
    """Take groups from the front: at least one, together at most `max_rows` rows."""
    first = queue.popleft()
    groups = [first]
    total = first.rows
    while queue and total + queue[0].rows <= max_rows:
        group = queue.popleft()
        groups.append(group)
        total += group.rows
    return groups


def _is_live(group: Group, now: float) -> bool:
    if now - group.submitted > group.deadline_s:
        _expire(group)
    return not group.future.done()


def _expire(group: Group) -> None:
    if not group.future.done():
        kind = CallerTimeout if group.hurried else DeadlineExceeded
        group.future.set_exception(
            kind(
                "the answer was not ready in time",
                expected=f"within {group.deadline_s * 1000:g} ms",
            )
        )


def _deliver(group: Group, outcome: Outcome) -> None:
    if group.timer is not None:
        group.timer.cancel()
    if group.future.done():
        return
    if isinstance(outcome, Answer):
        group.future.set_result(outcome)
    else:
        group.future.set_exception(outcome)


def _overloaded(limits: Limits) -> Overloaded:
    return Overloaded(
        "too many rows are waiting",
        expected=f"at most {limits.max_queue_rows}",
        do="Send the request again later.",
    )
