"""What the whole loop costs a served model: `python bench/loop_cost.py`.

One worker on core 0 answers single rows (10 numbers, 5 texts), each logged and counted; the
controller, on the same core, takes in windows, rows and labels, and judges drift, quality and
objectives. The load comes from core 1:

1. RATE requests a second in an open loop, a tenth of them labelled a second later: the controller's
   processor time as a share of one core, and the worker's per request with it and without.
2. As many requests as are answered: the throughput of that one core with the controller, without.

Processor times are the kernel's; what else runs on the machine moves them little, and throughput
more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from models import schema_of, write_model
from servers import HERE, SERVE, bodies_of, cpu_s, free_port, wait_for

from steadynet.control.store import Store
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry

NUMBERS, TEXTS = 10, 5
NAME = "bench"


@dataclass(frozen=True)
class Cost:
    """What one run at a fixed rate cost."""

    worker_us: float
    """Processor time of the worker per request, microseconds."""
    controller_share: float
    """Of one core."""
    p99_ms: float
    errors: int
    rows: int
    """Labelled rows in the store at the end."""


class Served:
    """A server on core 0, with or without its controller."""

    def __init__(self, home: Home, *, controller: bool) -> None:
        self.home, self.port, self.controller = home, free_port(), controller
        command = [sys.executable, "-c", SERVE, "serve", NAME, f"--port={self.port}"]
        command.append("--controller" if controller else "--no-controller")
        # The labels are made up, so that quality is lost; a retrain is not what is measured.
        (home.root / "loop.toml").write_text("[heal]\nenabled = false\n")
        command.append("--spec=loop.toml")
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", *command],
            env={**os.environ, "STEADYNET_HOME": str(home.root), "OMP_NUM_THREADS": "1"},
            cwd=home.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self.port)
        while controller and self.controller_pid() is None:
            time.sleep(0.1)

    def controller_pid(self) -> int | None:
        """Return the controller's process id, where it runs."""
        found: int | None = json.loads(self.home.server(NAME).read_bytes())["controller"]
        return found

    def cpu(self) -> tuple[float, float]:
        """Return the processor seconds of controller and all the rest."""
        pid = self.controller_pid()
        own = 0.0 if pid is None else cpu_s(pid)
        return own, cpu_s(self.process.pid) - own

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


def at_rate(home: Home, bodies: bytes, rate: float, seconds: float, *, controller: bool) -> Cost:
    """Measure a server at a fixed rate of requests."""
    served = Served(home, controller=controller)
    try:
        command = ["taskset", "-c", "1", sys.executable, str(HERE / "open_load.py")]
        command += [str(served.port), NAME, str(rate), str(seconds), "0.1"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as load:
            assert load.stdin is not None
            assert load.stdout is not None
            load.stdin.write(bodies)
            load.stdin.close()
            load.stdout.readline()
            before, began = served.cpu(), time.perf_counter()
            answer = json.loads(load.stdout.readline())
            after, took = served.cpu(), time.perf_counter() - began
    finally:
        served.close()
    with Store.of(home) as store, store.read() as tx:
        labelled = tx.observations.count_labelled(NAME) if controller else 0
    return Cost(
        worker_us=1e6 * (after[1] - before[1]) / answer["answered"],
        controller_share=(after[0] - before[0]) / took,
        p99_ms=answer["p99_ms"],
        errors=answer["errors"],
        rows=labelled,
    )


def at_most(home: Home, bodies: bytes, seconds: float, *, controller: bool) -> float:
    """Return the requests per second that one core answers."""
    served = Served(home, controller=controller)
    try:
        load = [sys.executable, str(HERE / "load.py"), str(served.port)]
        output = subprocess.run(
            ["taskset", "-c", "1", *load, f"/v2/models/{NAME}/infer", "64", str(seconds)],
            input=bodies,
            capture_output=True,
            check=True,
        ).stdout
    finally:
        served.close()
    rate: float = json.loads(output)["rps"]
    return rate


def fresh_home(folder: Path) -> Home:
    """Return a home with one version, the champion."""
    home = Home(folder)
    bundle = write_model(home, folder / "bundle", NAME, NUMBERS, TEXTS)
    LocalRegistry(home).add(bundle, NAME, "1")
    LocalRegistry(home).mark_published(NAME, "champion", "1")
    return home


def main() -> int:
    """Measure in turns and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=2000.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--throughput", type=float, default=6.0, help="seconds; 0: not measured")
    options = parser.parse_args()
    bodies = bodies_of(schema_of(NUMBERS, TEXTS))
    costs: dict[bool, list[Cost]] = {False: [], True: []}
    rates: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2 * options.rounds):
            on = bool(number % 2)
            home = fresh_home(Path(folder) / f"home{number}")
            cost = at_rate(home, bodies, options.rate, options.seconds, controller=on)
            costs[on].append(cost)
            print(f"controller {'on ' if on else 'off'} {cost}", flush=True)
            if options.throughput:
                rates[on].append(at_most(home, bodies, options.throughput, controller=on))
                print(f"  {rates[on][-1]:.0f} requests/s at most", flush=True)
    off_us, on_us = (statistics.median(c.worker_us for c in costs[on]) for on in (False, True))
    share = statistics.median(cost.controller_share for cost in costs[True])
    print(f"worker: {off_us:.0f} us a request without the controller, {on_us:.0f} with it")
    print(f"controller: {share:.1%} of one core at {options.rate:g} requests/s (target 3 %)")
    if options.throughput:
        off, on = (statistics.median(rates[which]) for which in (False, True))
        print(f"throughput: {on / off:.1%} of that without the controller (target 95 %)")
    return int(any(cost.errors for found in costs.values() for cost in found))


if __name__ == "__main__":
    sys.exit(main())
