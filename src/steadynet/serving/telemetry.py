"""What a worker tells of itself: windows, logged rows, feedback, metrics. Beside the path.

The event loop only appends references (`Tally`, `log`); one thread of its own counts, encodes and
writes. Each `serve.window_s` the thread publishes one window per version and role that saw
anything, the kept rows, and the worker's snapshot for Prometheus.

Invariants:
- Memory is bounded: a tally that holds `FULL_ROWS` rows is counted at once; about `LOGGED_ROWS`
  rows are kept per window, however many there are.
- Every counted request is in exactly one published window; a killed worker loses at most what it
  counted since its last window.
- A full disk stops no request: what could not be written is counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from steadynet.clock import Clock
from steadynet.home import Home
from steadynet.monitoring.findings import Findings
from steadynet.monitoring.records import Feedback
from steadynet.monitoring.windows import Role
from steadynet.rollout.router import sampled
from steadynet.runtime.batching import Arrays, Table
from steadynet.serving.auth import KeyCounts
from steadynet.serving.counting import Reference, Tally
from steadynet.serving.metrics import EVENTS, Snapshot
from steadynet.serving.pace import Pace
from steadynet.serving.publisher import Answered, Key, Publisher
from steadynet.serving.versions import LoadedVersion
from steadynet.serving.worker_counts import Share

T = TypeVar("T")

FULL_ROWS = 4096
LOGGED_ROWS = 1024
"""Rows per window above which a smaller share of the requests is kept."""
MAX_LOGGED_ROWS = 2 * LOGGED_ROWS
"""Rows per window above which none is kept: traffic has grown since the share was set."""


def next_log_share(wanted: float, seen_rows: int) -> float:
    """Return the share of requests to keep in the next window. Pure.

    The sample is drawn by the request's id, so that a smaller share keeps a part of what a larger
    one keeps, and the champion's and a shadow's rows of the same requests.
    """
    return wanted if seen_rows <= LOGGED_ROWS else min(wanted, LOGGED_ROWS / seen_rows)


class Telemetry:
    """One worker's counters and their way out. Methods are called on the event loop."""

    def __init__(
        self,
        home: Home,
        model: str,
        worker: str,
        *,
        window_s: float,
        log_share: float,
        redact: Collection[str] = (),
        clock: Clock,
    ) -> None:
        self._worker = worker
        self._model = model
        self._window_s = window_s
        self._log_share = log_share
        self._share = log_share
        self._seen_rows = 0
        self._clock = clock
        self._tallies: dict[Key, Tally] = {}
        self._references: dict[Key, Reference] = {}
        self._answered: deque[Answered] = deque()
        self._counting: list[asyncio.Future[None]] = []
        self._logged_rows = 0
        self.responses: dict[int, int] = {}
        """HTTP status → responses that concern the model."""
        self.general_responses: dict[int, int] = {}
        """The same of those that concern no model, where they are counted with this one."""
        self.queued_rows: Callable[[], int] = int
        """Tells how many rows wait for a run now."""
        self.events = dict.fromkeys(EVENTS, 0)
        self.keys: KeyCounts = {}
        """What callers' keys are counted in, where they are counted with this model."""
        self.pace = Pace()
        """Of the thread that counts and writes."""
        self._publisher = Publisher(home, model, worker, redact=frozenset(redact), pace=self.pace)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="telemetry")
        self._label_thread = ThreadPoolExecutor(1, thread_name_prefix="labels")
        """Whoever sends labels waits until they are kept, and not until something is counted."""
        self._start = clock.now()
        self._stopping = asyncio.Event()
        self.publishing = asyncio.get_running_loop().create_task(self._publish_regularly())
        """Ends when `stop` is called, or by an error of what counts and writes."""

    def tally(self, loaded: LoadedVersion, role: Role) -> Tally:
        """Return the tally of a version in a role."""
        key = Key(loaded.version, role)
        if key not in self._tallies:
            self._tallies[key] = Tally(
                loaded.version, role, full_rows=FULL_ROWS, on_full=self._count
            )
            self._references[key] = Reference(
                self._model,
                loaded.version,
                loaded.schema.target.task,
                loaded.profile,
                loaded.manifest.slo.latency_ms / 1000,
            )
        return self._tallies[key]

    def log(
        self,
        loaded: LoadedVersion,
        role: Role,
        request_id: str,
        table: Table,
        rows: int,
        outputs: Arrays,
    ) -> None:
        """Keep an answered request's rows, where its id is in the sample."""
        self._seen_rows += rows
        if not sampled(self._share, request_id):
            return
        if self._logged_rows + rows > MAX_LOGGED_ROWS:
            self.events["rows_not_logged"] += rows
            return
        self._logged_rows += rows
        key = Key(loaded.version, role)
        self._answered.append(
            Answered(request_id, self._clock.now(), key, loaded, table, rows, outputs)
        )

    def now(self) -> float:
        """Return the time that records carry, seconds UTC."""
        return self._clock.now()

    async def stop(self) -> None:
        """Publish what is left and end."""
        self._stopping.set()
        self.pace.ending = True
        await self.publishing
        await self.publish()
        self._label_thread.shutdown()
        await self._in_thread(self._publisher.close)
        self._thread.shutdown()

    async def publish(self) -> None:
        """Write out everything counted so far."""
        self._hand_over()
        self._start = self._clock.now()
        counting, self._counting = self._counting, []
        answered, self._answered = self._answered, deque()
        self._share = next_log_share(self._log_share, self._seen_rows)
        self._seen_rows = self._logged_rows = 0
        snapshot = self._counters()
        await self._in_thread(self._publisher.publish, answered, snapshot)
        await asyncio.gather(*counting)
        self.events["records_dropped"] = self._publisher.dropped

    async def feedback(self, records: Sequence[Feedback]) -> int:
        """Write labels to the spool; return how many of them it could hold."""
        loop = asyncio.get_running_loop()
        kept = await loop.run_in_executor(self._label_thread, self._publisher.feedback, records)
        self.events["feedback"] += kept
        return kept

    async def total(self) -> Snapshot:
        """Return the counts of all workers, this one's newest among them."""
        self._hand_over()
        return await self._for_caller(self._publisher.total, self._counters())

    async def found(self) -> Findings | None:
        """Return what the controller found last."""
        return await self._for_caller(self._publisher.found)

    def _hand_over(self) -> None:
        for tally in self._tallies.values():
            if not tally.now.is_empty:
                self._count(tally)

    def _count(self, tally: Tally) -> None:
        reference = self._references[Key(tally.version, tally.role)]
        end = self._clock.now()
        counting = self._in_thread(
            self._publisher.count, tally.take(), reference, tally.role, self._start, end
        )
        counting.add_done_callback(self._counted)
        self._counting.append(counting)
        self.pace.waiting += 1

    def _counted(self, _counting: asyncio.Future[None]) -> None:
        self.pace.waiting -= 1

    async def _for_caller(self, work: Callable[..., T], *arguments: object) -> T:
        """Let the thread do what a caller waits for."""
        self.pace.callers += 1
        try:
            return await self._in_thread(work, *arguments)
        finally:
            self.pace.callers -= 1

    def _in_thread(self, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _counters(self) -> Snapshot:
        return Snapshot(
            workers=(self._worker,),
            shares={self._model: {self._worker: Share(0, self.queued_rows())}},
            responses={
                model: {str(status): number for status, number in statuses.items()}
                for model, statuses in (
                    (self._model, self.responses),
                    ("", self.general_responses),
                )
                if statuses
            },
            events=dict(self.events),
            keys={key: dict(outcomes) for key, outcomes in self.keys.items()},
        )

    async def _publish_regularly(self) -> None:
        while not self._stopping.is_set():
            try:
                await asyncio.wait_for(self._stopping.wait(), self._window_s)
            except TimeoutError:
                await self.publish()
