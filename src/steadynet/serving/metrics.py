"""Metrics over all workers of a server: snapshots, their sum, and the Prometheus text.

Each worker writes its counts since its start to `metrics/<worker>.json`; whichever worker is
asked adds up all files. Law: what one scrape has shown, no later scrape falls below, as long as
the server runs:

- A worker writes its own snapshot before it answers a scrape.
- A finished worker's file stays until the supervisor has folded it into `retired.json`, which
  names the workers it holds; a reader ignores the file of a worker that is named there. Readers
  list the workers' files before they read `retired.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from steadynet.files import write_atomic
from steadynet.monitoring.findings import Findings
from steadynet.monitoring.latency import slower_than
from steadynet.monitoring.windows import Window, merge
from steadynet.serving.controller_metrics import finding_families
from steadynet.serving.worker_counts import (
    Batches,
    Process,
    Share,
    add_batches,
    batch_families,
    seconds_buckets,
    seconds_sum,
    worker_families,
)

if TYPE_CHECKING:
    from prometheus_client.core import Metric

RETIRED = "retired.json"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker, or several finished ones, counted since their start."""

    workers: tuple[str, ...]
    windows: tuple[Window, ...] = ()
    """One per version and role, without features."""
    slow_s: dict[str, float] = msgspec.field(default_factory=dict)
    """`model/version` → seconds from which its answers are slow, by its own objective."""
    batches: dict[str, Batches] = msgspec.field(default_factory=dict)
    """`model/version/role` → its batches."""
    shares: dict[str, dict[str, Share]] = msgspec.field(default_factory=dict)
    """Model → live worker → its part in serving it."""
    processes: dict[str, Process] = msgspec.field(default_factory=dict)
    """Live worker → its process."""
    responses: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    """Model, or "" for what concerns none → HTTP status → responses."""
    events: dict[str, int] = msgspec.field(default_factory=dict)
    """Name of `EVENTS` → how often."""
    keys: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    """A caller's key's id → outcome → requests."""


EVENTS: dict[str, str] = {
    "shadow_dropped": "Mirrored requests that were not run because the challenger was busy.",
    "rows_not_logged": "Answered rows that were not kept for want of room.",
    "records_dropped": "Records that the spool could not hold.",
    "feedback": "Labels received.",
    "connections_refused": "Connections closed at once because there were too many.",
    "requests_too_slow": "Requests that did not come, or answers that were not read, in time.",
    "out_of_distribution_flagged": "Requests with rows far from training, answered with a flag.",
    "out_of_distribution_refused": "Requests refused for rows far from training.",
    "caller_timeouts": "Requests whose callers had set themselves a shorter time than the server.",
}
"""Every event that is counted, and what it means."""


def write_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Write a worker's snapshot. Raises `OSError` where there is no room."""
    (worker,) = snapshot.workers
    write_atomic(folder / f"{worker}.json", msgspec.json.encode(snapshot), durable=False)


def read_total(folder: Path) -> Snapshot:
    """Add up the snapshots of all workers, finished ones included."""
    live = [snapshot for _, snapshot in _read_workers(folder)]
    retired = _read(folder / RETIRED)
    gone = set(retired.workers) if retired else set()
    parts = [part for part in live if part.workers[0] not in gone]
    return add_up([*parts, retired] if retired else parts)


def retire(folder: Path, worker: str) -> None:
    """Fold a finished worker's snapshot into `retired.json`."""
    path = folder / f"{worker}.json"
    snapshot = _read(path)
    if snapshot is None:
        return
    retired = _read(folder / RETIRED) or Snapshot(workers=())
    if worker not in retired.workers:
        snapshot = msgspec.structs.replace(snapshot, shares={}, processes={})
        total = add_up([retired, snapshot])
        write_atomic(folder / RETIRED, msgspec.json.encode(total), durable=False)
    path.unlink(missing_ok=True)


def add_up(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return the sum of snapshots."""
    workers: list[str] = []
    windows: dict[tuple[str, str, str], Window] = {}
    slow_s: dict[str, float] = {}
    batches: dict[str, Batches] = {}
    shares: dict[str, dict[str, Share]] = {}
    processes: dict[str, Process] = {}
    responses: dict[str, dict[str, int]] = {}
    events: dict[str, int] = {}
    keys: dict[str, dict[str, int]] = {}
    for snapshot in snapshots:
        workers += snapshot.workers
        for window in snapshot.windows:
            key = (window.model, window.version, window.role)
            windows[key] = merge([windows[key], window]) if key in windows else window
        slow_s |= snapshot.slow_s
        for name, counted in snapshot.batches.items():
            batches[name] = add_batches(batches[name], counted) if name in batches else counted
        for model, workers_of in snapshot.shares.items():
            shares[model] = shares.get(model, {}) | workers_of
        processes |= snapshot.processes
        for model, statuses in snapshot.responses.items():
            _add(responses.setdefault(model, {}), statuses)
        _add(events, snapshot.events)
        for holder, outcomes in snapshot.keys.items():
            _add(keys.setdefault(holder, {}), outcomes)
    return Snapshot(
        workers=tuple(workers),
        windows=tuple(windows[key] for key in sorted(windows)),
        slow_s=slow_s,
        batches=batches,
        shares=shares,
        processes=processes,
        responses=responses,
        events=events,
        keys=keys,
    )


def of_key(total: Snapshot, key: str) -> Snapshot:
    """Return a sum in which no other key is told of."""
    own = {key: total.keys[key]} if key in total.keys else {}
    return msgspec.structs.replace(total, keys=own)


def render(total: Snapshot, found: Iterable[Findings] = (), *, now: float = 0.0) -> bytes:
    """Return the Prometheus text format of a sum of snapshots and the controllers' findings."""
    from prometheus_client import CollectorRegistry, generate_latest

    class Collector:
        def collect(self) -> Iterator[Metric]:
            yield from _families(total)
            yield from finding_families(found, now)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    text: bytes = generate_latest(registry)
    return text


def _families(total: Snapshot) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    yield from _window_counters(total)
    yield _latency_family(total)
    yield from batch_families({_three(name): counted for name, counted in total.batches.items()})
    yield from worker_families(total.shares, total.processes)
    responses = CounterMetricFamily(
        "steadynet_http_responses",
        "HTTP responses by status; those that concern no model have none.",
        labels=["model", "status"],
    )
    for model, statuses in sorted(total.responses.items()):
        for status, number in sorted(statuses.items()):
            responses.add_metric([model, status], number)
    yield responses
    keys = CounterMetricFamily(
        "steadynet_key_requests",
        "Requests by the id of the caller's key, admitted or refused.",
        labels=["key", "outcome"],
    )
    for key, outcomes in sorted(total.keys.items()):
        for outcome, number in outcomes.items():
            keys.add_metric([key, outcome], number)
    yield keys
    for name, meaning in EVENTS.items():
        yield CounterMetricFamily(f"steadynet_{name}", meaning, value=total.events.get(name, 0))


def _window_counters(total: Snapshot) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    labels = ["model", "version", "role"]
    plain = {
        "requests": CounterMetricFamily(
            "steadynet_requests", "Requests routed to the version.", labels=labels
        ),
        "rows": CounterMetricFamily("steadynet_rows", "Rows computed.", labels=labels),
        "novel": CounterMetricFamily(
            "steadynet_out_of_distribution_rows",
            "Rows farther from training than nearly all held-out rows.",
            labels=labels,
        ),
        "invalid": CounterMetricFamily(
            "steadynet_invalid_requests", "Requests refused for their input.", labels=labels
        ),
        "failed": CounterMetricFamily(
            "steadynet_failed_requests", "Requests answered with a 5xx.", labels=labels
        ),
        "fallbacks": CounterMetricFamily(
            "steadynet_fallbacks",
            "Requests that the champion answered in the version's place.",
            labels=labels,
        ),
    }
    slow = CounterMetricFamily(
        "steadynet_slow_requests",
        "Requests answered later than the version's latency objective allows.",
        labels=labels,
    )
    faults = CounterMetricFamily(
        "steadynet_faults", "Faults of the version.", labels=[*labels, "kind"]
    )
    for window in total.windows:
        values = [window.model, window.version, window.role]
        plain["requests"].add_metric(values, window.requests)
        plain["rows"].add_metric(values, window.rows)
        plain["novel"].add_metric(values, window.novel)
        plain["invalid"].add_metric(values, window.invalid)
        plain["failed"].add_metric(values, window.failed)
        plain["fallbacks"].add_metric(values, window.fallbacks)
        slow_s = total.slow_s.get(f"{window.model}/{window.version}")
        if slow_s is not None:
            slow.add_metric(values, slower_than(window.latency, slow_s))
        for kind, number in sorted(window.errors.items()):
            faults.add_metric([*values, kind], number)
    yield from plain.values()
    yield slow
    yield faults


def _latency_family(total: Snapshot) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(
        "steadynet_request_seconds",
        "Seconds from a request's arrival to its answer, as counted in buckets of 8 %.",
        labels=["model", "version", "role"],
    )
    for window in total.windows:
        if not window.latency:
            continue
        family.add_metric(
            [window.model, window.version, window.role],
            seconds_buckets(window.latency),
            seconds_sum(window.latency),
        )
    return family


def _three(name: str) -> tuple[str, str, str]:
    """Return model, version and role of a name of `Snapshot.batches`; none of them has a slash."""
    model, version, role = name.split("/")
    return model, version, role


def _read_workers(folder: Path) -> list[tuple[Path, Snapshot]]:
    found = []
    for path in sorted(folder.glob("*.json")):
        snapshot = None if path.name == RETIRED else _read(path)
        if snapshot is not None:
            found.append((path, snapshot))
    return found


def _read(path: Path) -> Snapshot | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Snapshot)
    except FileNotFoundError:
        return None


def _add(total: dict[str, int], part: dict[str, int]) -> None:
    for name, number in part.items():
        total[name] = total.get(name, 0) + number
