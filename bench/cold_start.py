"""Seconds from `steadynet serve` to the first answer, in a fresh process, and a worker's memory.

`python bench/cold_start.py [--runs 5] [--grpc]`: a table of 20 numbers and 20 texts, a network of
256 x 256; each run ends with the server drained. With `--grpc` each run is made twice, without gRPC
and with it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from models import rows_of, schema_of, write_model
from servers import SERVE, free_port

from steadynet.home import Home


def first_answer(bundle: Path, home: Path, body: str, *options: str) -> tuple[float, float]:
    """Return seconds until the first 200, and a worker's megabytes."""
    port = free_port()
    began = time.perf_counter()
    server = subprocess.Popen(
        [
            *(sys.executable, "-c", SERVE, "serve", str(bundle)),
            *(f"--port={port}", "--no-controller", *options),
        ],
        env={**os.environ, "STEADYNET_HOME": str(home), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not answers(port, body):
            time.sleep(0.005)
        took = time.perf_counter() - began
        info = json.loads((home / "serving" / "bench" / "server.json").read_bytes())
        if info["grpc_port"] is not None:
            wait_until_listening(info["grpc_port"])
        pages = int(Path(f"/proc/{info['workers'][0]}/statm").read_text().split()[1])
        return took, pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    finally:
        server.terminate()
        server.wait()


def wait_until_listening(port: int) -> None:
    """Return once something takes connections."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.005)


def answers(port: int, body: str) -> bool:
    """Return whether a prediction is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/invocations", body, headers)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def main() -> None:
    """Start and end the server several times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--grpc", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        bundle = write_model(Home(home), Path(folder) / "bundle", "bench", 20, 20)
        body = json.dumps({"dataframe_records": rows_of(schema_of(20, 20), 1)})
        ways = {"HTTP": (), "HTTP and gRPC": ("--grpc-port=0",)} if options.grpc else {"HTTP": ()}
        results: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(options.runs):
            for way, extra in ways.items():
                results[way].append(first_answer(bundle.path, home, body, *extra))
        for way, found in results.items():
            seconds = sorted(took for took, _ in found)
            memory = statistics.median(megabytes for _, megabytes in found)
            print(
                f"{way}: first answer after {seconds[0]:.2f} to {seconds[-1]:.2f} s, median",
                end=" ",
            )
            print(f"{statistics.median(seconds):.2f} s; a worker holds {memory:.0f} MB")


if __name__ == "__main__":
    main()
