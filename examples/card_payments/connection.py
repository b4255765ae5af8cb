"""One keep-alive HTTP/1.1 connection, as light as it can be: the load shares its cores with the
server that it loads.

It understands what this server answers: a status line, headers, and a body of `Content-Length`
bytes. A server may close a connection that idles; a request that meets such a connection before
any byte of its answer has come is sent once more on a fresh one, as every HTTP client does. Any
other break is a failure.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

TIMEOUT_S = 10.0
_NO_LENGTH = -1


class BadAnswer(Exception):
    """The server sent something that is not a whole HTTP answer."""


class _Closed(Exception):
    """The connection was closed before any byte of the answer came."""


@dataclass(frozen=True)
class Answer:
    """A whole answer of the server."""

    status: int
    body: bytes


class Connection:
    """A keep-alive connection to one server, opened when first used.

    Invariant: at most one request is under way; after any error the connection is closed, so that
    no later request can read an earlier one's answer.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.reconnects = 0
        """How often a request met a closed connection and was sent once more."""

    async def post(self, path: str, body: bytes, *, request_id: str = "") -> Answer:
        """Send a JSON body and return the answer, whatever its status.

        Raises `OSError` or `BadAnswer` where none came, `TimeoutError` after `TIMEOUT_S`.
        """
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        if request_id:
            head += f"X-Request-Id: {request_id}\r\n"
        message = head.encode() + b"\r\n" + body
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._send(message)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _send(self, message: bytes) -> Answer:
        reused = self._streams is not None
        try:
            return await self._exchange(message)
        except _Closed as error:
            self.close()
            if not reused:
                raise BadAnswer("the connection was closed without an answer") from error
        self.reconnects += 1
        try:
            return await self._exchange(message)
        except _Closed as error:
            raise BadAnswer("the connection was closed without an answer, twice") from error

    async def _exchange(self, message: bytes) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        try:
            writer.write(message)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise BadAnswer("the answer's head is torn") from error
            raise _Closed from error
        except ConnectionError as error:
            raise _Closed from error
        status, length, keep = _read_head(head)
        try:
            body = await reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise BadAnswer("the answer's body is torn") from error
        if not keep:
            self.close()
        return Answer(status, body)


def _read_head(head: bytes) -> tuple[int, int, bool]:
    """Return status, length of the body and whether the connection stays open."""
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
        raise BadAnswer("that is no HTTP answer")
    length, keep = _NO_LENGTH, True
    for line in lines[1:]:
        name, _, value = line.partition(":")
        match name.strip().lower():
            case "content-length":
                length = int(value) if value.strip().isdigit() else _NO_LENGTH
            case "connection":
                keep = value.strip().lower() != "close"
    if length == _NO_LENGTH:
        raise BadAnswer("the answer has no Content-Length")
    return int(parts[1]), length, keep
