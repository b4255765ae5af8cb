"""The supervisor of a server of one or several models: `steadynet serve` from start to drain.

It binds the socket, starts workers and the controller, starts again what dies, and drains all of
them on SIGTERM or Ctrl-C. It answers no request and loads no model itself.

Invariants:
- One server per model and home: a lock that the kernel frees when the supervisor dies.
- The listening socket stays open as long as the supervisor lives, so connections that wait for a
  worker outlive every worker.
- No child outlives the supervisor, however it dies.
- A full disk ends no server: what could not be written is tried again, or stays where it was.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic

import msgspec

from steadynet.clock import SystemClock
from steadynet.environment import STORE, WEBHOOK
from steadynet.errors import BundleError, SteadynetError
from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.rollout.route import Endpoint
from steadynet.serving.addresses import Addresses, exposed, open_addresses
from steadynet.serving.catalog import Catalog
from steadynet.serving.channel import WorkerLine
from steadynet.serving.children import Child, Children, spawn
from steadynet.serving.claims import read_statuses
from steadynet.serving.first_route import check_redacted, column_names, open_route
from steadynet.serving.loading import Journal, Loading, verify_endpoint
from steadynet.serving.reload import Exchange, check_bound
from steadynet.serving.settings import Served, ServedModel, ServerInfo, WorkerSettings
from steadynet.serving.tls import make_tls
from steadynet.spec.model import ServeSpec

logger = logging.getLogger(__name__)

LOOK_S = 0.05
CONTROLLER_AFTER_S = 5.0
"""The controller starts once a worker is ready, so that it does not take the processor from the
first answer; or after this long."""
KILL_AFTER_S = 3.0
"""How much longer than `serve.drain_s` a child may take to end."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to serve, and how."""

    home: Home
    wanted: dict[str, Endpoint]
    """Model → the version that shall answer where no rollout is open; at least one."""
    serve: ServeSpec
    pinned: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    """Model → versions beside it, for those who ask for them by number."""
    controller: bool = True
    spec: Path | None = None
    """`steadynet.toml` for the controllers."""
    reread: Callable[[], ServeSpec] | None = None
    """Reads `[serve]` anew, for `Supervisor.reload`. Raises `SpecError`."""
    journal: Journal | None = None
    """Writes down what is loaded and unloaded."""


class Supervisor:
    """Runs a server until it is told to stop.

    `on_ready` is called once, with where it listens and each model's version that answers, as soon
    as a worker is ready for each model.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        on_ready: Callable[[ServerInfo, dict[str, str]], None] | None = None,
    ) -> None:
        self._plan = plan
        self._serve = plan.serve
        self._before = plan.serve
        self._on_ready = on_ready
        self._stop = threading.Event()
        self._reload = threading.Event()
        self._exchange: Exchange | None = None
        self._children = Children(self._ended)
        self._catalog = Catalog(plan.home)
        self._loading = Loading(self._catalog, self, plan.journal)
        self._lines: dict[str, WorkerLine] = {}
        self._workers = 0
        self._untold = False
        """Whether `server.json` of some model is not as it should be."""
        self._started = SystemClock().now()

    def stop(self) -> None:
        """Drain and end; may be called from a signal handler."""
        self._stop.set()

    def reload(self) -> None:
        """Read the spec anew and exchange the workers; may be called from a signal handler."""
        self._reload.set()

    def run(self) -> None:
        """Serve until `stop`.

        Raises `BundleError` where the bundle must not be served, `UserError` where the address is
        taken or the certificate cannot be used, and `ServingError` where the model is served
        already.
        """
        plan = self._plan
        make_tls(plan.serve)
        for warning in exposed(plan.serve):
            logger.warning("%s", warning)
        with ExitStack() as held:
            held.callback(self._release)
            for model in plan.wanted:
                self._catalog.claim(model)
                self._catalog.put(ServedModel(name=model, pinned=plan.pinned.get(model, ())))
            addresses = held.enter_context(open_addresses(plan.serve))
            try:
                # Workers start to import while the signatures are verified; they answer only by
                # the routes, which are written after it.
                for _ in range(plan.serve.workers):
                    self._add_worker(addresses)
                self._write_info(addresses)
                self._watch(addresses, self._open_routes(addresses))
            finally:
                self._drain(addresses)

    def _open_routes(self, addresses: Addresses) -> dict[str, str]:
        """Verify what will answer, write the routes; return each model's version."""
        versions: dict[str, str] = {}
        columns: list[str] = []
        for model, wanted in self._plan.wanted.items():
            route = open_route(self._plan.home, model, wanted)
            versions[model] = route.champion.version
            url = self._info(addresses, model).url
            logger.info("serving %s version %s on %s", model, route.champion.version, url)
            columns += column_names(route)
            for endpoint in self._plan.pinned.get(model, ()):
                verify_endpoint(self._plan.home, endpoint)
                logger.info("version %s of %s is held beside it", endpoint.version, model)
        check_redacted(self._plan.serve.redact, columns)
        return versions

    def _watch(self, addresses: Addresses, versions: dict[str, str]) -> None:
        """Keep the children running until `stop`."""
        self._write_info(addresses)
        announced = False
        controller_due = monotonic() + CONTROLLER_AFTER_S
        awaits_controller = self._plan.controller
        while not self._stop.wait(LOOK_S):
            self._listen()
            changed = self._children.look() | self._roll(addresses) | self._loading.step()
            if changed or self._untold:
                self._write_info(addresses)
            if awaits_controller and (announced or monotonic() >= controller_due):
                awaits_controller = False
                for model in self._catalog.names():
                    self.add_controller(model)
                self._write_info(addresses)
            if not announced and addresses.is_complete and self._are_ready(versions):
                announced = True
                logger.info("ready to answer")
                if self._on_ready is not None:
                    self._on_ready(self._info(addresses, next(iter(versions))), versions)

    def _roll(self, addresses: Addresses) -> bool:
        """Begin or go on with an exchange of the workers; return whether anything changed."""
        if self._exchange is not None:
            if not self._exchange.step(monotonic()):
                return False
            if self._exchange.failed:
                self._serve = self._before
            self._exchange = None
            return True
        if not self._reload.is_set() or self._plan.reread is None:
            return False
        self._reload.clear()
        try:
            serve = self._plan.reread()
            check_bound(self._plan.serve, serve)
            make_tls(serve)
        except SteadynetError as error:
            logger.error("the new configuration is not used: %s", error)
            return False
        self._before, self._serve = self._serve, serve
        logger.info("the workers are exchanged for some with the new configuration")
        self._exchange = Exchange(
            self._children, partial(self._add_worker, addresses), self._can_answer
        )
        self._exchange.begin(monotonic())
        for model in self._catalog.names():
            if self._children.of(_controller_of(model)):
                self.remove_controller(model)
                self.add_controller(model)
        return True

    def _listen(self) -> None:
        """Take what workers say."""
        for line in list(self._lines.values()):
            for order in line.heard():
                self._loading.take(order, line.tell)

    def tell_workers(self, served: Served) -> None:
        """Tell every worker what is served now."""
        for line in self._lines.values():
            line.tell(served)

    def failures(self, number: int) -> dict[str, str] | None:
        """Return what workers cannot load; None while one of them has not followed `number`."""
        failures: dict[str, str] = {}
        for child in self._children.of("worker"):
            line = self._lines.get(child.name)
            followed = None if line is None else line.followed
            if followed is None or followed.number < number:
                return None
            failures |= followed.failures
        return failures

    def add_controller(self, model: str) -> None:
        """Start a model's controller, where there are controllers and it has none."""
        if self._plan.controller and not self._children.of(_controller_of(model)):
            start = partial(self._start_controller, model)
            self._children.add(Child(_controller_of(model), start))

    def remove_controller(self, model: str) -> None:
        """Ask a model's controller to end."""
        for child in self._children.of(_controller_of(model)):
            self._children.retire(child)

    def has_controller(self, model: str) -> bool:
        """Tell whether a model's controller still runs."""
        return self._children.has(_controller_of(model))

    def _add_worker(self, addresses: Addresses) -> Child:
        child = Child("worker", lambda: self._start_worker(addresses))
        self._children.add(child)
        return child

    def _can_answer(self, worker: str) -> bool:
        """Tell whether the worker with a name is ready for every model that another one is."""
        for model in self._catalog.names():
            statuses = read_statuses(self._plan.home, model)
            ready = {status.worker for status in statuses if status.ready}
            if ready and worker not in ready:
                return False
        return True

    def _are_ready(self, versions: dict[str, str]) -> bool:
        """Tell whether workers are. Raises `BundleError` where a first version fails to load."""
        return all(self._is_ready(model, version) for model, version in versions.items())

    def _is_ready(self, model: str, version: str) -> bool:
        statuses = read_statuses(self._plan.home, model)
        if any(status.ready for status in statuses):
            return True
        for status in statuses:
            if version in status.failures:
                raise BundleError(
                    f"version {version} of {model} cannot be served here:"
                    f" {status.failures[version]}"
                )
        return False

    def _drain(self, addresses: Addresses) -> None:
        addresses.close()
        self._loading.close()
        self._children.end(self._plan.serve.drain_s + KILL_AFTER_S)
        logger.info("all processes have ended")

    def _release(self) -> None:
        for model in tuple(self._catalog.claims):
            self._catalog.release(model)

    def _start_worker(self, addresses: Addresses) -> tuple[str, subprocess.Popen[bytes]]:
        self._workers += 1
        name = f"w{self._workers}-{secrets.token_hex(4)}"
        line = self._lines[name] = WorkerLine()
        named = tuple(self._plan.wanted)
        settings = WorkerSettings(
            home=str(self._plan.home.root),
            served=self._catalog.served,
            first=named[0],
            alone=named[0] if len(named) == 1 else None,
            worker=name,
            descriptor=addresses.public.fileno(),
            admin_descriptor=addresses.admin.fileno() if addresses.admin else None,
            line_descriptor=line.others.fileno(),
            serve=self._serve,
            grpc_port=addresses.grpc_port,
            admin_grpc_port=addresses.admin_grpc_port,
        )
        arguments = [msgspec.json.encode(settings).decode()]
        inherited = (*addresses.descriptors(), line.others.fileno())
        process = spawn(
            "steadynet.serving.worker",
            arguments,
            descriptors=inherited,
            hidden=(WEBHOOK, STORE),
        )
        line.others.close()
        return name, process

    def _start_controller(self, model: str) -> tuple[str, subprocess.Popen[bytes]]:
        arguments = ["--name", model, "--home", str(self._plan.home.root)]
        if self._plan.spec is not None:
            arguments += ["--spec", str(self._plan.spec)]
        return "controller", spawn("steadynet.control.main", arguments)

    def _ended(self, child: Child) -> None:
        if child.role == "worker":
            # Counts know NumPy, for which no first answer is to wait.
            from steadynet.serving.metrics import retire

            home = self._plan.home
            for model in self._catalog.counted():
                try:
                    retire(home.metrics(model), child.name)
                except OSError as error:
                    # It is read where it is as long as the server runs.
                    logger.error("the counts of %s stay its own: %s", child.name, error.strerror)
                (home.workers(model) / f"{child.name}.json").unlink(missing_ok=True)
            if (line := self._lines.pop(child.name, None)) is not None:
                line.close()

    def _write_info(self, addresses: Addresses) -> None:
        """Tell everyone where each model is served; what cannot be written is tried again."""
        before, self._untold = self._untold, False
        for model in self._catalog.names():
            info = msgspec.json.encode(self._info(addresses, model))
            path = self._plan.home.server(model)
            try:
                write_atomic(path, info, durable=False)
            except OSError as error:
                self._untold = True
                if not before:
                    logger.error("%s cannot be written: %s", path, error.strerror)

    def _info(self, addresses: Addresses, model: str) -> ServerInfo:
        host, port = addresses.public.getsockname()[:2]
        return ServerInfo(
            model=model,
            host=host,
            port=port,
            pid=os.getpid(),
            workers=tuple(self._children.pids("worker")),
            controller=next(iter(self._children.pids(_controller_of(model))), None),
            started=self._started,
            tls=self._serve.tls_cert is not None,
            admin_port=addresses.admin.getsockname()[1] if addresses.admin else None,
            grpc_port=addresses.grpc_port,
            admin_grpc_port=addresses.admin_grpc_port,
        )


def _controller_of(model: str) -> str:
    """Return the role of a model's controller among the children."""
    return f"controller of {model}"


def stop_on_signals(supervisor: Supervisor) -> None:
    """Drain on SIGTERM and on Ctrl-C; read the configuration anew on SIGHUP."""
    signal.signal(signal.SIGHUP, lambda *_: supervisor.reload())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
