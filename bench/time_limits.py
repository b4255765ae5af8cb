"""Whether `--time-limit` is kept: presets, sizes of tables, limits, on an idle and a busy machine.

    python bench/time_limits.py [--limits 10,20,60] [--presets fast,balanced,best]
                                [--rows 1000,100000] [--busy 0]

Tables are generated: 20 numbers, 5 categories, two classes. `--busy` processes spin beside. Each
training is a process of its own. Printed per training: the limit, the seconds from reading the
table to the written bundle, their ratio, the seconds of the whole process (Python and its imports
included), and the components that there was time for.
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

from steadynet.home import Home
from steadynet.spec.model import Spec, TableSpec, TrainingSpec
from steadynet.training.run import train


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


def run_one(table: Path, preset: str, limit: float) -> None:
    """Train in this process; print how long it took and what it made, as JSON."""
    training = TrainingSpec(preset=preset, time_limit_s=limit)  # type: ignore[arg-type]
    spec = Spec(table=TableSpec(target="answer"), training=training)
    start = time.perf_counter()
    trained = train(str(table), spec, home=Home(table.parent / f"home-{os.getpid()}"), name="limit")
    seconds = time.perf_counter() - start
    components = ", ".join(f"{share.name} {share.weight:.2f}" for share in trained.shares)
    auc = trained.manifest.metrics["test"]["auc"].value
    print(json.dumps({"seconds": seconds, "auc": auc, "components": components}))


def measure(table: Path, preset: str, limit: float) -> dict[str, object]:
    """Return what a training in a process of its own says, with the seconds of that process."""
    command = [sys.executable, __file__, "--one", str(table), preset, f"{limit:g}"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False)
    whole = time.perf_counter() - start
    if done.returncode:
        return {"failed": done.stderr.decode(errors="replace")[-200:], "whole": whole}
    return {**json.loads(done.stdout), "whole": whole}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--limits", default="10,20,60")
    parser.add_argument("--presets", default="fast,balanced,best")
    parser.add_argument("--rows", default="1000,100000")
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(Path(options.one[0]), options.one[1], float(options.one[2]))
        return
    spinning = [multiprocessing.Process(target=spin, daemon=True) for _ in range(options.busy)]
    for process in spinning:
        process.start()
    print("| rows | preset | limit s | took s | ratio | process s | auc | components |")
    print("|---" * 8 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for rows in map(int, options.rows.split(",")):
            table = Path(folder) / f"table-{rows}.parquet"
            make_table(rows, table)
            for preset in options.presets.split(","):
                for limit in map(float, options.limits.split(",")):
                    found = measure(table, preset, limit)
                    if "failed" in found:
                        print(f"| {rows} | {preset} | {limit:g} | {found['failed']} |", flush=True)
                        continue
                    took, whole = float(str(found["seconds"])), float(str(found["whole"]))
                    times = [f"{took:.1f}", f"{took / limit:.2f}", f"{whole:.1f}"]
                    end = [f"{found['auc']:.4f}", found["components"]]
                    cells = [rows, preset, f"{limit:g}", *times, *end]
                    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    for process in spinning:
        process.kill()


if __name__ == "__main__":
    main()
