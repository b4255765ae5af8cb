"""Whole requests for predictions, answered without ASGI in between.

uvicorn makes of each request a task, an event, a timer and a dictionary, and writes head and body
of an answer apart; that is more than a prediction takes. A request that has come whole, in one
read, for a path that its application calls direct, goes to `HttpApp.answer` as it is, and its
answer is written at once. Every other request takes uvicorn's own way, as does one that asks for
more than is usual: another version of HTTP, `Expect`, a connection that ends, one that is slow to
read.

Invariants:
- Answers leave a connection in the order of its requests, whichever ways they took.
- A direct request is counted, limited and refused as any other: `HttpApp.answer` knows no
  difference.
- A connection that ends while a direct request is being answered takes nothing with it; the answer
  is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from steadynet.serving.answers import HttpAnswer
from steadynet.serving.guard import Guard, GuardedProtocol
from steadynet.serving.requests import Message, Receive, Request, Scope, Send

Answered = tuple[Request, HttpAnswer]


class DirectApp(Protocol):
    """What a connection needs of its application: ASGI, and the same without it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by ASGI."""
        ...

    def is_direct(self, url: bytes) -> bool:
        """Return whether what is POSTed to a URL may be answered without ASGI."""
        ...

    def answer(
        self,
        method: str,
        path: str,
        headers: list[tuple[bytes, bytes]],
        receive: Receive,
        *,
        body: bytes | None,
    ) -> Coroutine[Any, Any, Answered | None]:
        """Answer a request; None where its caller has gone."""
        ...


class _Nobody:
    """Who waits for news of a direct request: nobody."""

    def set(self) -> None:
        """Tell nobody."""


class Exchange:
    """A direct request on its way to its answer; stands where uvicorn has its cycle.

    It steps its coroutine by hand. A task would do no more for it and take longer than decoding
    the request; what runs here must not ask for its task, as `asyncio.timeout` does.
    """

    __slots__ = ("_coroutine", "_protocol", "disconnected", "keep_alive", "response_complete")

    message_event = _Nobody()
    response_started = False

    def __init__(
        self, protocol: DirectProtocol, coroutine: Coroutine[Any, Any, Answered | None]
    ) -> None:
        self._protocol = protocol
        self._coroutine = coroutine
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False

    def step(self, _done: object = None) -> None:
        """Go on until the next wait, or to the end."""
        try:
            waited = self._coroutine.send(None)
        except StopIteration as end:
            self.response_complete = True
            self._protocol.finish(self, end.value)
        else:
            if waited is None:
                asyncio.get_running_loop().call_soon(self.step)
            else:
                waited._asyncio_future_blocking = False
                waited.add_done_callback(self.step)


class DirectProtocol(GuardedProtocol):
    """One connection."""

    def __init__(self, *, app: DirectApp, guard: Guard, **options: object) -> None:
        super().__init__(guard=guard, **options)
        self._direct_app = app
        self._held = False
        """Whether the request that has begun is direct if the rest of it comes in this read."""
        self._held_body = b""

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        super().data_received(data)
        if self._held:
            self._let_go()

    def on_message_begin(self) -> None:
        """Begin to read a request; what ASGI wants besides is made when it is wanted."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._whole = False
        self._held_body = b""

    def on_headers_complete(self) -> None:
        """Begin to answer a request, or wait for the rest of it."""
        if self._may_be_direct():
            self._held = True
        else:
            self._begin_asgi()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        if self._held:
            self._bare_bytes = 0
            self._held_body = self._held_body + body if self._held_body else body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Answer a request that has come whole."""
        if not self._held:
            super().on_message_complete()
        else:
            self._held, self._whole = False, True
            coroutine = self._direct_app.answer(
                "POST", self.url.decode(), self.headers, self._no_more, body=self._held_body
            )
            self.cycle = exchange = Exchange(self, coroutine)  # type: ignore[assignment]
            exchange.step()

    def finish(self, exchange: Exchange, answered: Answered | None) -> None:
        """Write an answer, and go on with what came behind its request."""
        transport = self.transport
        if exchange.disconnected:
            self.cycle = None  # type: ignore[assignment]
        if transport.is_closing() or answered is None:
            return
        request, answer = answered
        keep_alive = exchange.keep_alive and not answer.close
        transport.write(
            b"%scontent-type: %s\r\ncontent-length: %d\r\nx-request-id: %s\r\n%s%s\r\n%s"
            % (
                STATUS_LINE[answer.status],
                answer.content_type,
                len(answer.body),
                request.request_id.encode("latin-1"),
                b"".join([b"%s: %s\r\n" % pair for pair in answer.headers or ()]),
                b"" if keep_alive else b"connection: close\r\n",
                answer.body,
            )
        )
        if not keep_alive:
            transport.close()
        elif self.pipeline:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self._idle_since = request.arrived

    def _may_be_direct(self) -> bool:
        parser, cycle = self.parser, self.cycle
        return (
            self._direct_app.is_direct(self.url)
            and (cycle is None or cycle.response_complete)
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self._guard.draining
        )

    def _let_go(self) -> None:
        """Let a request whose rest is still to come take uvicorn's way."""
        self._held = False
        self._begin_asgi()
        if self._held_body:
            super().on_body(self._held_body)

    def _begin_asgi(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers[:] = headers
        super().on_headers_complete()

    async def _no_more(self) -> Message:
        return {"type": "http.disconnect"}
