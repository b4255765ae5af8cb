"""Callers of the model, in a process of their own: payments at a steady rate, labels later.

    python traffic.py --port 8080 --model payments --control control.json --report report.json

Each payment is one request with its own id, over a few keep-alive connections. The rate is kept
whether or not the server keeps up (an open loop), and a request's latency counts from when it was
due, so that a slow server cannot hide by slowing its callers down. `FEEDBACK_DELAY_S` after its
answer a payment's true label is posted to `/feedback`, for a share of the payments.

The control file steers it while it runs (`Control`); the report (`Report`) is rewritten each
second and once more at the end. A request has *failed* when its answer is not 200, when the answer
cannot be read, or when none came; see `connection.py` for the one retry that HTTP clients make.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from connection import BadAnswer, Connection
from steadynet.files import write_atomic
from stream import BLOCK_ROWS, Cell, make_payments

FEEDBACK_DELAY_S = 1.0
FEEDBACK_EVERY_S = 0.25
CONTROL_EVERY_S = 0.1
REPORT_EVERY_S = 0.5


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the control file says; it is read again several times a second."""

    rate: float = 100.0
    """Requests per second."""
    drift: float = 0.0
    """Where the world stands, 0 to 1."""
    feedback_share: float = 1.0
    """Share of payments whose label becomes known."""
    phase: str = "start"
    """Name under which the report counts what is sent from now on."""
    stop: bool = False


class Phase(msgspec.Struct, kw_only=True):
    """What was counted in one phase; a request belongs to the phase in which it was due."""

    sent: int = 0
    answered: int = 0
    failed: int = 0
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    slowest_ms: float = 0.0
    versions: dict[str, int] = msgspec.field(default_factory=dict)
    """Version that answered → requests."""


class Report(msgspec.Struct, kw_only=True):
    """What the callers saw."""

    running: bool
    seconds: float
    sent: int
    answered: int
    failed: int
    failures: dict[str, int]
    """Status or error → requests."""
    reconnects: int
    labels_sent: int
    labels_failed: int
    phases: dict[str, Phase]

    def answered_by(self, version: str) -> int:
        """Return how many requests a version has answered."""
        return sum(phase.versions.get(version, 0) for phase in self.phases.values())


class _Named(msgspec.Struct):
    model_version: str


class Tally:
    """Counts of everything that happened, by phase. `sent == answered + failed + under way`."""

    def __init__(self) -> None:
        self.phases: dict[str, Phase] = {}
        self.failures: Counter[str] = Counter()
        self.labels_sent = 0
        self.labels_failed = 0
        self._latencies: dict[str, array[float]] = {}

    def sent(self, phase: str) -> None:
        """Count a request that is due."""
        self._phase(phase).sent += 1

    def answered(self, phase: str, version: str, latency_s: float) -> None:
        """Count a good answer."""
        counts = self._phase(phase)
        counts.answered += 1
        counts.versions[version] = counts.versions.get(version, 0) + 1
        self._latencies[phase].append(latency_s)

    def failed(self, phase: str, reason: str) -> None:
        """Count a request without a good answer."""
        self._phase(phase).failed += 1
        self.failures[reason] += 1

    def passed(self, phase: str, seconds: float) -> None:
        """Count time that a phase lasted."""
        self._phase(phase).seconds += seconds

    def report(self, *, running: bool, seconds: float, reconnects: int) -> Report:
        """Return everything counted so far."""
        for name, phase in self.phases.items():
            if latencies := self._latencies[name]:
                cuts = np.percentile(latencies, (50, 99, 100)) * 1000.0
                phase.p50_ms, phase.p99_ms, phase.slowest_ms = (round(float(x), 3) for x in cuts)
        phases = self.phases.values()
        return Report(
            running=running,
            seconds=round(seconds, 3),
            sent=sum(phase.sent for phase in phases),
            answered=sum(phase.answered for phase in phases),
            failed=sum(phase.failed for phase in phases),
            failures=dict(self.failures),
            reconnects=reconnects,
            labels_sent=self.labels_sent,
            labels_failed=self.labels_failed,
            phases=self.phases,
        )

    def _phase(self, name: str) -> Phase:
        if name not in self.phases:
            self.phases[name] = Phase()
            self._latencies[name] = array("d")
        return self.phases[name]


class _Due(msgspec.Struct, frozen=True):
    """A request that is due."""

    id: str
    row: dict[str, Cell]
    label: str
    since: float
    phase: str
    tell: bool
    """Whether its label will become known."""


class Traffic:
    """The callers: a pacer, a few connections, and a poster of labels, on one event loop."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._control_path: Path = options.control
        self._report_path: Path = options.report
        self._control = read_control(self._control_path)
        self._control_stamp = 0
        self._tally = Tally()
        self._queue: asyncio.Queue[_Due] = asyncio.Queue()
        self._labels: deque[tuple[float, str, str]] = deque()
        self._connections = [
            Connection(options.host, options.port) for _ in range(options.connections)
        ]
        self._label_connection = Connection(options.host, options.port)
        self._choice = np.random.default_rng(options.seed)
        self._stopped = asyncio.Event()
        self._began = time.monotonic()

    async def run(self) -> Report:
        """Send until told to stop; answer what is under way; return the last report."""
        self._stop_on_signals()
        async with asyncio.TaskGroup() as group:
            callers = [group.create_task(self._call(c)) for c in self._connections]
            beside = [group.create_task(self._post_labels()), group.create_task(self._write())]
            group.create_task(self._watch_control())
            await self._pace()
            await self._queue.join()
            await self._post_due_labels(wait=False)
            for task in (*callers, *beside):
                task.cancel()
        for connection in (*self._connections, self._label_connection):
            connection.close()
        return self._write_report(running=False)

    def _stop_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopped.set)

    async def _pace(self) -> None:
        """Put requests into the queue when they are due, at the rate that holds at that moment."""
        rows = self._rows()
        last = time.monotonic()
        owed = 0.0
        while not self._stopped.is_set():
            await asyncio.sleep(0.002)
            now = time.monotonic()
            owed += (now - last) * self._control.rate
            self._tally.passed(self._control.phase, now - last)
            last = now
            while owed >= 1.0:
                owed -= 1.0
                self._put(*next(rows))

    def _rows(self) -> Iterator[tuple[str, dict[str, Cell], str]]:
        """Yield id, row and label of one payment after another, from the world as it stands."""
        block = 0
        while True:
            drift = self._control.drift
            payments = make_payments(
                BLOCK_ROWS,
                seed=self._options.seed,
                drift=drift,
                first=self._options.first + block * BLOCK_ROWS,
                block=block,
            )
            block += 1
            for row, label in zip(payments.rows(), payments.labels(), strict=True):
                yield str(row["payment_id"]), row, label
                if self._control.drift != drift:
                    break

    def _put(self, request_id: str, row: dict[str, Cell], label: str) -> None:
        control = self._control
        self._tally.sent(control.phase)
        self._queue.put_nowait(
            _Due(
                id=request_id,
                row=row,
                label=label,
                since=time.monotonic(),
                phase=control.phase,
                tell=self._choice.random() < control.feedback_share,
            )
        )

    async def _call(self, connection: Connection) -> None:
        path = f"/v2/models/{self._options.model}/infer"
        while True:
            due = await self._queue.get()
            try:
                answer = await connection.post(path, encode_request(due.id, due.row))
                if answer.status != 200:
                    self._tally.failed(due.phase, f"status {answer.status}")
                    continue
                version = msgspec.json.decode(answer.body, type=_Named).model_version
                now = time.monotonic()
                self._tally.answered(due.phase, version, now - due.since)
                if due.tell:
                    self._labels.append((now + FEEDBACK_DELAY_S, due.id, due.label))
            except (OSError, BadAnswer, TimeoutError, msgspec.DecodeError) as error:
                self._tally.failed(due.phase, type(error).__name__)
            finally:
                self._queue.task_done()

    async def _post_labels(self) -> None:
        while True:
            await asyncio.sleep(FEEDBACK_EVERY_S)
            await self._post_due_labels(wait=True)

    async def _post_due_labels(self, *, wait: bool) -> None:
        now = time.monotonic()
        due = []
        while self._labels and (not wait or self._labels[0][0] <= now):
            _, request_id, label = self._labels.popleft()
            due.append({"id": request_id, "label": label})
        if not due:
            return
        try:
            answer = await self._label_connection.post("/feedback", encode_feedback(due))
            good = answer.status == 200
        except (OSError, BadAnswer, TimeoutError):
            good = False
        if good:
            self._tally.labels_sent += len(due)
        else:
            self._tally.labels_failed += len(due)

    async def _watch_control(self) -> None:
        while not self._stopped.is_set():
            await asyncio.sleep(CONTROL_EVERY_S)
            stamp = self._control_path.stat().st_mtime_ns
            if stamp != self._control_stamp:
                self._control_stamp = stamp
                self._control = read_control(self._control_path)
            if self._control.stop:
                self._stopped.set()

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            self._write_report(running=True)

    def _write_report(self, *, running: bool) -> Report:
        report = self._tally.report(
            running=running,
            seconds=time.monotonic() - self._began,
            reconnects=sum(c.reconnects for c in (*self._connections, self._label_connection)),
        )
        write_atomic(self._report_path, msgspec.json.encode(report), durable=False)
        return report


def read_control(path: Path) -> Control:
    """Read the control file. Raises `msgspec.ValidationError` where it says something unknown."""
    return msgspec.json.decode(path.read_bytes(), type=Control)


def write_control(path: Path, control: Control) -> None:
    """Replace the control file."""
    write_atomic(path, msgspec.json.encode(control), durable=False)


def read_report(path: Path) -> Report:
    """Read the newest report."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def encode_request(request_id: str, row: dict[str, Cell]) -> bytes:
    """Return one payment as an Open Inference Protocol request: one tensor [1] per column."""
    inputs = [
        {"name": name, "shape": [1], "datatype": _datatype(value), "data": [value]}
        for name, value in row.items()
    ]
    return msgspec.json.encode({"id": request_id, "inputs": inputs})


def encode_feedback(labels: list[dict[str, str]]) -> bytes:
    """Return labels that became known as a body for `/feedback`."""
    return msgspec.json.encode(labels)


def _datatype(value: Cell) -> str:
    if isinstance(value, bool):
        return "BOOL"
    return "BYTES" if isinstance(value, str) else "FP64"


def main() -> None:
    """Send payments until told to stop."""
    parser = argparse.ArgumentParser(description="Send card payments to a served model.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--first", type=int, default=0, help="number of the first payment")
    asyncio.run(_run(parser.parse_args()))


async def _run(options: argparse.Namespace) -> None:
    await Traffic(options).run()


if __name__ == "__main__":
    main()
