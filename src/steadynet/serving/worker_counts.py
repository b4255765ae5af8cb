"""What workers count of their own work: their batches, their share of a model, their process.

Batches add up over workers, finished ones too. Of shares and processes only those of live workers
are told: what belongs to one worker ends with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from steadynet.monitoring.latency import bucket_bounds_s
from steadynet.runtime.batching import Scored
from steadynet.serving.counting import latency_counts

if TYPE_CHECKING:
    from prometheus_client.core import Metric

BATCH_BOUNDS = tuple(2**power for power in range(14))
"""Rows up to which a batch is in a bucket; larger ones are in one more."""
SECONDS_SHOWN = tuple(range(0, 160, 6))
"""Buckets of seconds that are shown: every sixth bound, so each is 1.59 times the one before."""
STATM = Path("/proc/self/statm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Batches(msgspec.Struct, frozen=True):
    """The batches of one version in one role."""

    rows: tuple[int, ...]
    """Batches per bucket of `BATCH_BOUNDS`, and those beyond."""
    seconds: tuple[int, ...]
    """Batches per bucket of latency: decoding and the run."""
    total_rows: int


class Share(msgspec.Struct, frozen=True):
    """One worker's part in serving one model."""

    requests: int
    """Shadow answers left out."""
    queued_rows: int
    """Rows that wait for a run at this moment."""


class Process(msgspec.Struct, frozen=True):
    """What a worker's process takes of the machine."""

    cpu_s: float
    memory_bytes: int | None
    """Resident; None where the system does not tell."""


def count_batches(scored: Sequence[Scored]) -> Batches:
    """Count runs."""
    rows = [0] * (len(BATCH_BOUNDS) + 1)
    for run in scored:
        rows[min((run.rows - 1).bit_length(), len(BATCH_BOUNDS))] += 1
    return Batches(
        tuple(rows),
        latency_counts([run.seconds for run in scored]),
        sum(run.rows for run in scored),
    )


def add_batches(one: Batches, other: Batches) -> Batches:
    """Return the sum. Both have counted something."""
    return Batches(
        tuple(map(sum, zip(one.rows, other.rows, strict=True))),
        tuple(map(sum, zip(one.seconds, other.seconds, strict=True))),
        one.total_rows + other.total_rows,
    )


def own_process() -> Process:
    """Return what the process that asks has taken so far."""
    try:
        memory = int(STATM.read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        memory = None
    return Process(time.process_time(), memory)


def batch_families(batches: Mapping[tuple[str, str, str], Batches]) -> Iterator[Metric]:
    """Yield the metrics of batches by model, version and role."""
    from prometheus_client.core import HistogramMetricFamily

    labels = ["model", "version", "role"]
    rows = HistogramMetricFamily("steadynet_batch_rows", "Rows of one batch.", labels=labels)
    seconds = HistogramMetricFamily(
        "steadynet_batch_seconds",
        "Seconds that one batch took to decode and to run.",
        labels=labels,
    )
    for key, counted in sorted(batches.items()):
        bounds = [*map(str, BATCH_BOUNDS), "+Inf"]
        below = [sum(counted.rows[: place + 1]) for place in range(len(bounds))]
        rows.add_metric(key, [*zip(bounds, below, strict=True)], counted.total_rows)
        seconds.add_metric(key, seconds_buckets(counted.seconds), seconds_sum(counted.seconds))
    yield rows
    yield seconds


def seconds_buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return a histogram's bounds in seconds and how many are below each."""
    shown: list[tuple[str, float]] = [
        (f"{bucket_bounds_s(bucket)[1]:.6g}", sum(counts[: bucket + 1])) for bucket in SECONDS_SHOWN
    ]
    return [*shown, ("+Inf", sum(counts))]


def seconds_sum(counts: Sequence[int]) -> float:
    """Return the sum of what was counted, from its buckets' middles, right to ±4 %."""
    total = 0.0
    for bucket, number in enumerate(counts):
        low, high = bucket_bounds_s(bucket)
        total += number * (low if high == float("inf") else (low + high) / 2)
    return total


def worker_families(
    shares: Mapping[str, Mapping[str, Share]], processes: Mapping[str, Process]
) -> Iterator[Metric]:
    """Yield the metrics of live workers: their shares by model and worker, their processes."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    requests = CounterMetricFamily(
        "steadynet_worker_requests",
        "Requests that a live worker answered, shadow answers left out.",
        labels=["model", "worker"],
    )
    queued = GaugeMetricFamily(
        "steadynet_worker_queued_rows",
        "Rows that waited for a run when the worker last told.",
        labels=["model", "worker"],
    )
    cpu = CounterMetricFamily(
        "steadynet_worker_cpu_seconds",
        "Processor time of a live worker's process.",
        labels=["worker"],
    )
    memory = GaugeMetricFamily(
        "steadynet_worker_resident_memory_bytes",
        "Resident memory of a live worker's process.",
        labels=["worker"],
    )
    for model, workers in sorted(shares.items()):
        for worker, share in sorted(workers.items()):
            requests.add_metric([model, worker], share.requests)
            queued.add_metric([model, worker], share.queued_rows)
    for worker, process in sorted(processes.items()):
        cpu.add_metric([worker], process.cpu_s)
        if process.memory_bytes is not None:
            memory.add_metric([worker], process.memory_bytes)
    yield from (requests, queued, cpu, memory)
