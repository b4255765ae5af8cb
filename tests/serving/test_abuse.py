"""What callers do on purpose or by accident, to a real server: it says so, and goes on."""

from __future__ import annotations

import gzip
import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_scene import ROW

from steadynet.bundle.sign import ensure_key
from steadynet.bundle.write import BundleDraft, write_bundle
from steadynet.home import Home
from steadynet.serving.settings import ServerInfo

StartServer = Callable[..., AbstractContextManager[tuple[ServerInfo, "subprocess.Popen[bytes]"]]]
WaitUntil = Callable[[Callable[[], bool]], None]
Served = Callable[..., AbstractContextManager["Server"]]

GOOD = json.dumps({"instances": [ROW]}).encode()
MEGABYTE = 1024 * 1024
CHUNKED = b"POST /invocations HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(body: bytes, *headers: str, length: int | None = None) -> bytes:
    """Return a request for a prediction as it goes over the wire."""
    lines = [
        "POST /invocations HTTP/1.1",
        "Host: test",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Server:
    """A served bundle, and connections to it."""

    def __init__(self, info: ServerInfo, home: Home) -> None:
        self.info = info
        self.home = home

    def connect(self) -> socket.socket:
        """Return a fresh connection."""
        return socket.create_connection((self.info.host, self.info.port), timeout=60)

    def ask(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own; return all that comes until it is closed."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_all(connection)

    def status(self, data: bytes) -> int:
        """Return the status of the answer to bytes; 0 where there is none."""
        with self.connect() as connection:
            connection.sendall(data)
            return status_of(read_head(connection))

    def memory(self) -> int:
        """Return the bytes of the worker that lie in memory."""
        pages = Path(f"/proc/{self.info.workers[0]}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def check(self) -> None:
        """Fail unless the same worker answers as before."""
        answer = httpx.post(f"{self.info.url}/invocations", content=GOOD, timeout=60)
        assert answer.status_code == 200, answer.text
        now = json.loads(self.home.server("payments").read_bytes())
        assert tuple(now["workers"]) == self.info.workers, "the worker has died"

    def metric(self, name: str) -> float:
        """Return the sum of a metric."""
        text = httpx.get(f"{self.info.url}/metrics", timeout=60).text
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def read_head(connection: socket.socket) -> bytes:
    """Return what comes until the head of an answer is whole, or the other side closes."""
    data = b""
    try:
        while b"\r\n\r\n" not in data and (part := connection.recv(65_536)):
            data += part
    except ConnectionResetError:
        pass
    return data


def status_of(answer: bytes) -> int:
    """Return the status of an answer; 0 where there is none."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


@pytest.fixture(scope="module")
def served(
    start_server: StartServer,
    drafts: Callable[..., BundleDraft],
    tmp_path_factory: pytest.TempPathFactory,
) -> Served:
    """Serves a good bundle, and checks in the end that nothing unforeseen has happened."""

    @contextmanager
    def serve(**keys: Any) -> Iterator[Server]:
        folder = tmp_path_factory.mktemp("abuse")
        home = Home(folder / "home")
        bundle = write_bundle(folder / "bundle", drafts(), ensure_key(home))
        with start_server(home, folder, str(bundle.path), **keys) as (info, _):
            server = Server(info, home)
            server.check()
            yield server
            server.check()
            assert server.metric('steadynet_http_responses_total{status="500"}') == 0

    return serve


@pytest.fixture(scope="module")
def server(served: Served) -> Iterator[Server]:
    """A server with nothing but the defaults."""
    with served() as one:
        yield one


def test_what_never_becomes_whole_is_ended_and_holds_nobody_up(served: Served) -> None:
    with served(read_timeout_s=1.5) as server, ExitStack() as stack:
        begun = [
            b"",
            b"POST /invoc",
            b"POST /invocations HTTP/1.1\r\nHost: test\r\nX-Slow: ",
            post(GOOD[:-5], length=len(GOOD)),
            post(b"", "Expect: 100-continue", length=100),
            CHUNKED + b"ff\r\n{",
            post(GOOD)[:-5],
        ]
        slow = [stack.enter_context(server.connect()) for _ in begun]
        dripping = stack.enter_context(server.connect())
        for connection, data in zip(slow, begun, strict=True):
            connection.sendall(data)
        dripping.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError):  # noqa: PT012
            while True:
                # However steadily it drips, the whole request must come in time.
                dripping.sendall(b"X: y\r\n")
                server.check()
                time.sleep(0.05)
        for connection in slow:
            answer = read_all(connection)
            assert b"408" in answer
            assert b"connection: close" in answer
        assert server.metric("steadynet_requests_too_slow_total") == len(begun) + 1


def test_a_head_or_trailers_without_end_are_refused_before_memory_grows(server: Server) -> None:
    endless = {
        "a url": b"GET /" + b"a" * 1000,
        "a header": b"GET / HTTP/1.1\r\nHost: test\r\nX-Long: " + b"a" * 1000,
        "headers": b"GET / HTTP/1.1\r\nHost: test\r\n",
        "trailers": CHUNKED + b"1\r\n{\r\n0\r\n",
    }
    before = server.memory()
    for what, beginning in endless.items():
        more = b"a" * 5000 if what in ("a url", "a header") else b"X-More: aaaa\r\n" * 400
        with server.connect() as connection:
            connection.sendall(beginning)
            sent = 0
            try:
                while sent < 64 * MEGABYTE:
                    sent += connection.send(more)
            except OSError:
                pass
            assert sent < 32 * MEGABYTE, what
            assert status_of(read_all(connection)) in (0, 400, 431), what
        server.check()
    assert server.memory() < before + 32 * MEGABYTE


STRANGE: dict[str, tuple[bytes, set[int]]] = {
    "no http at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
    "another protocol": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    "no path": (b"GET\r\n\r\n", {400}),
    "a path of bytes": (b"GET /\xff\xfe\x00 HTTP/1.1\r\nHost: a\r\n\r\n", {400, 404}),
    "a path with escapes": (b"GET /%00%ff%2e%2e/ HTTP/1.1\r\nHost: a\r\n\r\n", {404}),
    "a method unheard of": (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", {400, 405}),
    "a method that is not served": (b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", {405}),
    "a websocket": (
        b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        {200},
    ),
    "a length below zero": (post(b"", length=-5), {400}),
    "a length that is no number": (
        b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: ten\r\n\r\n",
        {400},
    ),
    "a length beyond all numbers": (post(b"", length=10**40), {400, 413}),
    "a length of a terabyte": (post(b"", length=10**12), {413}),
    "two lengths": (post(GOOD, "Content-Length: 3"), {400}),
    "a length and chunks": (post(GOOD, "Transfer-Encoding: chunked"), {400}),
    "an unknown coding": (
        b"POST /invocations HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, x\r\n\r\n",
        {400},
    ),
    "a chunk without a size": (CHUNKED + b"xyz\r\n", {400}),
    "a chunk beyond all sizes": (CHUNKED + b"f" * 40 + b"\r\n", {400}),
    "a header name with blanks": (b"GET / HTTP/1.1\r\nHo st: a\r\n\r\n", {400}),
    "a header with control characters": (b"GET / HTTP/1.1\r\nX-Request-Id: a\x7f\r\n\r\n", {400}),
    "a header split in two": (b"GET / HTTP/1.1\r\nX-Request-Id: a\rb\r\n\r\n", {400}),
    "a request id too long": (post(GOOD, "X-Request-Id: " + "a" * 1000), {400}),
    "a thousand headers": (post(GOOD, *(f"X-{n}: {n}" for n in range(1000))), {200}),
    "a key of 30 kB": (post(GOOD, "Authorization: Bearer " + "a" * 30_000), {200}),
    "a compressed body": (post(gzip.compress(GOOD), "Content-Encoding: gzip"), {415}),
    "a bomb": (post(gzip.compress(bytes(10 * MEGABYTE)), "Content-Encoding: gzip"), {415}),
    "an empty body": (post(b""), {400}),
    "half a body of json": (post(GOOD[:-3]), {400}),
    "a byte order mark": (post(b"\xef\xbb\xbf" + GOOD), {400}),
    "no unicode": (post(b'{"instances": [{"amount": "\xff"}]}'), {400}),
    "half a surrogate": (post(b'{"instances": [{"amount": "\\ud800"}]}'), {400}),
    "lists in lists": (post(b"[" * 200_000), {400}),
    "lists in rows": (post(b'{"instances": [' + b"[" * 100_000), {400}),
    "tables in params": (post(b'{"params": ' + b'{"a":' * 100_000), {400}),
    "a number beyond all numbers": (
        post(json.dumps({"instances": [{**ROW, "amount": "1"}]}).replace('"1"', "1e999").encode()),
        {200, 400},
    ),
    "a number of a million digits": (post(b'{"instances": [' + b"9" * 1_000_000 + b"]}"), {400}),
    "a name of a megabyte": (post(b'{"' + b"a" * MEGABYTE + b'": 1}'), {400}),
    "the same key twice": (post(b'{"instances": [], "instances": []}'), {400}),
}


def test_strange_requests_get_their_refusal_and_harm_nobody(server: Server) -> None:
    found = {what: server.status(data) for what, (data, _) in STRANGE.items()}
    wrong = {what: status for what, status in found.items() if status not in STRANGE[what][1]}
    assert not wrong


def test_nothing_can_be_smuggled_behind_a_request(server: Server) -> None:
    hidden = b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n"
    both = b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    for coding in (b"Transfer-Encoding: chunked", b"Transfer-Encoding: xchunked"):
        answer = server.ask(both + coding + b"\r\n\r\n0\r\n\r\n" + hidden)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert status_of(answer) == 400


def test_many_requests_in_one_write_are_answered_in_their_order(server: Server) -> None:
    with server.connect() as connection:
        count = 200
        requests = [post(GOOD, f"X-Request-Id: r{number}") for number in range(count - 1)]
        requests.append(post(GOOD, f"X-Request-Id: r{count - 1}", "Connection: close"))
        connection.sendall(b"".join(requests))
        answers = read_all(connection)
        ids = [
            line.partition(b": ")[2].decode()
            for line in answers.split(b"\r\n")
            if line.startswith(b"x-request-id")
        ]
        assert answers.count(b"HTTP/1.1 200 ") == count
        assert ids == [f"r{number}" for number in range(count)]


def test_http_1_0_is_answered_and_closed(server: Server) -> None:
    assert server.ask(b"GET /ping HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    old = post(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    assert b'"predictions"' in server.ask(old)


def test_a_caller_that_leaves_in_the_middle_is_forgotten(server: Server) -> None:
    before = server.metric("steadynet_requests_total")
    for cut in (10, 60, 120, len(post(GOOD)) - 1):
        for _ in range(20):
            with server.connect() as connection:
                connection.sendall(post(GOOD)[:cut])
    assert server.metric("steadynet_requests_total") == before


def test_a_caller_that_never_reads_its_answers_is_let_go(
    served: Served, wait_until: WaitUntil
) -> None:
    with served(read_timeout_s=0.5) as server:
        many = b"".join([post(json.dumps({"instances": [ROW] * 2000}).encode())] * 40)
        with server.connect() as connection:
            connection.settimeout(0.2)
            with suppress(OSError):
                connection.sendall(many)
            wait_until(lambda: server.metric("steadynet_requests_too_slow_total") >= 1)
        assert server.metric("steadynet_failed_requests_total") == 0


def test_large_bodies_together_are_bounded(served: Served) -> None:
    limits = {"max_body_bytes": 4 * MEGABYTE, "max_inflight_bytes": 16 * MEGABYTE}
    with served(**limits) as server, ExitStack() as stack:
        before = server.memory()
        held = [stack.enter_context(server.connect()) for _ in range(12)]
        for connection in held:
            connection.sendall(post(b" " * (3 * MEGABYTE), length=4 * MEGABYTE))
        refused: set[socket.socket] = set()
        while len(refused) < 7:
            # 16 of 12 * 3 megabytes have room; whose they are hangs on who was faster.
            readable, _, _ = select.select([one for one in held if one not in refused], [], [], 60)
            assert readable
            assert {status_of(read_head(connection)) for connection in readable} == {503}
            refused.update(readable)
        assert server.memory() < before + 48 * MEGABYTE
        server.check()
        first = next(one for one in held if one not in refused)
        first.sendall(b" " * (MEGABYTE - len(GOOD)) + GOOD)
        assert status_of(read_head(first)) == 200


def test_idle_connections_cost_little_and_are_bounded(
    served: Served, wait_until: WaitUntil
) -> None:
    with served(max_connections=300, read_timeout_s=20.0) as server, ExitStack() as stack:
        before = server.memory()
        idle = [stack.enter_context(server.connect()) for _ in range(290)]
        server.check()
        assert server.memory() < before + 290 * 60_000
        more = [stack.enter_context(server.connect()) for _ in range(20)]
        answers = [read_all(connection) for connection in more[10:]]
        assert {status_of(answer) for answer in answers} == {503}
        for connection in idle:
            connection.close()
        wait_until(lambda: server.status(post(GOOD)) == 200)
        assert server.metric("steadynet_connections_refused_total") >= 10
