"""Keeps a worker's versions as `route.json` wants them: load, check, swap, let go, report.

Invariants:
- The champion in place answers until the one that the route names is loaded and its golden rows
  passed; a version that cannot be loaded is reported and never answers.
- What the route takes away (a challenger, its share) is gone at once, also while another version
  is still loading.
- A route of a lower generation than the newest one is never applied: it was written by a controller
  that slept while another one acted.
- `generation` of the status is the newest route that is applied wholly.
- Pinned versions are held beside the route's; they never answer in its place.
- A version that cannot be loaded waits for one retry at a time; a fleet that has ended deploys
  nothing more.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from steadynet.clock import Clock
from steadynet.errors import SteadynetError
from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.rollout.route import Endpoint, Route, WorkerStatus
from steadynet.serving.dataplane import DataPlane
from steadynet.serving.versions import LoadedVersion, load_version

logger = logging.getLogger(__name__)

POLL_S = 0.05
STATUS_S = 1.0
RETRY_S = 5.0
"""After this long a version that could not be loaded is tried again, while the route names it."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What can be answered with of a route at this moment."""

    champion: LoadedVersion | None
    challenger: LoadedVersion | None
    wholly: bool


def applicable(
    route: Route, loaded: dict[Endpoint, LoadedVersion], champion: LoadedVersion | None
) -> Applied:
    """Decide what of a route can be applied, with `champion` the one in place. Pure."""
    wanted = loaded.get(route.champion)
    challenger = loaded.get(route.challenger) if route.challenger is not None else None
    wholly = wanted is not None and (route.challenger is None or challenger is not None)
    return Applied(wanted or champion, challenger, wholly)


class Fleet:
    """Watches the route of one model and keeps the data plane equal to it."""

    def __init__(
        self,
        home: Home,
        model: str,
        worker: str,
        plane: DataPlane,
        *,
        pinned: Sequence[Endpoint] = (),
        clock: Clock,
    ) -> None:
        self._model = model
        self._worker = worker
        self._plane = plane
        self._clock = clock
        self._route_path = home.route(model)
        self._status_path = home.workers(model) / f"{worker}.json"
        self._seen: tuple[int, int, int] | None = None
        self._route: Route | None = None
        self._pinned = tuple(pinned)
        self._generation = 0
        self._loaded: dict[Endpoint, LoadedVersion] = {}
        self._loading: dict[Endpoint, asyncio.Task[None]] = {}
        self._failures: dict[Endpoint, str] = {}
        self._retries: dict[Endpoint, asyncio.TimerHandle] = {}
        self._ended = False
        self._changed = asyncio.Event()
        self._tried = asyncio.Event()
        self._progress = asyncio.Event()
        self._written: WorkerStatus | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow the route until `stopping` is set."""
        while not stopping.is_set():
            self._look()
            self._report()
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), POLL_S)
            except TimeoutError:
                continue
        self._end()
        self._status_path.unlink(missing_ok=True)

    def _end(self) -> None:
        """Load and deploy nothing more; whoever waits for it waits no longer."""
        self._ended = True
        self._route = None
        for task in self._loading.values():
            task.cancel()
        for handle in self._retries.values():
            handle.cancel()
        self._retries.clear()
        self._tell_progress()

    async def until_tried(self) -> None:
        """Return once a champion is loaded or cannot be loaded."""
        await self._tried.wait()

    async def until_settled(self) -> dict[str, str]:
        """Return once all versions that are named were tried: version → why it cannot be loaded.

        A fleet that has ended tries nothing more.
        """
        while not self._ended and not self._is_settled():
            await self._progress.wait()
        return {endpoint.version: why for endpoint, why in self._failures.items()}

    def _is_settled(self) -> bool:
        return self._route is not None and all(
            endpoint in self._loaded or endpoint in self._failures
            for endpoint in self._named(self._route)
        )

    def pin(self, pinned: Sequence[Endpoint]) -> None:
        """Hold these versions beside the route's from now on, and no others."""
        self._pinned = tuple(pinned)
        if self._route is not None:
            self._load_missing(self._route)
            self._apply()

    def wake(self) -> None:
        """Look at once instead of at the next poll."""
        self._changed.set()

    def _look(self) -> None:
        """Read the route where its file is new, and apply what can be applied."""
        route = self._read_changed()
        newest = 0 if self._route is None else self._route.generation
        if route is not None and route.generation < newest:
            # A controller that slept while another one took over has woken up.
            logger.warning("route %d is older than route %d: ignored", route.generation, newest)
        elif route is not None:
            self._route = route
            self._load_missing(route)
            self._apply()
            self._tell_progress()

    def _tell_progress(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    def _named(self, route: Route) -> list[Endpoint]:
        """Return the versions that shall be held, the champion first."""
        routed = (route.champion, route.challenger)
        named = [endpoint for endpoint in routed if endpoint is not None]
        return named + [endpoint for endpoint in self._pinned if endpoint not in named]

    def _read_changed(self) -> Route | None:
        try:
            stat = self._route_path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen == self._seen:
                return None
            self._seen = seen
            return msgspec.json.decode(self._route_path.read_bytes(), type=Route)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            logger.error("%s cannot be read and is ignored: %s", self._route_path, error)
            return None

    def _load_missing(self, route: Route) -> None:
        for endpoint in self._named(route):
            if endpoint not in self._loaded and endpoint not in self._loading:
                if (retry := self._retries.pop(endpoint, None)) is not None:
                    retry.cancel()
                self._loading[endpoint] = asyncio.create_task(self._load(endpoint))

    async def _load(self, endpoint: Endpoint) -> None:
        """Load a version in a thread; apply the route when it is there."""
        try:
            loaded = await asyncio.to_thread(load_version, self._model, endpoint)
        except (SteadynetError, OSError) as error:
            if self._failures.get(endpoint) != str(error):
                logger.error("version %s cannot be loaded: %s", endpoint.version, error)
            self._failures[endpoint] = str(error)
            self._retries[endpoint] = asyncio.get_running_loop().call_later(
                RETRY_S, self._retry, endpoint
            )
        else:
            logger.info(
                "version %s is loaded; a batch takes %.3g ms",
                endpoint.version,
                loaded.batch_s * 1000,
            )
            self._failures.pop(endpoint, None)
            self._loaded[endpoint] = loaded
        finally:
            del self._loading[endpoint]
        self._apply()
        if self._route is not None and endpoint == self._route.champion:
            self._tried.set()
        self._changed.set()
        self._tell_progress()

    def _retry(self, endpoint: Endpoint) -> None:
        del self._retries[endpoint]
        if self._route is not None and endpoint in self._named(self._route):
            self._load_missing(self._route)

    def _apply(self) -> None:
        """Answer by what of the newest route is loaded; let go of what it does not name."""
        route = self._route
        if route is None:
            return
        in_place = self._plane.deployment.champion.loaded if self._plane.ready else None
        applied = applicable(route, self._loaded, in_place)
        if applied.champion is not None:
            pinned = [self._loaded[each] for each in self._pinned if each in self._loaded]
            self._plane.deploy(route, applied.champion, applied.challenger, pinned)
        if applied.wholly and route.generation != self._generation:
            self._generation = route.generation
            logger.info("route %d is applied", route.generation)
        named = set(self._named(route))
        kept = {applied.champion, applied.challenger}
        self._loaded = {
            endpoint: loaded
            for endpoint, loaded in self._loaded.items()
            if endpoint in named or loaded in kept
        }
        self._failures = {
            endpoint: why for endpoint, why in self._failures.items() if endpoint in named
        }

    def _report(self) -> None:
        """Write the status where it changed, and at least each second."""
        now = self._clock.now()
        status = WorkerStatus(
            worker=self._worker,
            pid=os.getpid(),
            at=now,
            generation=self._generation,
            ready=self._plane.ready,
            versions=tuple(sorted({loaded.version for loaded in self._loaded.values()})),
            failures={endpoint.version: why for endpoint, why in self._failures.items()},
        )
        before = self._written
        fresh = before is not None and now - before.at < STATUS_S
        if before is not None and fresh and msgspec.structs.replace(status, at=before.at) == before:
            return
        try:
            write_atomic(self._status_path, msgspec.json.encode(status), durable=False)
        except OSError as error:
            logger.warning("the worker's status cannot be written: %s", error.strerror)
        self._written = status
