"""What workers count of their own work: batches are never lost, a finished worker's process is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from serving_scene import ROW

from steadynet.home import Home
from steadynet.rollout.route import Route
from steadynet.runtime.batching import Scored
from steadynet.serving import worker_counts
from steadynet.serving.dataplane import Ask, DataPlane
from steadynet.serving.metrics import Snapshot, add_up, read_total, render, retire, write_snapshot
from steadynet.serving.versions import LoadedVersion
from steadynet.serving.worker_counts import (
    BATCH_BOUNDS,
    Process,
    Share,
    add_batches,
    count_batches,
    own_process,
)

Told = dict[tuple[str, frozenset[tuple[str, str]]], float]


def told(total: Snapshot) -> Told:
    """Return (name, labels) → value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(render(total).decode())
        for sample in family.samples
    }


def runs(sizes: list[int]) -> list[Scored]:
    return [Scored(size, {}, {}, size * 1e-4) for size in sizes]


def snapshot(worker: str, requests: int, model: str = "m") -> Snapshot:
    return Snapshot(
        workers=(worker,),
        batches={f"{model}/1/champion": count_batches(runs([requests]))},
        shares={model: {worker: Share(requests, 3)}},
        processes={worker: Process(1.0, 1000)},
        responses={model: {"200": requests}, "": {"200": 1}},
    )


@given(st.lists(st.integers(1, 20_000), min_size=1), st.lists(st.integers(1, 99), min_size=1))
def test_every_batch_is_in_the_first_bucket_that_holds_it(one: list[int], two: list[int]) -> None:
    counted = count_batches(runs(one))
    for place, bound in enumerate(BATCH_BOUNDS):
        assert sum(counted.rows[: place + 1]) == sum(size <= bound for size in one)
    assert sum(counted.rows) == sum(counted.seconds) == len(one)
    assert counted.total_rows == sum(one)
    assert add_batches(counted, count_batches(runs(two))) == count_batches(runs(one + two))


def test_batches_of_a_finished_worker_stay_and_its_process_goes(tmp_path: Path) -> None:
    for worker, requests in (("w1", 3), ("w2", 4)):
        write_snapshot(tmp_path, snapshot(worker, requests))
    retire(tmp_path, "w1")
    total = read_total(tmp_path)
    assert total.batches["m/1/champion"].total_rows == 7
    assert total.shares == {"m": {"w2": Share(4, 3)}}
    assert total.processes.keys() == {"w2"}
    assert total.responses == {"m": {"200": 7}, "": {"200": 2}}


def test_one_worker_of_two_models_is_one_process() -> None:
    found = told(add_up([snapshot("w1", 3, "a"), snapshot("w1", 4, "b")]))

    def of(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    assert of("steadynet_worker_requests_total", model="a", worker="w1") == 3
    assert of("steadynet_worker_requests_total", model="b", worker="w1") == 4
    assert of("steadynet_worker_queued_rows", model="a", worker="w1") == 3
    assert of("steadynet_worker_cpu_seconds_total", worker="w1") == 1
    assert of("steadynet_worker_resident_memory_bytes", worker="w1") == 1000
    assert of("steadynet_http_responses_total", model="a", status="200") == 3
    assert of("steadynet_http_responses_total", model="", status="200") == 2
    labels = {"model": "a", "version": "1", "role": "champion"}
    assert of("steadynet_batch_rows_bucket", le="2", **labels) == 0
    assert of("steadynet_batch_rows_bucket", le="4", **labels) == 1
    assert of("steadynet_batch_rows_sum", **labels) == 3
    assert of("steadynet_batch_seconds_count", **labels) == 1


def test_a_process_knows_its_memory_where_the_system_tells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    process = own_process()
    assert process.memory_bytes is not None
    assert process.memory_bytes > 10_000_000, "numpy alone takes more"
    assert process.cpu_s > 0
    monkeypatch.setattr(worker_counts, "STATM", tmp_path / "statm")
    untold = Snapshot(workers=("w",), processes={"w": own_process()})
    assert "memory_bytes{" not in render(untold).decode()


def test_a_plane_tells_its_batches_its_requests_and_what_waits(
    load: Callable[..., LoadedVersion],
    make_route: Callable[..., Route],
    open_plane: Callable[..., AbstractAsyncContextManager[DataPlane]],
    home: Home,
) -> None:
    champion = load()

    async def main() -> None:
        async with open_plane() as plane:
            assert plane.telemetry.queued_rows() == 0
            plane.deploy(make_route(champion), champion, None)
            asks = [
                asyncio.ensure_future(
                    plane.infer(Ask(f"r{n}", {k: [v] * 2 for k, v in ROW.items()}, 2, 0.0))
                )
                for n in range(3)
            ]
            await asyncio.sleep(0)
            assert plane.telemetry.queued_rows() == 6
            await asyncio.gather(*asks)
            assert plane.telemetry.queued_rows() == 0

    asyncio.run(main())
    total = read_total(home.metrics("payments"))
    assert total.batches["payments/1/champion"].total_rows == 6
    ((worker, share),) = total.shares["payments"].items()
    assert share == Share(3, 0)
    assert total.processes.keys() == {worker}
