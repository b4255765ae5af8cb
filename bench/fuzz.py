"""Generated requests against a server: it never answers 5xx, never dies, never grows.

`python bench/fuzz.py [--requests 1000000] [--seed 0] [--model NAME]` starts a server of a table
with numbers and texts, or of the home's model of that name, sends the requests of `fuzz_bodies.py`
over many connections, and for each ten of them a message of `fuzz_grpc.py`, then for each hundred
an order of `fuzz_orders.py` to the admin address, and prints how often each status came and what
memory the worker had. The same seed sends the same requests.

A 5xx is printed with the request that caused it, and the exit code is 1. Two are what was asked for
and only counted: 504 where the request set itself a short time, and 500 where the model's own
answer to the row is not finite.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httptools
from fuzz_bodies import Requests, Sent
from fuzz_orders import Orders
from models import write_model
from one_server import MODEL, OneServer, ending, memory_of, serve_bundle
from servers import free_port

from steadynet.home import Home
from steadynet.registry.local import LocalRegistry

CONNECTIONS = 16
WARM_UP = 3_000
"""Requests after which memory is taken as the level that must hold."""
SHOWN, SHOWN_BYTES = 5, 2000
PATIENCE_S = 60.0
OTHERS = ("fraud", "churn")
"""Models that are registered beside the served one."""


class Ports(NamedTuple):
    """Where else the server listens."""

    grpc: int
    admin: int


@dataclass
class Report:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    dropped: int = 0
    """Requests whose connection was closed without an answer."""
    not_finite: int = 0
    """Requests whose rows the model has no finite answer to."""
    faults: list[tuple[int, bytes]] = field(default_factory=list)
    """Status and request of each 5xx that must not be."""

    def take(self, sent: Sent, reader: Reader) -> None:
        """Count an answer."""
        self.statuses[reader.status] += 1
        if reader.status < 500:
            return
        if reader.status == 500 and b"is not finite" in reader.body:
            self.not_finite += 1
        elif reader.status != 504 or "x-request-timeout-ms" not in sent.headers:
            self.faults.append((reader.status, sent.encode()))


class Reader:
    """Reads one answer."""

    def __init__(self, *, to_head: bool) -> None:
        self.status = 0
        self.whole = False
        self.stays = True
        self.body = b""
        self._to_head = to_head
        self.parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        """Note the status."""
        self.status = self.parser.get_status_code()
        self.stays = self.parser.should_keep_alive()
        self.whole = self._to_head

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """Note that nothing is missing."""
        self.whole = True


async def send_all(host: str, port: int, requests: Requests, count: int, report: Report) -> None:
    """Send so many requests over `CONNECTIONS` connections."""
    left = iter(range(count))

    async def caller() -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for _ in left:
            sent = requests.next()
            if streams is None:
                streams = await asyncio.open_connection(host, port)
            async with asyncio.timeout(PATIENCE_S):
                reader = await _one(*streams, sent)
            if reader.whole:
                report.take(sent, reader)
            else:
                report.dropped += 1
            if not (reader.whole and reader.stays) or sent.method == "HEAD":
                streams[1].close()
                streams = None
        if streams is not None:
            streams[1].close()

    await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))


async def _one(stream: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: Sent) -> Reader:
    reader = Reader(to_head=sent.method == "HEAD")
    try:
        writer.write(sent.encode())
        while not reader.whole and (data := await stream.read(65_536)):
            reader.parser.feed_data(data)
    except ConnectionError:
        pass
    return reader


def metadata(url: str, model: str) -> dict[str, str]:
    """Return the model's columns and their datatypes, as the server tells them."""
    import httpx

    answer = httpx.get(f"{url}/v2/models/{model}", timeout=60).json()
    return {column["name"]: column["datatype"] for column in answer["inputs"]}


def fuzz(url: str, model: str, count: int, seed: int) -> Report:
    """Send `count` generated requests to a server; return what came back."""
    return _send(url, Requests(model, metadata(url, model), seed), count)


def fuzz_orders(url: str, model: str, others: Sequence[str], count: int, seed: int) -> Report:
    """Send `count` generated orders to a server's admin address; return what came back."""
    return _send(url, Orders(model, others, metadata(url, model), seed), count)


def _send(url: str, requests: Requests, count: int) -> Report:
    host, _, port = url.removeprefix("http://").partition(":")
    report = Report()
    asyncio.run(send_all(host, int(port), requests, count, report))
    return report


def main() -> int:
    """Start a server, send, and say what came back."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="a model of the home, in place of a made one")
    options = parser.parse_args()
    ports = Ports(free_port(), free_port())
    # A deadline that a busy machine meets: its other work is not what is looked for here.
    serve = f"grpc_port = {ports.grpc}\nadmin_port = {ports.admin}\ndeadline_ms = 60000.0\n"
    with tempfile.TemporaryDirectory() as folder:
        if options.model:
            home = Home.default()
            found = LocalRegistry(home).resolve(options.model)
            server = serve_bundle(Path(folder), home, found.bundle, found.name, serve)
        else:
            server = _start_with_others(Path(folder), serve)
        with ending(server):
            return _run(server, ports, options.requests, options.seed)


def _start_with_others(folder: Path, serve: str) -> OneServer:
    """Start a server in whose home other models are registered, and other versions of its own."""
    home = Home(folder / "home")
    bundle = write_model(home, folder / "bundle", MODEL, 6, 4)
    registry = LocalRegistry(home)
    for name, version in ((MODEL, "1"), (MODEL, "2"), *((name, "1") for name in OTHERS)):
        registry.add(bundle, name, version)
    return serve_bundle(folder, home, registry.version(MODEL, "1").bundle, MODEL, serve)


def _run(server: OneServer, ports: Ports, count: int, seed: int) -> int:
    from fuzz_grpc import fuzz_grpc

    url, address, worker = server.url, f"127.0.0.1:{ports.grpc}", server.worker
    model = server.model
    columns = metadata(url, model)
    fuzz(url, model, min(WARM_UP, count), seed + 1)
    fuzz_grpc(address, model, columns, min(WARM_UP // 10, count), seed + 1)
    before, began = memory_of(worker), time.perf_counter()
    report = fuzz(url, model, count, seed)
    over_grpc = fuzz_grpc(address, model, columns, count // 10, seed)
    orders = fuzz_orders(f"http://127.0.0.1:{ports.admin}", model, OTHERS, count // 100, seed)
    seconds = time.perf_counter() - began
    alive = server.worker == worker
    print(
        f"{count} requests, {count // 10} messages and {count // 100} orders in {seconds:.0f} s,"
        f" seed {seed}"
    )
    for status, number in sorted(report.statuses.items()):
        print(f"  {status}: {number}")
    for code, number in sorted(over_grpc.codes.items()):
        print(f"  gRPC {code}: {number}")
    for status, number in sorted(orders.statuses.items()):
        print(f"  order {status}: {number}")
    not_finite = report.not_finite + over_grpc.not_finite
    print(f"  rows that the model has no finite answer to: {not_finite}")
    print(f"  closed without an answer: {report.dropped + orders.dropped}")
    print(f"  the worker {'lives' if alive else 'HAS DIED'}")
    if alive:
        print(f"  its memory: {before / 1e6:.0f} MB, then {memory_of(worker) / 1e6:.0f} MB")
    faults: list[tuple[int | str, bytes]] = [
        *report.faults,
        *over_grpc.faults,
        *orders.faults,
    ]
    for status_or_code, request in faults[:SHOWN]:
        print(f"  {status_or_code} by {request[:SHOWN_BYTES]!r}")
    return int(bool(faults) or not alive)


if __name__ == "__main__":
    sys.exit(main())
