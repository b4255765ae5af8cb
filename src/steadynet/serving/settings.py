"""What the supervisor tells a worker, and what it tells everyone of itself. Plain data."""

from __future__ import annotations

import msgspec

from steadynet.spec.model import ServeSpec


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's command line, as JSON."""

    home: str
    models: tuple[str, ...]
    worker: str
    """A name that no other worker of this home ever has."""
    descriptor: int
    """The listening socket's file descriptor."""
    admin_descriptor: int | None = None
    """The admin address's, where there is one."""
    serve: ServeSpec
    grpc_port: int | None = None
    """The port that all workers share for gRPC; None where it is off."""


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

    @property
    def url(self) -> str:
        """Where callers reach it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"
