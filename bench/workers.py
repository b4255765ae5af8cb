"""What a second worker costs: `python bench/workers.py [--seconds 3] [--rounds 3] [--scene mixed]`.

Two cores cannot show two workers beside a load that takes one of them. So one worker and two are
measured in turn on the same core, with wrk on the other: what two answer there less than one does
is lost to their being two (smaller batches, two threads that count), and twice the ratio is the
most that they could answer with a core each and even shares. Also printed: how requests were
shared.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import urllib.request
from pathlib import Path

from models import rows_of, schema_of, write_model
from servers import free_port, running, steadynet, wait_for
from serving_peers import STEADYNET

from serving import SCENES, SERVER_CORE, lines_of, wrk
from steadynet.home import Home

CONNECTIONS = 64
SHARE = re.compile(r"^steadynet_worker_requests_total\{.*\} ([0-9.e+]+)$", re.MULTILINE)


def measure(folder: Path, scene: str, workers: int, seconds: float) -> tuple[float, float]:
    """Return requests a second, and the share of the worker that answered fewest."""
    numbers, texts = SCENES[scene]
    bundle = write_model(Home(folder / "home"), folder / "bundle", "bench", numbers, texts)
    way = next(iter(STEADYNET[scene].values()))
    bodies = folder / "bodies"
    bodies.write_bytes(lines_of(rows_of(schema_of(numbers, texts), 256, seed=1), way))
    port = free_port()
    environment = {"STEADYNET_HOME": str(folder / "home")}
    command = steadynet(bundle.path, port, f"--workers={workers}")
    with running(command, cores=SERVER_CORE, environment=environment, folder=folder):
        wait_for(port)
        shares: list[float] = []
        while len(shares) < workers:
            rate = wrk(port, way.path, bodies, CONNECTIONS, seconds)["rps"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                shares = [float(found) for found in SHARE.findall(answer.read().decode())]
    return rate, min(shares) / sum(shares)


def main() -> None:
    """Measure in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scene", default="numbers", choices=list(SCENES))
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for _ in range(options.rounds):
        for workers, measured in found.items():
            with tempfile.TemporaryDirectory() as folder:
                measured.append(measure(Path(folder), options.scene, workers, options.seconds))
    one, two = (statistics.median(rate for rate, _ in found[workers]) for workers in (1, 2))
    print(f"one worker on a core: {one:,.0f} requests a second; two on it: {two:,.0f}")
    print(f"two with a core each: at most {2 * two / one:.2f} times one")
    shares = ", ".join(f"{share:.0%}" for _, share in found[2])
    print(f"of two, the one that answered fewer had {shares} of the requests")


if __name__ == "__main__":
    main()
