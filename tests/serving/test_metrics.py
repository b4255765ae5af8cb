"""Metrics over workers: what one scrape has shown no later one falls below."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from steadynet.home import Home
from steadynet.monitoring.windows import LATENCY_BUCKETS, Window
from steadynet.serving.claims import forget_counts
from steadynet.serving.metrics import (
    EVENTS,
    RETIRED,
    Snapshot,
    add_up,
    read_total,
    render,
    retire,
    write_snapshot,
)


def window(requests: int, version: str = "1", latency: tuple[int, ...] = ()) -> Window:
    """Return a window with so many requests."""
    return Window(
        model="m",
        version=version,
        role="champion",
        start=0.0,
        end=1.0,
        requests=requests,
        errors={"deadline": requests},
        latency=latency,
    )


def snapshot(worker: str, requests: int, version: str = "1") -> Snapshot:
    """Return a worker's snapshot."""
    return Snapshot(
        workers=(worker,),
        windows=(window(requests, version),),
        responses={"m": {"200": requests}},
        events={"feedback": requests},
    )


def requests_of(total: Snapshot) -> int:
    """Return the requests of a sum."""
    return sum(item.requests for item in total.windows)


def test_workers_add_up_and_finished_ones_stay(tmp_path: Path) -> None:
    write_snapshot(tmp_path, snapshot("w1", 3))
    write_snapshot(tmp_path, snapshot("w2", 4))
    assert requests_of(read_total(tmp_path)) == 7
    write_snapshot(tmp_path, snapshot("w1", 5))
    assert requests_of(read_total(tmp_path)) == 9, "a newer snapshot replaces the older"
    retire(tmp_path, "w1")
    assert {path.name for path in tmp_path.iterdir()} == {RETIRED, "w2.json"}
    assert requests_of(read_total(tmp_path)) == 9
    retire(tmp_path, "w2")
    retire(tmp_path, "w2")
    retire(tmp_path, "never-was")
    assert requests_of(read_total(tmp_path)) == 9
    assert read_total(tmp_path).responses == {"m": {"200": 9}}


def test_a_worker_is_not_counted_twice_while_it_is_folded_in(tmp_path: Path) -> None:
    write_snapshot(tmp_path, snapshot("w1", 3))
    copy = (tmp_path / "w1.json").read_bytes()
    retire(tmp_path, "w1")
    # As between the writing of `retired.json` and the removal of the worker's file.
    (tmp_path / "w1.json").write_bytes(copy)
    assert requests_of(read_total(tmp_path)) == 3
    retire(tmp_path, "w1")
    assert requests_of(read_total(tmp_path)) == 3


@given(st.integers(0, 2**32))
def test_no_sum_ever_falls(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("metrics")
    chance = random.Random(seed)
    counts = {"w1": 0, "w2": 0, "w3": 0}
    ended: set[str] = set()
    shown = 0
    for _ in range(30):
        worker = chance.choice(list(counts))
        if worker not in ended and chance.random() < 0.8:
            counts[worker] += chance.randrange(5)
            write_snapshot(folder, snapshot(worker, counts[worker]))
        elif chance.random() < 0.3:
            ended.add(worker)
            retire(folder, worker)
        now = requests_of(read_total(folder))
        assert now >= shown
        shown = now
    assert shown == sum(counts.values())


def test_adding_up_keeps_versions_apart() -> None:
    total = add_up([snapshot("w1", 1, "1"), snapshot("w2", 2, "2"), snapshot("w3", 4, "1")])
    assert {item.version: item.requests for item in total.windows} == {"1": 5, "2": 2}
    assert total.workers == ("w1", "w2", "w3")
    assert total.events == {"feedback": 7}


def test_a_server_begins_anew(tmp_path: Path) -> None:
    home = Home(tmp_path)
    folder = home.metrics("m")
    write_snapshot(folder, snapshot("w1", 3))
    retire(folder, "w1")
    write_snapshot(folder, snapshot("w2", 3))
    forget_counts(home, "m")
    assert requests_of(read_total(folder)) == 0
    assert list(folder.iterdir()) == []


def test_prometheus_can_read_it() -> None:
    latency = [0] * (LATENCY_BUCKETS + 1)
    latency[0], latency[60], latency[-1] = 2, 3, 1
    one = msgspec.structs.replace(snapshot("w1", 6), windows=(window(6, latency=tuple(latency)),))
    families = {
        family.name: family for family in text_string_to_metric_families(render(one).decode())
    }
    assert {f"steadynet_{name}" for name in EVENTS} <= set(families)
    (requests,) = families["steadynet_requests"].samples
    assert requests.value == 6
    assert requests.labels == {"model": "m", "version": "1", "role": "champion"}
    (fault,) = families["steadynet_faults"].samples
    assert (fault.labels["kind"], fault.value) == ("deadline", 6)
    seconds = families["steadynet_request_seconds"]
    assert seconds.type == "histogram"
    buckets = {
        float(sample.labels["le"]): sample.value
        for sample in seconds.samples
        if sample.name.endswith("_bucket")
    }
    ordered = [buckets[bound] for bound in sorted(buckets)]
    assert ordered == sorted(ordered), "cumulative"
    assert ordered[0] == 2
    assert buckets[float("inf")] == 6
    for family in families.values():
        assert family.documentation


def test_an_empty_sum_is_still_prometheus_text() -> None:
    assert list(text_string_to_metric_families(render(Snapshot(workers=())).decode()))
