"""Requests at a fixed rate, whatever the answers: `python bench/open_loop.py PORT PATH RATE SECONDS
CONNECTIONS < BODIES`.

Each request has the time at which it is meant to start, and its latency counts from there: what
waits because the server is behind, waits in the figure (no coordinated omission; Tene, "How NOT to
measure latency"). Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from typing import Protocol

import uvloop
from load import requests_of

WARM_UP_S = 1.0


class Sender(Protocol):
    """Who sends by lines."""

    free: deque[Line]

    def answered(self, line: Line, meant: float, well: bool) -> None:
        """Take note of an answer; the line is free again."""
        ...


class Line(asyncio.Protocol):
    """One keep-alive connection with at most one request in flight."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._meant = 0.0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be free."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._sender.free.append(self)

    def send(self, request: bytes, meant: float) -> None:
        """Send a request that was meant to start at a time."""
        self._meant = meant
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take an answer; when it is whole, be free again."""
        data = self._buffer + data if self._buffer else data
        head = data.find(b"\r\n\r\n")
        if head >= 0:
            at = data.find(b"content-length: ") + 16
            if len(data) >= head + 4 + int(data[at : data.find(b"\r", at)]):
                self._buffer = b""
                self._sender.answered(self, self._meant, data.startswith(b"HTTP/1.1 200"))
                return
        self._buffer = data


class Pace:
    """Sends what is due, as soon as a connection is free."""

    def __init__(self, requests: list[bytes], rate: float) -> None:
        self.free: deque[Line] = deque()
        self.lines = 0
        self.latencies: list[tuple[float, float]] = []
        self.errors = 0
        self._requests = requests
        self._rate = rate
        self._loop = asyncio.get_running_loop()
        self._began = 0.0
        self._end = 0.0
        self._next = 0
        self.done = self._loop.create_future()

    def run(self, seconds: float) -> None:
        """Send for so long, and wait for the last answers."""
        self.lines = len(self.free)
        self._began = time.perf_counter()
        self._end = self._began + seconds
        self._turn()

    def answered(self, line: Line, meant: float, well: bool) -> None:
        """Note a latency."""
        now = time.perf_counter()
        self.latencies.append((meant, now - meant))
        self.errors += not well
        self.free.append(line)
        self._send_due(now)

    def _turn(self) -> None:
        """Look at the clock again and again: timers of the loop are a millisecond wide."""
        now = time.perf_counter()
        self._send_due(now)
        if now < self._end or len(self.free) < self.lines:
            self._loop.call_soon(self._turn)
        else:
            self.done.set_result(None)

    def _send_due(self, now: float) -> None:
        due = min(now, self._end)
        while self.free and (meant := self._began + self._next / self._rate) <= due:
            self.free.popleft().send(self._requests[self._next % len(self._requests)], meant)
            self._next += 1


async def main(port: int, path: str, rate: float, seconds: float, connections: int) -> None:
    """Run the load and print what came of it."""
    pace = Pace(requests_of(path, sys.stdin.buffer), rate)
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Line(pace), "127.0.0.1", port)
    pace.run(WARM_UP_S + seconds)
    await pace.done
    start = pace.latencies[0][0] + WARM_UP_S
    found = sorted(latency for meant, latency in pace.latencies if meant >= start)
    print(
        json.dumps(
            {
                "wanted": rate,
                "rps": len(found) / seconds,
                "p50_ms": 1e3 * found[len(found) // 2],
                "p99_ms": 1e3 * found[int(len(found) * 0.99)],
                "failed": pace.errors,
            }
        )
    )


if __name__ == "__main__":
    given = sys.argv[1:]
    uvloop.run(main(int(given[0]), given[1], float(given[2]), float(given[3]), int(given[4])))
