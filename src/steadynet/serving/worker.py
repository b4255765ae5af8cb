"""One worker process: `python -m steadynet.serving.worker SETTINGS`, with a listening socket.

The socket is the supervisor's and is shared by all workers, so that a worker that dies takes no
waiting connection with it. SIGTERM drains: no new connection is accepted, what is in flight is
answered, the last window is published.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import uvicorn
import uvloop

from steadynet import __version__
from steadynet.clock import SystemClock
from steadynet.home import Home
from steadynet.log import log_to_stderr
from steadynet.serving.addresses import ADMIN_HOST
from steadynet.serving.auth import Gate, make_gate
from steadynet.serving.channel import GiveOrder, SupervisorLine
from steadynet.serving.direct import DirectProtocol
from steadynet.serving.guard import Guard
from steadynet.serving.http import HttpApp
from steadynet.serving.models import Models, Offer
from steadynet.serving.requests import Bodies
from steadynet.serving.settings import WorkerSettings
from steadynet.serving.tls import Tls, make_tls
from steadynet.serving.tracing import Tracer, make_tracer

if TYPE_CHECKING:
    from steadynet.serving.grpc_server import GrpcServer

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.5e-3
"""How long a thread that counts or runs a challenger may keep the event loop waiting for Python's
lock; Python's own default of 5 ms would be seen in the tail of the latencies."""
COLLECT_EACH_S = 30.0
"""How often cycles are collected; it takes some ten milliseconds."""
MOST_YOUNG = 300_000
"""Objects from which Python collects by itself: twice what waits for the log at full load, so that
only what leaves cycles faster than usual gets there, within some ten megabytes."""


class WorkerServer(uvicorn.Server):
    """uvicorn's server, started and stopped by `serve` below."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`: uvicorn's own handling raises them again at the end."""
        yield

    def drain(self) -> None:
        """Accept no more, answer what is in flight, and end."""
        self.should_exit = True


async def serve(settings: WorkerSettings, listeners: list[socket.socket]) -> None:
    """Answer until SIGTERM; then finish what is in flight.

    `listeners` are the sockets of the address for everyone, and of the admin address, if any.
    """
    clock = SystemClock()
    home = Home(Path(settings.home))
    line = SupervisorLine(settings.line_descriptor)
    models = Models(home, settings, line.followed, clock=clock)
    line.listen(models.follow)
    offer = models.offer
    gate = make_gate(home.caller_keys, settings.serve, clock)
    offer.general.keys = gate.counts
    tls = make_tls(settings.serve)
    tracer = make_tracer(settings.serve, settings.worker)
    app = HttpApp(
        offer,
        gate,
        bodies=Bodies(settings.serve.max_body_bytes, settings.serve.max_inflight_bytes),
        sticky_parameter=settings.serve.sticky_parameter,
        version=__version__,
        admin_port=listeners[1].getsockname()[1] if len(listeners) > 1 else None,
        tracer=tracer,
        order=line.order,
    )
    guard = Guard(settings.serve, offer.general.events)
    server = WorkerServer(_uvicorn_config(settings, app, guard, tls))
    stopping, ending = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    following = [
        asyncio.create_task(follower(stopping)) for follower in _followers(models, guard, gate, tls)
    ]
    ended = asyncio.create_task(ending.wait())
    # None of them ends by itself; one that fails ends the worker, and the supervisor starts
    # another.
    ends = [*following, ended]
    ready = asyncio.create_task(models.until_ready())
    await asyncio.wait([ready, *ends], return_when=asyncio.FIRST_COMPLETED)
    if not any(task.done() for task in ends):
        serving = [asyncio.create_task(server.serve(sockets=listeners))]
        draining = asyncio.Event()
        for address in _grpc_addresses(settings):
            serving.append(
                asyncio.create_task(
                    serve_grpc(settings, address, offer, gate, tracer, draining, line.order)
                )
            )
        await asyncio.wait([*serving, *ends], return_when=asyncio.FIRST_COMPLETED)
        server.drain()
        draining.set()
        line.close()
        await asyncio.gather(*serving)
    ready.cancel()
    ended.cancel()
    stopping.set()
    await asyncio.gather(*following)
    if tracer is not None:
        await asyncio.to_thread(tracer.close)
    await models.stop()


@dataclass(frozen=True, slots=True)
class GrpcAddress:
    """One address that is listened to for gRPC."""

    host: str
    port: int
    is_admin: bool = False


def _grpc_addresses(settings: WorkerSettings) -> Iterator[GrpcAddress]:
    if settings.grpc_port is not None:
        yield GrpcAddress(settings.serve.host, settings.grpc_port)
    if settings.admin_grpc_port is not None:
        yield GrpcAddress(ADMIN_HOST, settings.admin_grpc_port, is_admin=True)


async def serve_grpc(
    settings: WorkerSettings,
    address: GrpcAddress,
    offer: Offer,
    gate: Gate,
    tracer: Tracer | None,
    draining: asyncio.Event,
    order: GiveOrder,
) -> None:
    """Answer over gRPC until `draining` is set; then finish what is in flight."""
    # Imported now and beside the loop: callers over HTTP wait for none of it.
    server_class = await asyncio.to_thread(_import_grpc)
    server = server_class(
        offer, gate, settings.serve, tracer, order=order, is_admin=address.is_admin
    )
    await server.start(address.host, address.port)
    await draining.wait()
    await server.drain()


def _import_grpc() -> type[GrpcServer]:
    from steadynet.serving.grpc_server import GrpcServer

    return GrpcServer


def _followers(
    models: Models, guard: Guard, gate: Gate, tls: Tls | None
) -> Iterator[Callable[[asyncio.Event], Coroutine[None, None, None]]]:
    """Yield what goes on until the worker ends: following routes, connections, keys, TLS."""
    yield models.run
    yield guard.watch
    yield collect_regularly
    if gate.keyring is not None:
        yield gate.keyring.follow
    if tls is not None:
        yield tls.follow


def _uvicorn_config(
    settings: WorkerSettings, app: HttpApp, guard: Guard, tls: Tls | None
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=partial(DirectProtocol, app=app, guard=guard),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.serve.drain_s)),
        ssl_context_factory=None if tls is None else lambda _config, _default: tls.context,
    )


def spare_the_collector() -> None:
    """Let the garbage collector pass over what stays for good, and hardly ever run by itself.

    Requests leave no cycles behind, but rows that wait for the log are many objects: by Python's
    defaults the collector took half of the time of a request, and with a threshold of 50 000 it
    kept the loop for 8 ms a dozen times a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(MOST_YOUNG, 5, 5)


async def collect_regularly(stopping: asyncio.Event) -> None:
    """Collect what cycles connections and errors leave behind, until `stopping` is set."""
    while not stopping.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), COLLECT_EACH_S)
        gc.collect()


def take_all_descriptors() -> None:
    """Let this process open as many connections as the system allows it at most."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main(arguments: Sequence[str]) -> int:
    """Run one worker."""
    settings = msgspec.json.decode(arguments[0], type=WorkerSettings)
    # Ctrl-C in a terminal reaches every process; the supervisor decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr(settings.worker)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    spare_the_collector()
    take_all_descriptors()
    descriptors = (settings.descriptor, settings.admin_descriptor)
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.socket(fileno=descriptor))
            for descriptor in descriptors
            if descriptor is not None
        ]
        uvloop.run(serve(settings, listeners))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
