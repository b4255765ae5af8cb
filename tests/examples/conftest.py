"""A small HTTP server that misbehaves when told to: what callers must live through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import pytest

OK = b'{"model_name":"payments","model_version":"1","id":"x","outputs":[]}'


def http(body: bytes, *, status: int = 200, headers: str = "") -> bytes:
    """Return an HTTP answer as bytes on the wire."""
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


@dataclass
class Script:
    """What a `Server` says to its requests, in order, then `always`.

    `None` closes the connection without a word; bytes are sent as they are.
    """

    always: bytes = field(default_factory=lambda: http(OK))
    first: list[bytes | None] = field(default_factory=list)
    close_after: bool = False
    """Close the connection after each answer without saying so, as an idle timeout does."""


class Server:
    """Reads requests, remembers their bodies, answers by its script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[tuple[str, bytes]] = []
        """Path and body of each request."""
        self.connections = 0
        self.port = 0
        self._closed: asyncio.Event | None = None

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.requests.append((head.split(b" ")[1].decode(), body))
                answer = self.script.first.pop(0) if self.script.first else self.script.always
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if self.script.close_after:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
def make_server() -> Callable[[Script], Server]:
    """Return the maker of servers, to be entered with `async with`."""
    return Server


@pytest.fixture
def make_script() -> type[Script]:
    """Return the class of scripts."""
    return Script


@pytest.fixture
def make_http() -> Callable[..., bytes]:
    """Return the maker of answers."""
    return http
