"""One worker's requests per second and processor time per request, beside its peers'.

Peers: the same HTTP server with a constant answer, and FastAPI with onnxruntime.
`python bench/serving.py [--seconds 5] [--connections 64]` starts each server in turn on the same
core, loads it from another core, and prints ratios. Two tables: 32 numbers, and 20 numbers with
20 texts; one row a request; a network of 256 x 256.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from models import rows_of, schema_of, write_model

from steadynet.home import Home
from steadynet.table.schema import Schema

HERE = Path(__file__).parent
SERVE = "import sys; from steadynet.cli.main import run; sys.exit(run(sys.argv[1:]))"
TABLES = {
    "32 numbers as one tensor": (32, 0, True),
    "32 numbers, a tensor per column": (32, 0, False),
    "20 numbers, 20 texts, a tensor per column": (20, 20, False),
}


def bodies_of(schema: Schema, count: int = 256, *, matrix: bool = False) -> bytes:
    """Return one Open Inference Protocol body per line."""
    lines = []
    for row in rows_of(schema, count, seed=1):
        inputs = [
            {
                "name": name,
                "shape": [1, 1],
                "datatype": "BYTES" if isinstance(value, str) else "FP32",
                "data": [value],
            }
            for name, value in row.items()
        ]
        if matrix:
            values = list(row.values())
            inputs = [{"name": "x", "shape": [1, len(values)], "datatype": "FP32", "data": values}]
        lines.append(json.dumps({"inputs": inputs}, separators=(",", ":")).encode())
    return b"\n".join(lines) + b"\n"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def measure(
    command: list[str], port: int, bodies: bytes, connections: int, seconds: float, home: Path
) -> dict[str, float]:
    """Start a server on core 0, load it from core 1, end it."""
    environment = {**os.environ, "STEADYNET_HOME": str(home), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        ["taskset", "-c", "0", *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port)
        load = [sys.executable, str(HERE / "load.py"), str(port), "/v2/models/bench/infer"]
        before = cpu_s(server.pid)
        output = subprocess.run(
            ["taskset", "-c", "1", *load, str(connections), str(seconds)],
            input=bodies,
            capture_output=True,
            check=True,
        ).stdout
        used = cpu_s(server.pid) - before
    finally:
        server.terminate()
        server.wait()
    result: dict[str, float] = json.loads(output)
    result["cpu_us"] = 1e6 * used / result["total"]
    return result


def cpu_s(pid: int) -> float:
    """Return the processor seconds of a process and its children, which a busy machine leaves as
    they are."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    total = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return total + sum(cpu_s(int(child)) for child in children)


def wait_for(port: int) -> None:
    """Wait until something answers on the port."""
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).read()
            return
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError("the server did not start")


def main() -> None:
    """Measure every server on every table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 1])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number, (table, (numbers, texts, matrix)) in enumerate(TABLES.items()):
            home = Path(folder) / f"home{number}"
            bundle = write_model(Home(home), Path(folder) / f"b{number}", "bench", numbers, texts)
            bodies = bodies_of(schema_of(numbers, texts), matrix=matrix)
            for connections in options.connections:
                print(f"\n{table}, {connections} connections, one worker")
                results = {}
                for name in ("constant", "fastapi", "steadynet"):
                    port = free_port()
                    command = [sys.executable, str(HERE / "peers.py"), name, str(port)]
                    if name == "steadynet":
                        command = [sys.executable, "-c", SERVE, "serve", str(bundle.path)]
                        command += [f"--port={port}", "--no-controller"]
                    elif name == "fastapi":
                        command.append(str(bundle.path))
                    results[name] = measure(
                        command, port, bodies, connections, options.seconds, home
                    )
                    print(f"  {name:10}", {k: round(v, 2) for k, v in results[name].items()})
                for unit, power in (("rps", 1), ("cpu_us", -1)):
                    of = {name: result[unit] ** power for name, result in results.items()}
                    print(
                        f"  by {unit}: {of['steadynet'] / of['constant']:.0%} of the constant"
                        f" answer, {of['steadynet'] / of['fastapi']:.1f} x FastAPI"
                    )


if __name__ == "__main__":
    main()
