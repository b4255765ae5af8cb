"""The keep-alive connection of the callers: one honest retry, and no answer for another request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from connection import BadAnswer, Connection

Make = Callable[..., Any]


def test_requests_share_one_connection(make_server: Make, make_script: Make) -> None:
    async def run() -> None:
        async with make_server(make_script()) as server:
            connection = Connection("127.0.0.1", server.port)
            for number in range(3):
                answer = await connection.post("/p", b"%d" % number)
                assert answer.status == 200
            connection.close()
            assert server.connections == 1
            assert [body for _, body in server.requests] == [b"0", b"1", b"2"]

    asyncio.run(run())


def test_a_closed_idle_connection_is_opened_anew_once(make_server: Make, make_script: Make) -> None:
    async def run() -> None:
        async with make_server(make_script(close_after=True)) as server:
            connection = Connection("127.0.0.1", server.port)
            for _ in range(3):
                assert (await connection.post("/p", b"{}")).status == 200
            connection.close()
            assert connection.reconnects == 2
            assert len(server.requests) == 3

    asyncio.run(run())


def test_a_server_that_never_answers_is_a_failure(make_server: Make, make_script: Make) -> None:
    async def run() -> None:
        async with make_server(make_script(first=[None])) as server:
            connection = Connection("127.0.0.1", server.port)
            with pytest.raises(BadAnswer, match="without an answer"):
                await connection.post("/p", b"{}")
            assert connection.reconnects == 0

    asyncio.run(run())


def test_a_reused_connection_that_closes_twice_is_a_failure(
    make_server: Make, make_script: Make, make_http: Make
) -> None:
    async def run() -> None:
        script = make_script(first=[make_http(b"{}"), None, None])
        async with make_server(script) as server:
            connection = Connection("127.0.0.1", server.port)
            await connection.post("/p", b"{}")
            with pytest.raises(BadAnswer, match="twice"):
                await connection.post("/p", b"{}")
            assert connection.reconnects == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    "torn",
    [
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
)
def test_a_torn_answer_is_a_failure_and_is_not_retried(
    make_server: Make, make_script: Make, torn: bytes
) -> None:
    async def run() -> None:
        async with make_server(make_script(always=torn, close_after=True)) as server:
            connection = Connection("127.0.0.1", server.port)
            with pytest.raises(BadAnswer):
                await connection.post("/p", b"{}")
            assert len(server.requests) == 1

    asyncio.run(run())


def test_after_a_failure_the_next_request_gets_its_own_answer(
    make_server: Make, make_script: Make, make_http: Make
) -> None:
    async def run() -> None:
        torn = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"  # its body never comes
        script = make_script(first=[torn], always=make_http(b"mine", status=503))
        async with make_server(script) as server:
            connection = Connection("127.0.0.1", server.port)
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.1):
                    await connection.post("/p", b"1")
            answer = await connection.post("/p", b"2")
            assert (answer.status, answer.body) == (503, b"mine")
            assert server.connections == 2
            connection.close()

    asyncio.run(run())


def test_connection_close_is_obeyed(make_server: Make, make_script: Make, make_http: Make) -> None:
    async def run() -> None:
        script = make_script(always=make_http(b"{}", headers="Connection: close\r\n"))
        async with make_server(script) as server:
            connection = Connection("127.0.0.1", server.port)
            await connection.post("/p", b"1")
            await connection.post("/p", b"2")
            assert connection.reconnects == 0
            assert server.connections == 2
            connection.close()

    asyncio.run(run())


def test_nobody_listening_is_an_os_error() -> None:
    async def run() -> None:
        with pytest.raises(OSError):
            await Connection("127.0.0.1", 1).post("/p", b"{}")

    asyncio.run(run())
