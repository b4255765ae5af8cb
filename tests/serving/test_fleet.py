"""The fleet: what the route names is loaded, checked and swapped in; what fails is reported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import Context
from pathlib import Path
from typing import Any, TypeVarTuple

import msgspec
import pytest

from steadynet.bundle.manifest import MODEL
from steadynet.clock import SystemClock
from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.rollout.route import Endpoint, Route, WorkerStatus
from steadynet.serving import fleet
from steadynet.serving.dataplane import Ask, DataPlane
from steadynet.serving.fleet import Fleet, applicable
from steadynet.serving.versions import LoadedVersion

NAME = "payments"
OpenPlane = Callable[..., AbstractAsyncContextManager[DataPlane]]
MakeEndpoint = Callable[..., Endpoint]
Parts = TypeVarTuple("Parts")
RunFleet = Callable[[Callable[["Scene"], Awaitable[None]]], None]

TABLE: dict[str, list[Any]] = {
    "amount": [12.5],
    "label": [0.5],
    "country": ["DE"],
    "new_card": [True],
    "paid_at": ["2026-01-01"],
}


class Scene:
    """A fleet that runs, and the files around it."""

    def __init__(self, home: Home, plane: DataPlane) -> None:
        self.home = home
        self.plane = plane

    def write(self, route: Route) -> None:
        """Write the route as the controller does."""
        write_atomic(self.home.route(NAME), msgspec.json.encode(route))

    def status(self) -> WorkerStatus | None:
        """Return the worker's status as the controller reads it."""
        try:
            data = (self.home.workers(NAME) / "w1.json").read_bytes()
        except FileNotFoundError:
            return None
        return msgspec.json.decode(data, type=WorkerStatus)

    async def until(self, holds: Callable[[WorkerStatus], bool]) -> WorkerStatus:
        """Wait until the status says something."""
        async with asyncio.timeout(60):
            while (status := self.status()) is None or not holds(status):
                await asyncio.sleep(0.02)
        return status


@pytest.fixture
def run_fleet(home: Home, open_plane: OpenPlane) -> RunFleet:
    """Runs a coroutine function beside a fleet."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Scene]:
        async with open_plane() as plane:
            followed = Fleet(home, NAME, "w1", plane, clock=SystemClock())
            stopping = asyncio.Event()
            task = asyncio.create_task(followed.run(stopping))
            yield Scene(home, plane)
            stopping.set()
            followed.wake()
            await task

    def run(work: Callable[[Scene], Awaitable[None]]) -> None:
        async def main() -> None:
            async with opened() as scene:
                await work(scene)

        asyncio.run(main())

    return run


def route(generation: int, champion: Endpoint, challenger: Endpoint | None = None) -> Route:
    """Return a route."""
    return Route(
        model=NAME,
        generation=generation,
        champion=champion,
        challenger=challenger,
        share=1.0 if challenger else 0.0,
    )


def spoil(endpoint: Endpoint) -> None:
    """Change a bundle after it was signed."""
    path = Path(endpoint.bundle) / MODEL
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"\0")


async def answering(plane: DataPlane) -> str:
    """Return the version that answers now."""
    return (await plane.infer(Ask("r", TABLE, 1, 0.0))).loaded.version


def test_the_route_is_followed(run_fleet: RunFleet, make_endpoint: MakeEndpoint) -> None:
    first, second = make_endpoint("1"), make_endpoint("2")

    async def work(scene: Scene) -> None:
        waiting = await scene.until(lambda status: True)
        assert not waiting.ready
        scene.write(route(1, first))
        status = await scene.until(lambda status: status.generation == 1)
        assert (status.ready, status.versions, status.failures) == (True, ("1",), {})
        assert await answering(scene.plane) == "1"
        scene.write(route(2, first, second))
        status = await scene.until(lambda status: status.generation == 2)
        assert status.versions == ("1", "2")
        assert await answering(scene.plane) == "2"
        scene.write(route(3, second))
        status = await scene.until(lambda status: status.generation == 3)
        assert status.versions == ("2",), "what the route does not name is let go"
        assert await answering(scene.plane) == "2"
        assert scene.plane.deployment.challenger is None

    run_fleet(work)


def test_the_status_goes_with_the_worker(
    run_fleet: RunFleet, make_endpoint: MakeEndpoint, home: Home
) -> None:
    async def work(scene: Scene) -> None:
        scene.write(route(1, make_endpoint("1")))
        await scene.until(lambda status: status.ready)

    run_fleet(work)
    assert list(home.workers(NAME).iterdir()) == []


def test_a_challenger_that_cannot_be_loaded_is_reported_and_the_champion_goes_on(
    run_fleet: RunFleet, make_endpoint: MakeEndpoint
) -> None:
    first, second = make_endpoint("1"), make_endpoint("2")
    spoil(second)

    async def work(scene: Scene) -> None:
        scene.write(route(1, first))
        await scene.until(lambda status: status.ready)
        scene.write(route(2, first, second))
        status = await scene.until(lambda status: bool(status.failures))
        assert set(status.failures) == {"2"}
        assert MODEL in status.failures["2"]
        assert (status.generation, status.ready, status.versions) == (1, True, ("1",))
        assert await answering(scene.plane) == "1"
        scene.write(route(3, first))
        status = await scene.until(lambda status: status.generation == 3)
        assert status.failures == {}

    run_fleet(work)


def test_a_champion_that_cannot_be_loaded_leaves_the_old_one_in_place(
    run_fleet: RunFleet, make_endpoint: MakeEndpoint
) -> None:
    first, second = make_endpoint("1"), make_endpoint("2")
    spoil(second)

    async def work(scene: Scene) -> None:
        scene.write(route(1, first))
        await scene.until(lambda status: status.ready)
        scene.write(route(2, second))
        status = await scene.until(lambda status: "2" in status.failures)
        assert (status.generation, status.ready) == (1, True)
        assert await answering(scene.plane) == "1"

    run_fleet(work)


@pytest.mark.parametrize("wrong", ["digest", "path"])
def test_a_bundle_other_than_the_routes_is_never_used(
    run_fleet: RunFleet, make_endpoint: MakeEndpoint, wrong: str
) -> None:
    endpoint = make_endpoint("1")
    changes = {"digest": {"manifest_sha256": "0" * 64}, "path": {"bundle": "/nowhere"}}[wrong]
    other = msgspec.structs.replace(endpoint, **changes)

    async def work(scene: Scene) -> None:
        scene.write(route(1, other))
        status = await scene.until(lambda status: bool(status.failures))
        assert not status.ready
        assert not scene.plane.ready
        scene.write(route(2, endpoint))
        await scene.until(lambda status: status.ready)

    run_fleet(work)


def test_a_route_that_cannot_be_read_changes_nothing(
    run_fleet: RunFleet, make_endpoint: MakeEndpoint
) -> None:
    first = make_endpoint("1")

    async def work(scene: Scene) -> None:
        scene.write(route(1, first))
        await scene.until(lambda status: status.ready)
        write_atomic(scene.home.route(NAME), b"{")
        before = await scene.until(lambda status: True)
        await scene.until(lambda status: status.at > before.at)
        assert await answering(scene.plane) == "1"
        scene.home.route(NAME).unlink()
        later = await scene.until(lambda status: True)
        await scene.until(lambda status: status.at > later.at)
        assert await answering(scene.plane) == "1"
        scene.write(route(2, first))
        await scene.until(lambda status: status.generation == 2)

    run_fleet(work)


def test_a_rollback_does_not_wait_for_a_version_that_loads(
    run_fleet: RunFleet, make_endpoint: MakeEndpoint
) -> None:
    first, second = make_endpoint("1"), make_endpoint("2")
    slow = make_endpoint("3", variant="slow", slow_products=120)

    async def work(scene: Scene) -> None:
        scene.write(route(1, first, second))
        await scene.until(lambda status: status.generation == 1)
        scene.write(route(2, first, slow))
        async with asyncio.timeout(60):
            while await answering(scene.plane) != "1":
                await asyncio.sleep(0)
        status = scene.status()
        assert status is not None
        assert "3" not in status.versions, "the challenger was gone before the next one was there"
        await scene.until(lambda status: status.generation == 2)

    run_fleet(work)


class TimedLoop(asyncio.SelectorEventLoop):
    """An event loop that tells which timers for a retry are set."""

    def __init__(self) -> None:
        super().__init__()
        self._retries: list[asyncio.TimerHandle] = []

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Parts], object],
        *args: *Parts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer, and remember it where it is for a retry."""
        handle = super().call_later(delay, callback, *args, context=context)
        if delay == fleet.RETRY_S:
            self._retries.append(handle)
        return handle

    def retries(self) -> int:
        """Return how many retries are to come."""
        return sum(not handle.cancelled() for handle in self._retries)


def test_a_broken_version_waits_for_one_retry_and_none_outlives_the_fleet(
    home: Home, open_plane: OpenPlane, make_endpoint: MakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "RETRY_S", 1234.5)
    first, second = make_endpoint("1"), make_endpoint("2")
    spoil(second)
    loop = TimedLoop()

    async def main() -> None:
        async with open_plane() as plane:
            scene, stopping = Scene(home, plane), asyncio.Event()
            ended = Fleet(home, NAME, "w1", plane, clock=SystemClock())
            task = asyncio.create_task(ended.run(stopping))
            scene.write(route(1, first))
            await scene.until(lambda status: status.ready)
            for _ in range(3):
                ended.pin([])
                ended.pin([second])
                assert set(await ended.until_settled()) == {"2"}
                assert loop.retries() == 1
            ended.pin([second])
            waiting = asyncio.create_task(ended.until_settled())
            stopping.set()
            ended.wake()
            await task
            assert loop.retries() == 0
            await waiting
            plane.undeploy()
            ended.pin([])
            assert not plane.ready, "it is another fleet's now"

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())


def test_whoever_waits_for_a_fleet_that_ends_waits_no_longer(
    home: Home, open_plane: OpenPlane
) -> None:
    async def main() -> None:
        async with open_plane() as plane:
            stopping = asyncio.Event()
            ended = Fleet(home, NAME, "w1", plane, clock=SystemClock())
            task = asyncio.create_task(ended.run(stopping))
            waiting = asyncio.create_task(ended.until_settled())
            await Scene(home, plane).until(lambda status: True)
            stopping.set()
            await task
            async with asyncio.timeout(60):
                assert await waiting == {}

    asyncio.run(main())


class Loaded(LoadedVersion):
    """A stand-in for what `applicable` only passes through."""

    def __init__(self) -> None:
        self.columns = ()


A = Endpoint(version="1", bundle="/1", manifest_sha256="1")
B = Endpoint(version="2", bundle="/2", manifest_sha256="2")


def test_what_can_be_applied_of_a_route() -> None:
    one, two = Loaded(), Loaded()
    alone, both = route(1, A), route(2, A, B)
    nothing = applicable(both, {}, None)
    assert (nothing.champion, nothing.challenger, nothing.wholly) == (None, None, False)
    partly = applicable(both, {A: one}, None)
    assert (partly.champion, partly.challenger, partly.wholly) == (one, None, False)
    wholly = applicable(both, {A: one, B: two}, one)
    assert (wholly.champion, wholly.challenger, wholly.wholly) == (one, two, True)
    assert applicable(alone, {A: one, B: two}, one).challenger is None
    promoted = applicable(route(3, B), {A: one, B: two}, one)
    assert (promoted.champion, promoted.wholly) == (two, True)
    waiting = applicable(route(3, B), {A: one}, one)
    assert (waiting.champion, waiting.wholly) == (one, False), "the old one stays meanwhile"
