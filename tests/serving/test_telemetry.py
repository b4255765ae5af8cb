"""Telemetry: bounded, beside the path, and nothing counted is lost or doubled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from typing import Any
from weakref import ref

import pytest

from steadynet.home import Home
from steadynet.monitoring.records import Feedback, LoggedRow
from steadynet.monitoring.windows import Role, Window
from steadynet.rollout.route import Route
from steadynet.rollout.router import sampled
from steadynet.runtime.spool import read_spool
from steadynet.serving import telemetry as telemetry_module
from steadynet.serving.dataplane import Ask, DataPlane
from steadynet.serving.metrics import read_total, render
from steadynet.serving.telemetry import LOGGED_ROWS, next_log_share
from steadynet.serving.versions import LoadedVersion

NAME = "payments"
Load = Callable[..., LoadedVersion]
MakeRoute = Callable[..., Route]
OpenPlane = Callable[..., AbstractAsyncContextManager[DataPlane]]
ReadWindows = Callable[[], dict[tuple[str, Role], Window]]


def ask(request_id: str, rows: int = 1) -> Ask:
    """Return a request."""
    row: dict[str, Any] = {
        "amount": 12.5,
        "label": None,
        "country": "DE",
        "new_card": True,
        "paid_at": "2026-01-01",
        "unused": "x",
    }
    return Ask(request_id, {name: [value] * rows for name, value in row.items()}, rows, 0.0)


def test_windows_are_published_as_time_goes_and_none_is_empty(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, home: Home
) -> None:
    champion = load()

    async def main() -> list[Window]:
        async with open_plane() as plane:
            plane.deploy(make_route(champion), champion, None)
            for number in range(3):
                await plane.infer(ask(f"r{number}"))
                await plane.telemetry.publish()
                await plane.telemetry.publish()
            found, _ = read_spool(home.spool(NAME, "windows"), {}, Window, 100)
            return found

    windows = asyncio.run(main())
    assert [window.requests for window in windows] == [1, 1, 1]
    for before, after in pairwise(windows):
        assert before.start < before.end <= after.start < after.end


def test_a_tally_that_is_full_is_counted_before_its_time_and_only_once(
    load: Load,
    make_route: MakeRoute,
    open_plane: OpenPlane,
    read_windows: ReadWindows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telemetry_module, "FULL_ROWS", 10)
    champion = load()

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion), champion, None)
            await asyncio.gather(*(plane.infer(ask(f"r{n}", rows=3)) for n in range(20)))
            held = sum(run.rows for run in plane.deployment.champion.tally.now.scored)
            assert held < 10

    asyncio.run(main())
    window = read_windows()["1", "champion"]
    assert (window.requests, window.rows) == (20, 60)
    assert sum(window.features["country"].counts) == 60


def test_only_the_models_columns_are_logged(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, home: Home
) -> None:
    champion = load()

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion), champion, None)
            await plane.infer(ask("r"))

    asyncio.run(main())
    (row,), _ = read_spool(home.spool(NAME, "rows"), {}, LoggedRow, 10)
    assert row.row == {
        "amount": 12.5,
        "label": None,
        "country": "DE",
        "new_card": True,
        "paid_at": "2026-01-01",
    }
    assert row.label in ("legit", "fraud")
    assert sum(row.probabilities) == pytest.approx(1.0, abs=1e-5)


def test_the_sample_of_the_log_is_drawn_by_the_request_id(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, home: Home
) -> None:
    champion = load()
    ids = [f"request-{number}" for number in range(60)]

    async def main() -> None:
        async with open_plane(log_share=0.5) as plane:
            plane.deploy(make_route(champion), champion, None)
            await asyncio.gather(*(plane.infer(ask(request_id)) for request_id in ids))

    asyncio.run(main())
    found, _ = read_spool(home.spool(NAME, "rows"), {}, LoggedRow, 100)
    assert {row.id for row in found} == {item for item in ids if sampled(0.5, item)}
    assert 10 < len(found) < 50


def test_much_traffic_is_logged_in_part(
    load: Load,
    make_route: MakeRoute,
    open_plane: OpenPlane,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telemetry_module, "LOGGED_ROWS", 50)
    monkeypatch.setattr(telemetry_module, "MAX_LOGGED_ROWS", 200)
    champion = load()

    async def main() -> tuple[int, int]:
        async with open_plane() as plane:
            plane.deploy(make_route(champion), champion, None)
            for number in range(500):
                await plane.infer(ask(f"a{number}"))
            await plane.telemetry.publish()
            dropped = plane.telemetry.events["rows_not_logged"]
            for number in range(500):
                await plane.infer(ask(f"b{number}"))
            await plane.telemetry.publish()
            return dropped, plane.telemetry.events["rows_not_logged"]

    first, second = asyncio.run(main())
    assert first == second == 300, "only the first window was surprised"
    found, _ = read_spool(home.spool(NAME, "rows"), {}, LoggedRow, 10_000)
    assert sum(row.id.startswith("a") for row in found) == 200
    assert 20 < sum(row.id.startswith("b") for row in found) < 100


def test_the_share_of_the_next_window() -> None:
    assert next_log_share(1.0, 0) == 1.0
    assert next_log_share(1.0, LOGGED_ROWS) == 1.0
    assert next_log_share(1.0, 4 * LOGGED_ROWS) == 0.25
    assert next_log_share(0.1, 4 * LOGGED_ROWS) == 0.1
    assert next_log_share(0.0, 10**9) == 0.0


def test_a_scrape_holds_the_newest_counts_and_never_falls(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, home: Home
) -> None:
    champion = load()

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion), champion, None)
            for number in range(5):
                await plane.infer(ask(f"r{number}"))
                text = render(await plane.telemetry.total()).decode()
                assert f'version="1"}} {number + 1}.0' in text
                (window,) = read_total(home.metrics(NAME)).windows
                assert window.requests == number + 1
                if number == 2:
                    await plane.telemetry.publish()

    asyncio.run(main())


def test_a_disk_that_takes_nothing_stops_no_request_and_is_counted(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, home: Home
) -> None:
    champion = load()
    # A file where a folder must be: every write fails, as on a full disk.
    for folder in (home.spool(NAME, "rows"), home.spool(NAME, "feedback"), home.metrics(NAME)):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.write_bytes(b"")

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion), champion, None)
            await plane.infer(ask("r"))
            await plane.telemetry.publish()
            assert plane.telemetry.events["records_dropped"] == 1
            kept = await plane.telemetry.feedback([Feedback(id="r", label="fraud")])
            assert kept == 0
            assert plane.telemetry.events["feedback"] == 0
            assert (await plane.infer(ask("r2"))).loaded is champion

    asyncio.run(main())
    found, _ = read_spool(home.spool(NAME, "windows"), {}, Window, 10)
    assert sum(window.requests for window in found) == 2


def test_the_pace_knows_how_many_tallies_and_callers_wait(
    load: Load,
    make_route: MakeRoute,
    open_plane: OpenPlane,
    read_windows: ReadWindows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    champion = load()
    monkeypatch.setattr(telemetry_module, "FULL_ROWS", 1)
    go_on = threading.Event()

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion), champion, None)
            pace = plane.telemetry.pace
            monkeypatch.setattr(pace, "rest", go_on.wait)
            for number in range(3):
                await plane.infer(ask(f"a{number}"))
                assert pace.waiting == number + 1
            scrape = asyncio.create_task(plane.telemetry.total())
            await asyncio.sleep(0)
            assert pace.callers == 1
            go_on.set()
            await scrape
            await plane.telemetry.publish()
            assert (pace.waiting, pace.callers) == (0, 0)

    asyncio.run(main())
    (window,) = read_windows().values()
    assert window.requests == 3


class HeldTable(dict[str, Any]):
    """A caller's rows that can be watched."""


def test_rows_and_batches_are_let_go_of_one_by_one(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = load()
    requests = 5

    async def main() -> tuple[list[int], list[int]]:
        async with open_plane() as plane:
            plane.deploy(make_route(champion), champion, None)
            tables: list[ref[HeldTable]] = []
            for number in range(requests):
                table = HeldTable(ask("").table)
                tables.append(ref(table))
                await plane.infer(Ask(f"a{number}", table, 1, 0.0))
            del table
            batches = plane.telemetry.tally(champion, "champion").now.scored
            held_tables: list[int] = []
            held_batches: list[int] = []

            def rest() -> None:
                held_tables.append(sum(table() is not None for table in tables))
                held_batches.append(len(batches))

            rest()
            monkeypatch.setattr(plane.telemetry.pace, "rest", rest)
            await plane.telemetry.publish()
            return held_tables, held_batches

    for held in asyncio.run(main()):
        assert (held[0], held[-1]) == (requests, 0)
        assert all(before - after in (0, 1) for before, after in pairwise(held))
