"""The models of one worker: what transports answer for, and how it follows the supervisor's word.

Invariants:
- A model that is loaded while the server runs is not answered for before its golden rows passed,
  so that it never makes the server unready, and no caller sees half of it.
- What was taken is answered: an unloaded model is asked for nothing new, and its lanes stay until
  every request that had reached it has ended.
- What was counted is shown as long as the server runs, whether or not its model is still served.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from steadynet.clock import Clock
from steadynet.home import Home
from steadynet.serving.dataplane import DataPlane
from steadynet.serving.fleet import Fleet
from steadynet.serving.settings import Served, ServedModel, WorkerSettings
from steadynet.serving.telemetry import Telemetry
from steadynet.spec.model import ServeSpec

logger = logging.getLogger(__name__)

ReportFollowed = Callable[[int, dict[str, str]], None]


@dataclass
class Offer:
    """What a worker answers for at this moment; transports look at it for each request."""

    planes: dict[str, DataPlane]
    telemetries: dict[str, Telemetry]
    """Of every model that this server has answered for since its start."""
    first: str
    """The model with which is counted what concerns none."""
    alone: str | None
    """The model that paths without a name mean."""
    on_change: list[Callable[[], None]] = field(default_factory=list)

    @property
    def general(self) -> Telemetry:
        """Where is counted what concerns no model."""
        return self.telemetries[self.first]

    @property
    def is_ready(self) -> bool:
        """Whether every model can answer."""
        return all(plane.ready for plane in self.planes.values())

    def changed(self) -> None:
        """Tell the transports that there are other models now."""
        for tell in self.on_change:
            tell()


@dataclass
class _Running:
    """One model that is served, and what keeps it equal to its route."""

    plane: DataPlane
    fleet: Fleet
    stopping: asyncio.Event
    task: asyncio.Task[None]


class Models:
    """Keeps a worker's offer as the supervisor says. Used on the event loop alone."""

    def __init__(
        self, home: Home, settings: WorkerSettings, report: ReportFollowed, *, clock: Clock
    ) -> None:
        self._home = home
        self._serve = settings.serve
        self._worker = settings.worker
        self._report = report
        self._clock = clock
        self._ending = False
        self._failed = asyncio.Event()
        self._running: dict[str, _Running] = {}
        self._planes: dict[str, DataPlane] = {}
        self._resting: dict[str, asyncio.TimerHandle] = {}
        """Unloaded models whose lanes still answer what they had taken."""
        self._following: set[asyncio.Task[None]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self.offer = Offer({}, {}, settings.first, settings.alone)
        for name in (settings.first, *settings.served.past):
            self._telemetry(name)
        for model in settings.served.models:
            self.offer.planes[model.name] = self._begin(model).plane
        self._follow_on(settings.served)

    async def until_ready(self) -> None:
        """Return once every model was tried and at least one can answer.

        Not one connection is taken before: until then others of the shared socket take it, or it
        waits there. A model that cannot be loaded doesn't keep the others from answering.
        """
        for running in self._running.values():
            await running.fleet.until_tried()
        planes = [running.plane for running in self._running.values()]
        waiting = [asyncio.create_task(plane.until_ready()) for plane in planes]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    def follow(self, served: Served) -> None:
        """Answer for these models from now on; report when all that is new was tried."""
        wanted = {model.name: model for model in served.models}
        for name in [name for name in self._running if name not in wanted]:
            self._end(name)
        for name, model in wanted.items():
            if (running := self._running.get(name)) is None:
                self._begin(model)
            else:
                running.fleet.pin(model.pinned)
        self._follow_on(served)

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow routes until `stopping` is set, or something fails that must not."""
        waiting = [asyncio.create_task(each.wait()) for each in (stopping, self._failed)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        self._ending = True
        for task in (*waiting, *self._following):
            task.cancel()
        for handle in self._resting.values():
            handle.cancel()
        for running in self._running.values():
            running.stopping.set()
            running.fleet.wake()
        tasks = [running.task for running in self._running.values()]
        await asyncio.gather(*tasks, *self._leaving)

    async def stop(self) -> None:
        """Publish what was counted since the last window, and end."""
        for telemetry in self.offer.telemetries.values():
            await telemetry.stop()

    def _begin(self, model: ServedModel) -> _Running:
        """Hold a model's versions; one whose lanes still rest goes on with them."""
        name = model.name
        if (handle := self._resting.pop(name, None)) is not None:
            handle.cancel()
        plane = self._planes.get(name)
        if plane is None:
            plane = DataPlane(name, self._serve, self._telemetry(name))
            self._planes[name] = plane
        fleet = Fleet(self._home, name, self._worker, plane, pinned=model.pinned, clock=self._clock)
        stopping = asyncio.Event()
        task = asyncio.create_task(fleet.run(stopping))
        task.add_done_callback(self._look_at_end)
        running = _Running(plane, fleet, stopping, task)
        self._running[name] = running
        return running

    def _end(self, name: str) -> None:
        running = self._running.pop(name)
        self.offer.planes.pop(name, None)
        self.offer.changed()
        running.stopping.set()
        running.fleet.wake()
        self._leaving.add(running.task)
        running.task.add_done_callback(self._leaving.discard)
        handle = asyncio.get_running_loop().call_later(
            longest_request_s(self._serve), self._let_go, name
        )
        self._resting[name] = handle
        logger.info("%s is unloaded", name)

    def _let_go(self, name: str) -> None:
        del self._resting[name]
        self._planes.pop(name).undeploy()

    def _follow_on(self, served: Served) -> None:
        """Wait for what is new, and tell the supervisor."""
        task = asyncio.create_task(self._settle(served))
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        task.add_done_callback(self._look_at_end)

    async def _settle(self, served: Served) -> None:
        failures: dict[str, str] = {}
        for name, running in list(self._running.items()):
            for version, why in (await running.fleet.until_settled()).items():
                failures[f"{name}/{version}"] = why
            is_served = self._running.get(name) is running
            if is_served and running.plane.ready and name not in self.offer.planes:
                self.offer.planes[name] = running.plane
                self.offer.changed()
                logger.info("%s is loaded", name)
        self._report(served.number, failures)

    def _telemetry(self, name: str) -> Telemetry:
        known = self.offer.telemetries.get(name)
        if known is not None:
            return known
        telemetry = Telemetry(
            self._home,
            name,
            self._worker,
            window_s=self._serve.window_s,
            log_share=self._serve.log_share,
            redact=self._serve.redact,
            clock=self._clock,
        )
        telemetry.publishing.add_done_callback(self._look_at_end)
        self.offer.telemetries[name] = telemetry
        return telemetry

    def _look_at_end(self, task: asyncio.Task[None]) -> None:
        """End the worker where something ends that should go on: the supervisor starts another."""
        if task.cancelled() or self._ending:
            return
        if (error := task.exception()) is not None:
            logger.error("a part of the worker failed: %s", type(error).__name__, exc_info=error)
            self._failed.set()


def longest_request_s(serve: ServeSpec) -> float:
    """Return how long a request may take from its first byte until it is in a lane. Pure.

    What is in a lane by then is answered, also after the lane was closed.
    """
    return serve.read_timeout_s + (serve.deadline_ms + serve.challenger_deadline_ms) / 1000
