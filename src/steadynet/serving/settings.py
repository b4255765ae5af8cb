"""What the supervisor tells a worker, and what it tells everyone of itself. Plain data."""

from __future__ import annotations

import msgspec

from steadynet.rollout.route import Endpoint
from steadynet.spec.model import ServeSpec


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model of a server."""

    name: str
    pinned: tuple[Endpoint, ...] = ()
    """Verified versions that answer where they are asked for by number, beside the route's."""


class Served(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a server's workers answer for at one moment."""

    number: int
    """Grows by one with every change."""
    models: tuple[ServedModel, ...]
    past: tuple[str, ...] = ()
    """Models that were unloaded; what was counted of them is still shown."""


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's command line, as JSON."""

    home: str
    served: Served
    first: str
    """The model that was named first when the server started; what is counted of no model is
    counted with it."""
    alone: str | None
    """The model that paths without a name mean: the only one that was named at the start."""
    worker: str
    """A name that no other worker of this home ever has."""
    descriptor: int
    """The listening socket's file descriptor."""
    admin_descriptor: int | None = None
    """The admin address's, where there is one."""
    line_descriptor: int
    """The line to the supervisor."""
    serve: ServeSpec
    grpc_port: int | None = None
    """The port that all workers share for gRPC; None where it is off."""
    admin_grpc_port: int | None = None
    """The same for what changes something, on 127.0.0.1."""


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`server.json`: where the server listens and who belongs to it."""

    model: str
    host: str
    port: int
    pid: int
    """The supervisor."""
    workers: tuple[int, ...]
    """Process ids."""
    controller: int | None
    started: float
    """Seconds UTC."""
    tls: bool = False
    admin_port: int | None = None
    """Of 127.0.0.1."""
    grpc_port: int | None = None
    admin_grpc_port: int | None = None
    """Of 127.0.0.1."""

    @property
    def url(self) -> str:
        """Where callers reach it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"
