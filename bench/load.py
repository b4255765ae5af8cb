"""A closed-loop HTTP load: `python bench/load.py PORT PATH CONNECTIONS SECONDS < BODIES`.

Each connection sends its next request when the answer to the last one is whole. BODIES is one JSON
body per line, sent in turn. Prints one JSON object: requests per second and latency quantiles.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterable

import uvloop

WARM_UP_S = 1.0


class Connection(asyncio.Protocol):
    """One keep-alive connection that always has one request in flight."""

    def __init__(self, requests: list[bytes], first: int, latencies: list[float]) -> None:
        self.requests = requests
        self.next = first
        self.latencies = latencies
        self.errors = 0
        self.done = 0
        self.buffer = b""
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.send()

    def send(self) -> None:
        """Send the next request."""
        self.next = (self.next + 1) % len(self.requests)
        self.sent = time.perf_counter()
        self.transport.write(self.requests[self.next])

    def data_received(self, data: bytes) -> None:
        """Take an answer; when it is whole, send again."""
        if self.buffer:
            data = self.buffer + data
        head = data.find(b"\r\n\r\n")
        if head >= 0:
            at = data.find(b"content-length: ") + 16
            if len(data) >= head + 4 + int(data[at : data.find(b"\r", at)]):
                if not data.startswith(b"HTTP/1.1 200"):
                    self.errors += 1
                self.done += 1
                self.latencies.append(time.perf_counter() - self.sent)
                self.buffer = b""
                self.send()
                return
        self.buffer = data


def requests_of(path: str, bodies: Iterable[bytes]) -> list[bytes]:
    """Return requests as they go over the wire, one for each line."""
    return [
        b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (path.encode(), len(body), body)
        for body in (line.strip() for line in bodies)
        if body
    ]


async def main(port: int, path: str, connections: int, seconds: float) -> None:
    """Run the load and print what came of it."""
    requests = requests_of(path, sys.stdin.buffer)
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(
            lambda at=at: Connection(requests, at % len(requests), latencies),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
        for at in range(connections)
    ]
    await asyncio.sleep(WARM_UP_S)
    latencies.clear()
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    done = sorted(latencies)
    for transport, _ in made:
        transport.abort()
    print(
        json.dumps(
            {
                "rps": len(done) / took,
                "p50_ms": 1e3 * done[len(done) // 2],
                "p99_ms": 1e3 * done[int(len(done) * 0.99)],
                "total": sum(connection.done for _, connection in made),
                "errors": sum(connection.errors for _, connection in made),
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
