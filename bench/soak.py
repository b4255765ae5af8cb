"""Memory over many requests: `python bench/soak.py [--requests 10000000]`.

Loads one worker, with keys, rates and the log of rows on, until so many requests are answered, and
prints the worker's memory ten times on the way. The exit code is 1 where it grew by more than
`ALLOWED_BYTES` after the first tenth, in which caches fill and windows and logs reach their size.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import uvloop
from one_server import memory_of
from trust_cost import KEYS, load, start

TENTHS = 10
ALLOWED_BYTES = 30_000_000


def soak(pid: int, port: int, requests: list[bytes], count: int, slice_s: float) -> list[int]:
    """Send `count` requests; return the worker's memory after each tenth.

    Raises `AssertionError` where one is not answered with 200.
    """
    levels: list[int] = []
    done = 0
    while len(levels) < TENTHS:
        answered, errors = uvloop.run(load(port, requests, slice_s))
        assert not errors, f"{errors} requests were not answered with 200"
        done += answered
        while len(levels) < TENTHS and done >= count * (len(levels) + 1) / TENTHS:
            levels.append(memory_of(pid))
            print(f"  {done:>10} requests: {levels[-1] / 1e6:.1f} MB", flush=True)
    return levels


def main() -> int:
    """Soak one server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        served = start(Path(folder), KEYS)
        try:
            slice_s = 2.0 if options.requests < 1_000_000 else 20.0
            levels = soak(
                served.server.worker, served.server.port, served.requests, options.requests, slice_s
            )
        finally:
            served.server.end()
    grown = max(levels[1:]) - levels[0]
    print(f"  grown after the first tenth: {grown / 1e6:.1f} MB")
    return int(grown > ALLOWED_BYTES)


if __name__ == "__main__":
    sys.exit(main())
