"""HTTP connections, bounded in time, size and number: uvicorn's protocol with limits around it.

uvicorn waits without end for a request that is never whole, and keeps whatever head and trailers a
caller sends. Here:

- A request that has begun must have come within `read_timeout_s`, head and body, however it drips;
  a connection that never sends one is closed after the same time. Else 408.
- At most `MAX_BARE_BYTES` are taken in a row that are no body: head, chunk headers, trailers. Else
  431. (A head that comes in one read, of 256 KiB at most, is looked at as it is.)
- An answer that the caller does not read for `read_timeout_s` ends the connection.
- More than `max_connections` are answered 503 and closed.
- When the server ends, a connection that waits for its next request is not closed at once, where
  that request may be on its way: for `LINGER_S` it is still answered, and closed behind the answer.

Timeouts are looked for once a second for all connections, so that no request pays for a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from math import inf
from time import monotonic

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from steadynet.spec.model import ServeSpec

MAX_BARE_BYTES = 64 * 1024
SWEEP_S = 1.0
LINGER_S = 1.0


class Guard:
    """The limits of one worker's connections, and what was refused for them."""

    def __init__(self, serve: ServeSpec, events: dict[str, int]) -> None:
        self.read_timeout_s = serve.read_timeout_s
        self.max_connections = serve.max_connections
        self.events = events
        self.connections: Iterable[object] = ()
        """The server's open connections."""
        self.draining = False

    async def watch(self, stopping: asyncio.Event) -> None:
        """Close what has taken too long, until `stopping` is set."""
        while not stopping.is_set():
            try:
                await asyncio.wait_for(stopping.wait(), min(SWEEP_S, self.read_timeout_s))
            except TimeoutError:
                self.sweep(monotonic())

    def sweep(self, now: float) -> None:
        """Close what has taken too long at `now`, `time.monotonic()`."""
        for connection in tuple(self.connections):
            if isinstance(connection, GuardedProtocol):
                connection.check_time(now)


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *, guard: Guard, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._guard = guard
        self._bare_bytes = 0
        self._due = inf
        """When the request that has begun, or the first one, must have come."""
        self._unread_since = inf
        self._whole = False
        """Whether the last request that has begun is whole."""
        self._idle_since = inf
        """When the last request came, where uvicorn itself does not time the wait for the next."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        guard = self._guard
        guard.connections = self.connections
        self._due = monotonic() + guard.read_timeout_s
        if guard.draining:
            self.loop.call_later(LINGER_S, self._close_idle)
        if len(self.connections) > guard.max_connections:
            guard.events["connections_refused"] += 1
            self._refuse(503, "too many connections; connect again later")

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the last request, which knows this connection: no circle is left behind."""
        super().connection_lost(exc)
        if self.cycle is not None and self.cycle.response_complete:
            self.cycle = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self._bare_bytes += len(data)
        self._idle_since = inf
        super().data_received(data)
        if self._whole:
            self._bare_bytes, self._due = 0, inf
        elif self._due == inf:
            self._due = monotonic() + self._guard.read_timeout_s
        elif self._bare_bytes > MAX_BARE_BYTES and not self.transport.is_closing():
            self._refuse(431, f"the head is too large; expected at most {MAX_BARE_BYTES} bytes")

    def on_message_begin(self) -> None:
        """Begin to read a request."""
        super().on_message_begin()
        self._whole = False

    def on_message_complete(self) -> None:
        """Know the request that has begun for whole."""
        super().on_message_complete()
        self._whole = True

    def on_headers_complete(self) -> None:
        """Begin to answer a request."""
        super().on_headers_complete()
        if self._guard.draining:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """End when the request that is being answered, or is on its way, is answered."""
        self._guard.draining = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(LINGER_S, self._close_idle)

    def _close_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._bare_bytes = 0
        super().on_body(body)

    def check_time(self, now: float) -> None:
        """End the connection where it has taken too long."""
        if self.transport.is_closing():
            return
        if now > self._due:
            self._guard.events["requests_too_slow"] += 1
            self._refuse(408, "the request did not come in time")
        elif now > self._idle_since + self.timeout_keep_alive:
            self.transport.close()
        elif not self.flow.write_paused:
            self._unread_since = inf
        elif self._unread_since == inf:
            self._unread_since = now
        elif now > self._unread_since + self._guard.read_timeout_s:
            self._guard.events["requests_too_slow"] += 1
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, "the request is not HTTP, version 1.1 or 1.0")

    def _refuse(self, status: int, why: str) -> None:
        """Say why, where no answer has begun, and close."""
        cycle = self.cycle
        answering = cycle is not None and cycle.response_started and not cycle.response_complete
        if not answering:
            body = msgspec.json.encode({"error": why})
            head = b"content-type: application/json\r\nconnection: close\r\n"
            length = b"content-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + length + body)
        self.transport.close()
