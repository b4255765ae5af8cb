"""Where a server listens: for everyone, and for what changes something; who reaches it there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address

from steadynet.errors import MissingDependency, UserError
from steadynet.spec.model import ServeSpec

BACKLOG = 2048
ADMIN_HOST = "127.0.0.1"
GRPC_PACKAGES = ("grpc", "grpc_health", "grpc_reflection")


@dataclass(frozen=True, slots=True)
class Addresses:
    """The listening sockets that all workers share."""

    public: socket.socket
    admin: socket.socket | None = None
    grpc: socket.socket | None = None
    """Holds the port for gRPC; workers listen on it with sockets of their own."""
    admin_grpc: socket.socket | None = None
    """The same for what changes something."""

    @property
    def grpc_port(self) -> int | None:
        """The port for gRPC, where there is one."""
        return _port_of(self.grpc)

    @property
    def admin_grpc_port(self) -> int | None:
        """The port for gRPC that changes something, where there is one."""
        return _port_of(self.admin_grpc)

    @property
    def is_complete(self) -> bool:
        """Whether a worker takes connections for gRPC, where it is on."""
        for held in (self.grpc, self.admin_grpc):
            if held is not None:
                with socket.socket(held.family, socket.SOCK_STREAM) as probe:
                    if probe.connect_ex(held.getsockname()) != 0:
                        return False
        return True

    def descriptors(self) -> tuple[int, ...]:
        """Return the sockets' file descriptors, for a child to inherit."""
        return tuple(one.fileno() for one in (self.public, self.admin) if one is not None)

    def close(self) -> None:
        """Listen no more."""
        self.public.close()
        if self.admin is not None:
            self.admin.close()


def _port_of(held: socket.socket | None) -> int | None:
    if held is None:
        return None
    port: int = held.getsockname()[1]
    return port


@contextmanager
def open_addresses(serve: ServeSpec) -> Iterator[Addresses]:
    """Yield the listening sockets.

    Raises `UserError` where an address cannot be had, `MissingDependency` where gRPC is asked for
    and not installed.
    """
    with ExitStack() as opened:
        public = opened.enter_context(_listen(serve.host, serve.port, "--port"))
        admin = grpc = admin_grpc = None
        if serve.admin_port is not None:
            admin = opened.enter_context(
                _listen(ADMIN_HOST, serve.admin_port, "[serve] admin_port")
            )
        if serve.grpc_port is not None:
            grpc = opened.enter_context(_reserve(serve.host, serve.grpc_port, "--grpc-port"))
        if serve.admin_grpc_port is not None:
            option = "[serve] admin_grpc_port"
            admin_grpc = opened.enter_context(_reserve(ADMIN_HOST, serve.admin_grpc_port, option))
        yield Addresses(public, admin, grpc, admin_grpc)


@contextmanager
def _listen(host: str, port: int, option: str) -> Iterator[socket.socket]:
    with _socket(host) as listener:
        _bind(listener, host, port, option, listen=True)
        yield listener


@contextmanager
def _reserve(host: str, port: int, option: str) -> Iterator[socket.socket]:
    """Hold a port that workers share by SO_REUSEPORT: grpcio makes its sockets itself.

    What shares a port gets a part of its connections, so it is first bound alone: it must not be
    another server's.
    """
    for package in GRPC_PACKAGES:
        if find_spec(package) is None:
            raise MissingDependency(package, "grpc")
    with _socket(host) as alone:
        _bind(alone, host, port, option)
        port = alone.getsockname()[1]
    with _socket(host) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _bind(held, host, port, option)
        yield held


def _socket(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def _bind(made: socket.socket, host: str, port: int, option: str, *, listen: bool = False) -> None:
    try:
        made.bind((host, port))
        if listen:
            made.listen(BACKLOG)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port}",
            got=error.strerror,
            do=f"Choose another with {option}; port 0 takes any that is free.",
        ) from error


def exposed(serve: ServeSpec) -> Iterator[str]:
    """Yield what others than this machine's own users could do. Pure."""
    if is_loopback(serve.host):
        return
    if serve.auth == "none" and serve.tls_client_ca is None:
        yield (
            f"anyone who reaches {serve.host} may ask for predictions: set [serve] auth = 'keys',"
            " or tls_client_ca"
        )
    if serve.auth == "keys" and serve.tls_cert is None:
        yield (
            f"keys travel to {serve.host} in the clear: set [serve] tls_cert and tls_key, or end"
            " TLS before this server"
        )


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
