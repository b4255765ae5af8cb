"""The supervisor of one model's server: `steadynet serve` from start to drain.

It binds the socket, starts workers and the controller, starts again what dies, and drains all of
them on SIGTERM or Ctrl-C. It answers no request and loads no model itself.

Invariants:
- One server per model and home: a lock that the kernel frees when the supervisor dies.
- The listening socket stays open as long as the supervisor lives, so connections that wait for a
  worker outlive every worker.
- No child outlives the supervisor, however it dies.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import msgspec

from steadynet.clock import SystemClock
from steadynet.errors import BundleError, ServingError
from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.rollout.route import Endpoint, WorkerStatus
from steadynet.serving.addresses import Addresses, exposed, open_addresses
from steadynet.serving.children import Child, Children, spawn
from steadynet.serving.first_route import open_route
from steadynet.serving.metrics import clear, retire
from steadynet.serving.settings import ServerInfo, WorkerSettings
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
    model: str
    wanted: Endpoint
    """The version that shall answer where no rollout is open."""
    serve: ServeSpec
    controller: bool = True
    spec: Path | None = None
    """`steadynet.toml` for the controller."""


class Supervisor:
    """Runs one model's server until it is told to stop.

    `on_ready` is called once, with where it listens and the version that answers, as soon as a
    worker is ready.
    """

    def __init__(
        self, plan: Plan, *, on_ready: Callable[[ServerInfo, str], None] | None = None
    ) -> None:
        self._plan = plan
        self._on_ready = on_ready
        self._stop = threading.Event()
        self._children = Children(self._ended)
        self._workers = 0
        self._started = SystemClock().now()

    def stop(self) -> None:
        """Drain and end; may be called from a signal handler."""
        self._stop.set()

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
        with _lock(plan.home, plan.model), open_addresses(plan.serve) as addresses:
            clear(plan.home.metrics(plan.model))
            _forget_workers(plan.home, plan.model)
            try:
                # Workers start to import while the signature is verified; they answer only by the
                # route, which is written after it.
                for _ in range(plan.serve.workers):
                    self._children.add(Child("worker", lambda: self._start_worker(addresses)))
                self._write_info(addresses)
                route = open_route(plan.home, plan.model, plan.wanted)
                logger.info(
                    "serving %s version %s on %s",
                    plan.model,
                    route.champion.version,
                    self._info(addresses).url,
                )
                self._watch(addresses, route.champion.version)
            finally:
                self._drain(addresses)

    def _watch(self, addresses: Addresses, version: str) -> None:
        """Keep the children running until `stop`."""
        self._write_info(addresses)
        announced = False
        controller_due = monotonic() + CONTROLLER_AFTER_S
        awaits_controller = self._plan.controller
        while not self._stop.wait(LOOK_S):
            if self._children.look():
                self._write_info(addresses)
            if awaits_controller and (announced or monotonic() >= controller_due):
                awaits_controller = False
                self._children.add(Child("controller", self._start_controller))
                self._write_info(addresses)
            if not announced and self._is_ready(version) and addresses.is_complete:
                announced = True
                logger.info("ready to answer")
                if self._on_ready is not None:
                    self._on_ready(self._info(addresses), version)

    def _is_ready(self, version: str) -> bool:
        """Tell whether a worker is. Raises `BundleError` where the first version fails to load."""
        statuses = _read_statuses(self._plan.home, self._plan.model)
        if any(status.ready for status in statuses):
            return True
        for status in statuses:
            if version in status.failures:
                raise BundleError(
                    f"version {version} cannot be served here: {status.failures[version]}"
                )
        return False

    def _drain(self, addresses: Addresses) -> None:
        addresses.close()
        self._children.end(self._plan.serve.drain_s + KILL_AFTER_S)
        self._plan.home.server(self._plan.model).unlink(missing_ok=True)
        logger.info("all processes have ended")

    def _start_worker(self, addresses: Addresses) -> tuple[str, subprocess.Popen[bytes]]:
        self._workers += 1
        name = f"w{self._workers}-{secrets.token_hex(4)}"
        settings = WorkerSettings(
            home=str(self._plan.home.root),
            model=self._plan.model,
            worker=name,
            descriptor=addresses.public.fileno(),
            admin_descriptor=addresses.admin.fileno() if addresses.admin else None,
            serve=self._plan.serve,
            grpc_port=addresses.grpc_port,
        )
        arguments = [msgspec.json.encode(settings).decode()]
        return name, spawn(
            "steadynet.serving.worker", arguments, descriptors=addresses.descriptors()
        )

    def _start_controller(self) -> tuple[str, subprocess.Popen[bytes]]:
        arguments = ["--name", self._plan.model, "--home", str(self._plan.home.root)]
        if self._plan.spec is not None:
            arguments += ["--spec", str(self._plan.spec)]
        return "controller", spawn("steadynet.control.main", arguments)

    def _ended(self, child: Child) -> None:
        if child.role == "worker":
            home, model = self._plan.home, self._plan.model
            retire(home.metrics(model), child.name)
            (home.workers(model) / f"{child.name}.json").unlink(missing_ok=True)

    def _write_info(self, addresses: Addresses) -> None:
        path = self._plan.home.server(self._plan.model)
        write_atomic(path, msgspec.json.encode(self._info(addresses)), durable=False)

    def _info(self, addresses: Addresses) -> ServerInfo:
        host, port = addresses.public.getsockname()[:2]
        return ServerInfo(
            model=self._plan.model,
            host=host,
            port=port,
            pid=os.getpid(),
            workers=tuple(self._children.pids("worker")),
            controller=next(iter(self._children.pids("controller")), None),
            started=self._started,
            tls=self._plan.serve.tls_cert is not None,
            admin_port=addresses.admin.getsockname()[1] if addresses.admin else None,
            grpc_port=addresses.grpc_port,
        )


def stop_on_signals(supervisor: Supervisor) -> None:
    """Drain on SIGTERM and on Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())


@contextmanager
def _lock(home: Home, model: str) -> Iterator[None]:
    """Hold the right to serve a model. Raises `ServingError` where another process has it."""
    folder = home.serving(model)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServingError(
                f"the model {model!r} is being served from {home.root} already",
                do="Stop that server first, or use another home.",
            ) from None
        yield
    finally:
        os.close(descriptor)


def _forget_workers(home: Home, model: str) -> None:
    """Remove what the workers of an earlier server left behind."""
    for path in home.workers(model).glob("*.json"):
        path.unlink(missing_ok=True)


def _read_statuses(home: Home, model: str) -> list[WorkerStatus]:
    statuses = []
    for path in home.workers(model).glob("*.json"):
        with suppress(FileNotFoundError):
            statuses.append(msgspec.json.decode(path.read_bytes(), type=WorkerStatus))
    return statuses
