"""What trust costs a server: keys and rates, tracing off and on, beside a server without.

`python bench/trust_cost.py [--rounds 10] [--seconds 2]` starts one server for each setting, loads
them in turn, round by round, and prints the median over rounds of each one's processor time per
request and requests per second, as ratios to the plain server in the same round: other work on the
machine then falls on all alike.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop
from load import Connection
from models import schema_of
from one_server import MODEL, OneServer, start_server
from servers import bodies_of, cpu_s

from steadynet.home import Home
from steadynet.serving.keys import changing_keys, make_key

PATH = f"/v2/models/{MODEL}/infer"
CONNECTIONS = 64
KEYS = 'auth = "keys"\nrate_per_key = 1000000.0\nrate_per_model = 1000000.0\n'
NOWHERE = "http://127.0.0.1:9/v1/traces"
SETTINGS = {
    "plain": "",
    "keys and both rates": KEYS,
    "traces, none of them sampled": f'trace_endpoint = "{NOWHERE}"\ntrace_share = 0.0\n',
    "traces, one in a hundred": f'trace_endpoint = "{NOWHERE}"\ntrace_share = 0.01\n',
}


@dataclass
class Served:
    """One server and what was measured of it."""

    server: OneServer
    requests: list[bytes]
    cpu_us: list[float]
    per_second: list[float]

    def measure(self, seconds: float) -> None:
        """Load it once."""
        before = cpu_s(self.server.process.pid)
        done, errors = uvloop.run(load(self.server.port, self.requests, seconds))
        assert not errors, f"{errors} requests were not answered with 200"
        self.cpu_us.append(1e6 * (cpu_s(self.server.process.pid) - before) / done)
        self.per_second.append(done / seconds)


async def load(port: int, requests: list[bytes], seconds: float) -> tuple[int, int]:
    """Send for so long over `CONNECTIONS`; return how many were answered, and how many badly."""
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(
            partial(Connection, requests, at, latencies), "127.0.0.1", port
        )
        for at in range(CONNECTIONS)
    ]
    await asyncio.sleep(seconds)
    for transport, _ in made:
        transport.abort()
    connections = [connection for _, connection in made]
    return sum(one.done for one in connections), sum(one.errors for one in connections)


def start(folder: Path, setting: str) -> Served:
    """Start a server with a setting of its own home."""
    home = Home(folder / "home")
    key, kept = make_key("bench", "caller", now=0.0)
    with changing_keys(home) as keys:
        keys.append(kept)
    server = start_server(folder, 32, 0, setting)
    # The key is sent to all, so that all read headers of the same length.
    head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n"
    requests = [
        b"%scontent-length: %d\r\n\r\n%s" % (head.encode(), len(body), body)
        for body in bodies_of(schema_of(32, 0), matrix=True).splitlines()
    ]
    return Served(server, requests, [], [])


def main() -> None:
    """Measure every setting."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {}
        for number, (name, setting) in enumerate(SETTINGS.items()):
            own = Path(folder) / str(number)
            own.mkdir()
            servers[name] = start(own, setting)
            stack.callback(servers[name].server.end)
        for _ in range(options.rounds + 1):
            for served in servers.values():
                served.measure(options.seconds)
        plain = servers["plain"]
        for name, served in servers.items():
            cost = [a / b for a, b in zip(served.cpu_us[1:], plain.cpu_us[1:], strict=True)]
            speed = [
                a / b for a, b in zip(served.per_second[1:], plain.per_second[1:], strict=True)
            ]
            print(
                f"  {name:30} {statistics.median(served.cpu_us[1:]):6.1f} us of processor a request"
                f", {statistics.median(cost):.3f} x plain; requests per second"
                f" {statistics.median(speed):.3f} x plain"
            )


if __name__ == "__main__":
    main()
