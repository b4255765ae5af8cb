"""Where a server listens: for everyone, and for what changes something; who reaches it there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

from steadynet.errors import UserError
from steadynet.spec.model import ServeSpec

BACKLOG = 2048
ADMIN_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Addresses:
    """The listening sockets that all workers share."""

    public: socket.socket
    admin: socket.socket | None

    def descriptors(self) -> tuple[int, ...]:
        """Return the sockets' file descriptors, for a child to inherit."""
        return tuple(one.fileno() for one in (self.public, self.admin) if one is not None)

    def close(self) -> None:
        """Listen no more."""
        self.public.close()
        if self.admin is not None:
            self.admin.close()


@contextmanager
def open_addresses(serve: ServeSpec) -> Iterator[Addresses]:
    """Yield the listening sockets. Raises `UserError` where an address cannot be had."""
    with _listen(serve.host, serve.port, "--port") as public:
        if serve.admin_port is None:
            yield Addresses(public, None)
            return
        with _listen(ADMIN_HOST, serve.admin_port, "[serve] admin_port") as admin:
            yield Addresses(public, admin)


@contextmanager
def _listen(host: str, port: int, option: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port}",
                got=error.strerror,
                do=f"Choose another with {option}; port 0 takes any that is free.",
            ) from error
        yield listener


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
