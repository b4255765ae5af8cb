"""Requests answered without ASGI: the same answers as by ASGI, in order, however they come."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_scene import offer_of
from uvicorn.server import ServerState

from steadynet.rollout.route import Route
from steadynet.serving.auth import Gate
from steadynet.serving.dataplane import DataPlane
from steadynet.serving.direct import DirectProtocol
from steadynet.serving.guard import Guard
from steadynet.serving.http import HttpApp
from steadynet.serving.requests import Bodies
from steadynet.serving.versions import LoadedVersion
from steadynet.spec.model import ServeSpec

MAX_BODY = 5_000
ROW: dict[str, Any] = {
    "label": 0.5,
    "country": "DE",
    "new_card": True,
    "paid_at": "2026-01-01T10:00:00",
}
Serve = Callable[[], AbstractAsyncContextManager["Served"]]


class Served:
    """An application behind direct connections on a port of the running loop."""

    def __init__(self, app: HttpApp, guard: Guard, port: int, made: list[DirectProtocol]) -> None:
        self.app = app
        self.guard = guard
        self.port = port
        self.made = made

    async def ask(self, parts: Sequence[bytes], *, turns: int = 3) -> bytes:
        """Send parts, some turns of the loop apart; return all that comes until the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for part in parts:
            writer.write(part)
            for _ in range(turns):
                await asyncio.sleep(0)
        answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
def serve(
    load: Callable[..., LoadedVersion],
    make_route: Callable[..., Route],
    open_plane: Callable[..., AbstractAsyncContextManager[DataPlane]],
) -> Serve:
    """Serves a bundle by direct connections in the running loop."""
    champion = load()

    @asynccontextmanager
    async def serving() -> AsyncIterator[Served]:
        async with open_plane() as plane:
            plane.deploy(make_route(champion), champion, None)
            app = HttpApp(
                offer_of([plane]),
                Gate(),
                bodies=Bodies(MAX_BODY, 10 * MAX_BODY),
                sticky_parameter="sticky_key",
                version="9.9",
            )
            guard = Guard(ServeSpec(), plane.telemetry.events)
            config = uvicorn.Config(app, lifespan="off", log_config=None, server_header=False)
            config.load()
            state = ServerState()
            made: list[DirectProtocol] = []

            def protocol() -> DirectProtocol:
                made.append(
                    DirectProtocol(
                        app=app, guard=guard, config=config, server_state=state, app_state={}
                    )
                )
                return made[-1]

            server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
            try:
                yield Served(app, guard, server.sockets[0].getsockname()[1], made)
            finally:
                for one in made:
                    one.transport.close()
                server.close()
                await server.wait_closed()

    return serving


def predict(number: int, *headers: str, version: str = "1.1", rows: int = 1) -> bytes:
    """Return a request for a prediction whose id is its number."""
    body = json.dumps({"instances": [{"amount": float(number), **ROW}] * rows}).encode()
    lines = [
        f"POST /invocations HTTP/{version}",
        "Host: test",
        f"X-Request-Id: {number}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(number: int) -> bytes:
    """Return the same with its body in two chunks."""
    body = predict(number).partition(b"\r\n\r\n")[2]
    head = f"POST /invocations HTTP/1.1\r\nHost: t\r\nX-Request-Id: {number}\r\n"
    parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9], body[9:]))
    return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"


def other(number: int, line: str = "GET /v2/health/live") -> bytes:
    """Return a request that is never answered directly."""
    return f"{line} HTTP/1.1\r\nHost: t\r\nX-Request-Id: {number}\r\n\r\n".encode()


MAKERS: dict[str, Callable[[int], bytes]] = {
    "direct": predict,
    "chunked": chunked,
    "expects": lambda number: predict(number, "Expect: 100-continue"),
    "wrong": lambda number: predict(number, "Content-Encoding: gzip"),
    "large": lambda number: predict(number, rows=30),
    "get": other,
    "unknown": lambda number: other(number, "POST /nowhere"),
}
STATUSES = {"wrong": 415, "unknown": 404}


def answers_in(data: bytes) -> list[tuple[int, str, bytes]]:
    """Return status, request id and body of each answer in a stream."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status = int(head[9:12])
        if status == 100:
            continue
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(headers[b"content-length"])
        found.append((status, headers[b"x-request-id"].decode(), data[:length]))
        data = data[length:]
    return found


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    kinds=st.lists(st.sampled_from(sorted(MAKERS)), min_size=1, max_size=6),
    cuts=st.lists(st.floats(0, 1), max_size=4),
    turns=st.integers(0, 4),
)
def test_whatever_way_requests_take_they_are_answered_in_order(
    serve: Serve, kinds: list[str], cuts: list[float], turns: int
) -> None:
    stream = b"".join(MAKERS[kind](number) for number, kind in enumerate(kinds))
    stream += predict(len(kinds), "Connection: close")
    places = [0, *sorted(int(cut * len(stream)) for cut in cuts), len(stream)]
    parts = [stream[start:stop] for start, stop in pairwise(places)]

    async def work() -> None:
        async with serve() as served:
            found = answers_in(await served.ask(parts, turns=turns))
            transport = httpx.ASGITransport(app=served.app)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
                body = json.loads(predict(0).partition(b"\r\n\r\n")[2])
                for number, (kind, answer) in enumerate(
                    zip([*kinds, "direct"], found, strict=True)
                ):
                    status, request_id, content = answer
                    assert (status, request_id) == (STATUSES.get(kind, 200), str(number))
                    if kind in ("direct", "chunked", "expects"):
                        body["instances"][0]["amount"] = float(number)
                        alone = (await client.post("/invocations", json=body)).json()
                        row, expected = json.loads(content)["predictions"], alone["predictions"]
                        assert row[0]["label"] == expected[0]["label"]
                        assert row[0]["probability_fraud"] == pytest.approx(
                            expected[0]["probability_fraud"], abs=1e-6
                        )

    asyncio.run(work())


def test_a_connection_that_asks_to_be_closed_is_closed_behind_the_answer(serve: Serve) -> None:
    async def work() -> None:
        async with serve() as served:
            for request in (predict(1, "Connection: close"), predict(1, version="1.0")):
                reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
                writer.write(request)
                answer = await reader.read()
                assert answer.startswith(b"HTTP/1.1 200")
                assert b"connection: close" in answer
                writer.close()

    asyncio.run(work())


def test_a_whole_body_that_is_too_large_is_refused_and_the_connection_closed(serve: Serve) -> None:
    async def work() -> None:
        async with serve() as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(predict(1, rows=100))
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 413")
            writer.close()

    asyncio.run(work())


def test_a_caller_that_goes_takes_nothing_with_it(serve: Serve) -> None:
    async def work() -> None:
        async with serve() as served:
            _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(predict(1))
            writer.transport.abort()
            assert (await served.ask([predict(2, "Connection: close")])).startswith(b"HTTP/1.1 200")

    asyncio.run(work())


def test_draining_answers_what_is_there_and_closes_behind_it(serve: Serve) -> None:
    async def work() -> None:
        async with serve() as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(predict(1))
            while not served.made or served.made[-1].cycle is None:
                await asyncio.sleep(0)
            served.made[-1].shutdown()
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer
            writer.close()

    asyncio.run(work())


def test_an_idle_connection_is_closed_in_time(serve: Serve) -> None:
    async def work() -> None:
        async with serve() as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(predict(1))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            connection = served.made[-1]
            idle = connection.config.timeout_keep_alive
            connection.check_time(asyncio.get_running_loop().time())
            assert not connection.transport.is_closing()
            connection.check_time(asyncio.get_running_loop().time() + idle + 1)
            assert connection.transport.is_closing()
            writer.close()

    asyncio.run(work())


@pytest.mark.parametrize("number", [1, 3])
def test_a_connection_that_has_ended_waits_for_no_collector(serve: Serve, number: int) -> None:
    """The collector runs twice a minute: thousands of connections a second must not wait for it."""

    async def work() -> bool:
        async with serve() as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            for turn in range(number):
                writer.write(predict(turn))
                await reader.readuntil(b"]}")
            connection = weakref.ref(served.made.pop())
            writer.close()
            for _ in range(100):
                await asyncio.sleep(0)
            return connection() is None

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(work())
    finally:
        gc.enable()
