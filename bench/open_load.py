"""An open-loop HTTP load: `python bench/open_load.py PORT MODEL RATE SECONDS LABELLED < BODIES`.

Requests leave at their times, RATE a second, whether or not earlier ones were answered. BODIES is
one JSON body of an inference request per line, sent in turn, each under an id of its own; for the
share LABELLED of them a label is handed in a second later. Prints one JSON object; latencies are
counted from when a request was due.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque

import uvloop
from open_loop import Line

CONNECTIONS = 64
WARM_UP_S = 3.0
LABEL_AFTER_S = 1.0
LABELS = (b'"no"', b'"yes"')


class Load:
    """The requests that are due, and what became of those that were sent."""

    def __init__(self, model: bytes, bodies: list[bytes], labelled: float) -> None:
        self.free: deque[Line] = deque()
        self.waiting: deque[tuple[bytes, float]] = deque()
        self.labels: deque[tuple[float, bytes]] = deque()
        self.latencies: list[float] = []
        self.errors = self.sent = 0
        self.model, self.bodies, self.labelled = model, bodies, labelled

    def ask(self, number: int, due: float) -> None:
        """Send the next request, and remember that its label is due later."""
        body = b'{"id":"q%d",%s' % (number, self.bodies[number % len(self.bodies)][1:])
        self.put(b"/v2/models/%s/infer" % self.model, body, due)
        if (number * 0.618034) % 1 < self.labelled:
            label = b'{"id":"q%d","label":%s}' % (number, LABELS[number % 2])
            self.labels.append((due + LABEL_AFTER_S, label))

    def put(self, path: bytes, body: bytes, due: float) -> None:
        """Send a body, or let it wait for a connection."""
        head = b"POST %s HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n" % path
        request = head + b"content-length: %d\r\n\r\n%s" % (len(body), body)
        self.sent += 1
        if self.free:
            self.free.popleft().send(request, due)
        else:
            self.waiting.append((request, due))

    def answered(self, line: Line, meant: float, well: bool) -> None:
        """Note an answer, and give its connection the next request that waits."""
        self.latencies.append(time.perf_counter() - meant)
        self.errors += not well
        if self.waiting:
            line.send(*self.waiting.popleft())
        else:
            self.free.append(line)


async def main(port: int, model: str, rate: float, seconds: float, labelled: float) -> None:
    """Run the load and print what came of it."""
    bodies = [line.strip() for line in sys.stdin.buffer if line.strip()]
    load = Load(model.encode(), bodies, labelled)
    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Line(load), "127.0.0.1", port)
    began, number, warm = time.perf_counter(), 0, False
    while (now := time.perf_counter()) < began + WARM_UP_S + seconds:
        if not warm and now >= began + WARM_UP_S:
            warm = True
            load.latencies.clear()
            print(json.dumps({"warm": True}), flush=True)
        while began + number / rate <= now:
            load.ask(number, began + number / rate)
            number += 1
        while load.labels and load.labels[0][0] <= now:
            load.put(b"/feedback", load.labels.popleft()[1], now)
        await asyncio.sleep(0.001)
    done = sorted(load.latencies)
    print(
        json.dumps(
            {
                "answered": len(done),
                "p50_ms": 1e3 * done[len(done) // 2],
                "p99_ms": 1e3 * done[int(len(done) * 0.99)],
                "errors": load.errors,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    port, model, *numbers = sys.argv[1:]
    uvloop.run(main(int(port), model, *map(float, numbers)))
