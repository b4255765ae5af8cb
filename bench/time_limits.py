"""Whether `--time-limit` is kept: presets, sizes of tables, limits, on an idle and a busy machine.

    python bench/time_limits.py [--limits 10,20,60] [--presets fast,balanced,best]
                                [--rows 1000,100000] [--busy 0]

Tables are generated: 20 numbers, 5 categories, two classes. `--busy` processes spin beside. Each
training is a process of its own, as the command is. Printed per training: the limit, seconds from
reading the table to the written bundle, their ratio, and the components that there was time for.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl


def make_table(rows: int, path: Path) -> None:
    """Write a table of two classes."""
    random = np.random.default_rng(rows)
    numbers = random.normal(size=(rows, 20))
    groups = random.integers(0, 30, (rows, 5))
    effects = random.normal(size=(5, 30))
    score = numbers[:, 0] * numbers[:, 1] + np.sin(3 * numbers[:, 2]) + numbers[:, 3]
    score += sum(effects[place][groups[:, place]] for place in range(5))
    answer = random.random(rows) < 1 / (1 + np.exp(-score))
    frame = pl.DataFrame(
        {f"number_{place}": numbers[:, place] for place in range(20)}
        | {f"group_{place}": [f"g{value}" for value in groups[:, place]] for place in range(5)}
        | {"answer": np.where(answer, "yes", "no")}
    )
    frame.write_parquet(path)


def spin() -> None:
    """Keep a core busy."""
    while True:
        np.linalg.norm(np.ones((64, 64)) @ np.ones((64, 64)))


def measure(table: Path, preset: str, limit: float, home: Path) -> dict[str, object]:
    """Train by the command, and return the seconds it took beside the start of Python."""
    command = [sys.executable, "-m", "steadynet.cli.main", "train", str(table)]
    command += ["--target", "answer", "--preset", preset, "--time-limit", f"{limit:g}s"]
    command += ["--no-register", "--json"]
    environment = {**os.environ, "STEADYNET_HOME": str(home)}
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    seconds = time.perf_counter() - start
    if done.returncode:
        return {"seconds": seconds, "failed": done.stderr.decode(errors="replace")[-200:]}
    found = json.loads(done.stdout)
    components = ", ".join(f"{c['name']} {c['weight']:.2f}" for c in found["components"])
    return {"seconds": seconds, "auc": found["metrics"]["test"]["auc"], "components": components}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--limits", default="10,20,60")
    parser.add_argument("--presets", default="fast,balanced,best")
    parser.add_argument("--rows", default="1000,100000")
    parser.add_argument("--busy", type=int, default=0)
    options = parser.parse_args()
    spinning = [multiprocessing.Process(target=spin, daemon=True) for _ in range(options.busy)]
    for process in spinning:
        process.start()
    print("| rows | preset | limit s | took s | ratio | auc | components |")
    print("|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for rows in map(int, options.rows.split(",")):
            table = Path(folder) / f"table-{rows}.parquet"
            make_table(rows, table)
            for preset in options.presets.split(","):
                for limit in map(float, options.limits.split(",")):
                    home = Path(folder) / f"home-{rows}-{preset}-{limit:g}"
                    found = measure(table, preset, limit, home)
                    took = float(str(found["seconds"]))
                    end = found.get("failed") or f"{found['auc']:.4f} | {found['components']}"
                    cells = [rows, preset, f"{limit:g}", f"{took:.1f}", f"{took / limit:.2f}", end]
                    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    for process in spinning:
        process.kill()


if __name__ == "__main__":
    main()
