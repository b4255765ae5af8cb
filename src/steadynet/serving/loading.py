"""Loading and unloading models while a server runs: the supervisor's side of the repository.

Orders are obeyed one after the other, in steps between which the supervisor looks after its
children; what takes long (signatures, the journal) is done in a thread.

Invariants:
- Only what the home's registry holds is loaded, by its name, and only after its signature was
  verified.
- An order that is refused, or that a worker cannot follow, leaves everything as it was.
- An order is answered once every worker has followed it; a worker that is started meanwhile or
  later is started with what is served then.
- Nothing is changed that the journal was not told of before.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Protocol, TypeVar

from steadynet.bundle.read import verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.errors import CannotLoad, Overloaded, SteadynetError, StoreError, UnknownModel
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry, ModelVersion
from steadynet.rollout.route import Endpoint, Route
from steadynet.serving.catalog import Catalog
from steadynet.serving.channel import Answered, Order, answer_to
from steadynet.serving.claims import put_route_back
from steadynet.serving.first_route import open_route, read_route
from steadynet.serving.settings import Served, ServedModel

logger = logging.getLogger(__name__)

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Goes on each time that the supervisor looks, and in the end returns."""

Journal = Callable[[str, str, Mapping[str, object]], None]
"""Writes down a kind, a sentence and its data in the home's journal. Raises `StoreError`."""

PATIENCE_S = 120.0
"""How long workers may take to follow."""
MOST_WAITING = 64


class Crew(Protocol):
    """What the supervisor lends: its workers and the models' controllers."""

    def tell_workers(self, served: Served) -> None:
        """Tell every worker what is served now."""
        ...

    def failures(self, number: int) -> dict[str, str] | None:
        """Return what workers cannot load of `Served` of this number or a later one.

        None while one of them has not followed it.
        """
        ...

    def add_controller(self, model: str) -> None:
        """Start a model's controller."""
        ...

    def remove_controller(self, model: str) -> None:
        """Ask a model's controller to end."""
        ...

    def has_controller(self, model: str) -> bool:
        """Tell whether a model's controller still runs."""
        ...


class Loading:
    """Obeys orders. Stepped by the supervisor's loop."""

    def __init__(self, catalog: Catalog, crew: Crew, journal: Journal | None) -> None:
        self._catalog = catalog
        self._crew = crew
        self._journal = journal
        self._waiting: deque[tuple[Order, Callable[[Answered], None]]] = deque()
        self._steps: Steps[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loading")

    def take(self, order: Order, reply: Callable[[Answered], None]) -> None:
        """Queue an order; `reply` is called once with what came of it."""
        if len(self._waiting) >= MOST_WAITING:
            busy = Overloaded("too many models are to be loaded or unloaded", do="Ask again later.")
            reply(answer_to(order, busy))
            return
        self._waiting.append((order, reply))

    def step(self) -> bool:
        """Go on with the order under way; return whether what is served may have changed."""
        if self._steps is None:
            if not self._waiting:
                return False
            self._steps = self._obey(*self._waiting.popleft())
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
            return True
        return False

    def close(self) -> None:
        """Obey nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _obey(self, order: Order, reply: Callable[[Answered], None]) -> Steps[None]:
        """Do what an order asks for, and answer it."""
        error: SteadynetError | None = None
        try:
            if order.action == "load":
                yield from self._load(order)
            else:
                yield from self._unload(order)
        except SteadynetError as refusal:
            error = refusal
            logger.warning("%s of %s is refused: %s", order.action, order.model, refusal)
        except Exception:
            # The process's boundary: an order that fails for a reason nobody foresaw must not end
            # the server. The traceback is logged.
            logger.exception("%s of %s failed", order.action, order.model)
            error = CannotLoad("something unexpected happened; the server's log says what")
        reply(answer_to(order, error))

    def _load(self, order: Order) -> Steps[None]:
        catalog, name = self._catalog, order.model
        before = catalog.find(name)
        champion, beside = self._resolve(order, before)
        held = before.pinned if before is not None else ()
        fresh = [endpoint for endpoint in beside if endpoint not in held]
        is_new = before is None or bool(fresh)
        if is_new:
            yield from self._verify(fresh)
            yield from self._tell(order, "load", f"{_named(order)} is to be loaded")
        served, route = catalog.served, read_route(catalog.home, name)
        try:
            if before is None:
                with _writing():
                    catalog.claim(name)
                    yield from self._in_thread(partial(self._open_route, name, _endpoint(champion)))
            catalog.put(ServedModel(name=name, pinned=(*held, *fresh)))
            yield from self._until_followed(name, fresh if before is not None and fresh else None)
        except SteadynetError as error:
            yield from self._undo(served)
            if before is None and name in catalog.claims:
                self._give_up(name, route)
            if is_new:
                text = f"{_named(order)} was not loaded: {error}"
                yield from self._note(order, "load_failed", text)
            raise
        if before is None:
            self._crew.add_controller(name)
        if is_new:
            yield from self._note(order, "loaded", f"{_named(order)} is loaded")

    def _unload(self, order: Order) -> Steps[None]:
        catalog, name = self._catalog, order.model
        before = catalog.find(name)
        if before is None:
            raise UnknownModel(f"the model {name[:100]!r} is not served")
        if order.versions:
            kept = _without(before.pinned, order)
            yield from self._unload_followed(order, ServedModel(name=name, pinned=kept))
        else:
            if len(catalog.names()) == 1:
                raise CannotLoad(
                    f"{name} is the only model of this server",
                    do="End the server, or load another model first.",
                )
            yield from self._unload_followed(order, None)
            self._crew.remove_controller(name)
            while self._crew.has_controller(name):
                yield
            catalog.release(name)
        yield from self._note(order, "unloaded", f"{_named(order)} is unloaded")

    def _unload_followed(self, order: Order, kept: ServedModel | None) -> Steps[None]:
        """Let every worker go on with what is kept of a model, or leave all as it was."""
        catalog = self._catalog
        served = catalog.served
        yield from self._tell(order, "unload", f"{_named(order)} is to be unloaded")
        if kept is None:
            catalog.take(order.model)
        else:
            catalog.put(kept)
        try:
            yield from self._until_followed(order.model, [])
        except CannotLoad as error:
            yield from self._undo(served)
            text = f"{_named(order)} was not unloaded: {error}"
            yield from self._note(order, "unload_failed", text)
            raise

    def _resolve(
        self, order: Order, before: ServedModel | None
    ) -> tuple[ModelVersion | None, list[Endpoint]]:
        """Return the champion of a model that is not served yet, and what is asked for beside.

        Raises `UnknownModel`, `RegistryError`.
        """
        registry = LocalRegistry(self._catalog.home)
        if before is None and order.model not in registry.names():
            # What the registry would say names all models and where they lie.
            raise UnknownModel(f"there is no model {order.model[:100]!r} in the registry")
        champion = registry.resolve(order.model) if before is None else None
        beside = [registry.version(order.model, version) for version in order.versions]
        return champion, [_endpoint(version) for version in beside]

    def _verify(self, endpoints: list[Endpoint]) -> Steps[None]:
        """Raise `BundleError` where a version is not as it was signed."""
        for endpoint in endpoints:
            yield from self._in_thread(partial(verify_endpoint, self._catalog.home, endpoint))

    def _open_route(self, name: str, champion: Endpoint) -> Route:
        return open_route(self._catalog.home, name, champion)

    def _until_followed(self, name: str, tried: list[Endpoint] | None) -> Steps[None]:
        """Wait until every worker has followed. Raises `CannotLoad`.

        `tried` are the versions that must have been loaded; None: all of the model.
        """
        number = self._catalog.served.number
        self._crew.tell_workers(self._catalog.served)
        due = monotonic() + PATIENCE_S
        while (failures := self._crew.failures(number)) is None:
            if monotonic() > due:
                raise CannotLoad(f"the workers have not followed within {PATIENCE_S:g} s")
            yield
        wanted = None if tried is None else {f"{name}/{endpoint.version}" for endpoint in tried}
        for version, why in failures.items():
            if version in wanted if wanted is not None else version.startswith(f"{name}/"):
                raise CannotLoad(f"{version} cannot be loaded here: {why}")

    def _undo(self, before: Served) -> Steps[None]:
        """Serve again what was served before an order."""
        catalog = self._catalog
        catalog.put_back(before)
        self._crew.tell_workers(catalog.served)
        due = monotonic() + PATIENCE_S
        while self._crew.failures(catalog.served.number) is None and monotonic() < due:
            yield

    def _give_up(self, name: str, route: Route | None) -> None:
        """Let go of a model that was not loaded, with the route that it had before."""
        try:
            put_route_back(self._catalog.home, name, route)
        except OSError as error:
            # Another server, or the next order, goes on from the route that is there.
            logger.error("the route of %s cannot be put back: %s", name, error.strerror)
        self._catalog.release(name)

    def _tell(self, order: Order, kind: str, text: str) -> Steps[None]:
        """Write down what will be done and who asked for it. Raises `CannotLoad`."""
        logger.info("%s, as %s asked", text, f"key {order.key}" if order.key else "a caller")
        if self._journal is None:
            return
        data = {"model": order.model, "versions": order.versions, "key": order.key}
        yield from self._in_thread(partial(self._journal, f"model.{kind}", text, data))

    def _note(self, order: Order, kind: str, text: str) -> Steps[None]:
        """Write down what was done; that it will be done stands there already."""
        try:
            yield from self._tell(order, kind, text)
        except SteadynetError as error:
            logger.error("the journal lacks that %s: %s", text, error)

    def _in_thread(self, work: Callable[[], T]) -> Steps[T]:
        future = self._thread.submit(work)
        while not future.done():
            yield
        try:
            return future.result()
        except StoreError as error:
            raise CannotLoad("the journal cannot be written", got=str(error)) from error


def verify_endpoint(home: Home, endpoint: Endpoint) -> None:
    """Verify a version's signature. Raises `BundleError`, `CannotLoad` for another bundle."""
    verified = verify_bundle(Path(endpoint.bundle), signing_key(home).public)
    if verified.manifest_sha256 != endpoint.manifest_sha256:
        raise CannotLoad(f"version {endpoint.version} is another bundle than a moment ago")


def _endpoint(version: ModelVersion | None) -> Endpoint:
    assert version is not None, "a model that is not served yet has a champion"
    return Endpoint(
        version=version.version,
        bundle=str(version.bundle),
        manifest_sha256=version.manifest_sha256,
    )


@contextmanager
def _writing() -> Iterator[None]:
    """Raise `CannotLoad` where a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise CannotLoad(
            "the model's files cannot be written",
            got=error.strerror,
            do="Make room, then ask again.",
        ) from error


def _named(order: Order) -> str:
    if not order.versions:
        return order.model
    versions = ", ".join(order.versions)
    return f"{order.model} with version {versions} beside its champion"


def _without(pinned: tuple[Endpoint, ...], order: Order) -> tuple[Endpoint, ...]:
    """Return what stays pinned. Raises `UnknownModel` for a version that is not."""
    for version in order.versions:
        if version not in {endpoint.version for endpoint in pinned}:
            raise UnknownModel(
                f"version {version[:40]!r} of {order.model} is not held beside its route",
                do="Which versions the route names is changed by rollouts.",
            )
    return tuple(endpoint for endpoint in pinned if endpoint.version not in order.versions)
