"""What idle connections cost a worker, and those who call beside them.

`python bench/idle.py [--connections 10000] [--requests 2000]` opens them against one worker, asks
for predictions one after the other on one more connection, before and beside, and prints the
worker's memory per connection and the latencies.
"""

from __future__ import annotations

import argparse
import http.client
import resource
import socket
import tempfile
import time
from pathlib import Path

from models import schema_of
from one_server import MODEL, memory_of, one_server
from servers import bodies_of


def latencies_ms(port: int, bodies: list[bytes], requests: int) -> list[float]:
    """Ask in turn on one connection; return sorted milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    taken = []
    for number in range(requests):
        began = time.perf_counter()
        connection.request("POST", f"/v2/models/{MODEL}/infer", bodies[number % len(bodies)])
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        taken.append(1000 * (time.perf_counter() - began))
    connection.close()
    return sorted(taken)


def tell(what: str, taken: list[float]) -> None:
    """Print quantiles."""
    p50, p99 = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
    print(f"  {what:28} p50 {p50:.2f} ms, p99 {p99:.2f} ms")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=2_000)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    bodies = bodies_of(schema_of(32, 0), matrix=True).splitlines()
    with tempfile.TemporaryDirectory() as folder, one_server(Path(folder), 32, 0) as server:
        latencies_ms(server.port, bodies, 500)
        tell("no idle connections", latencies_ms(server.port, bodies, options.requests))
        before = memory_of(server.worker)
        idle = []
        for _ in range(options.connections):
            idle.append(socket.create_connection(("127.0.0.1", server.port), timeout=60))
        taken = latencies_ms(server.port, bodies, options.requests)
        tell(f"{len(idle)} idle connections", taken)
        each = (memory_of(server.worker) - before) / max(1, len(idle))
        print(f"  {each / 1000:.1f} kB a connection, {before / 1e6:.0f} MB before")
        for connection in idle:
            connection.close()


if __name__ == "__main__":
    main()
