"""`steadynet train` beside its peers, on the same rows: quality, calibration, time, one row.

    python bench/training.py [DATA] [--tables a,b] [--peers a,b] [--seeds 3] [--limit 900]
                             [--threads 1] [--cache FILE] [--markdown OUT]
    python bench/training.py --table FILE --target T [--drop a,b]

Peers run in `.venv-peers` (made on the first call from bench/peers-training.txt), each fit in a
process of its own, killed after `--limit` seconds. Seeds after the first are run only where the
first fit was under a minute. What has run is kept in `--cache`, one JSON line each, and not run
again; our own lines carry a digest of `src/steadynet`. Printed: medians over seeds per table, then
mean ranks over the tables that all of the compared finished. CPU seconds are what to compare on a
machine that is not idle. `row_ms` is one row through the public call, warm: a dictionary for us,
a pandas row for the peers; `values_ms` the same for a peer that takes a list of values.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from one_row import DISTINCT, one_row_ms

from steadynet.files import sha256_bytes
from steadynet.home import Home
from steadynet.model import Model, load_bundle
from steadynet.runtime.metrics import classification_metrics, regression_metrics
from steadynet.spec.model import Spec, SplitSpec, TableSpec, TrainingSpec
from steadynet.training.prepare import prepare
from steadynet.training.run import train

ROOT = Path(__file__).resolve().parents[1]
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
OURS = ("fast", "balanced", "best")
PEERS = (
    *("HistGB", "LightGBM", "XGBoost", "CatBoost"),
    *("sklearn MLP", "Lightning MLP", "RealMLP-TD", "TabM"),
)
QUICK_S = 60.0


class Case(NamedTuple):
    """A table with its target and the columns that leak or identify."""

    path: str
    target: str
    drop: tuple[str, ...] = ()
    group: str | None = None

    @property
    def name(self) -> str:
        """The table's name."""
        return Path(self.path).stem


CASES = (
    Case("german_credit/german_credit.csv", "class"),
    Case("telco_churn/telco_churn.csv", "Churn", ("customerID",)),
    Case("wine_quality/wine_quality.csv", "quality"),
    Case("california_housing/california_housing.csv", "median_house_value"),
    Case("bike_sharing_hour/bike_sharing_hour.csv", "cnt", ("casual", "registered", "instant")),
    Case("bank_additional/bank_additional.csv", "y", ("duration",)),
    Case("elec2/elec2.csv", "class", ("date",)),
    Case("diabetes_130/diabetes_130.parquet", "readmitted", ("encounter_id",), "patient_nbr"),
)


def spec_of(case: Case, seed: int, preset: str, threads: int) -> Spec:
    """Return the spec: the file, the target, what to drop, and the seed."""
    return Spec(
        table=TableSpec(target=case.target, drop=case.drop),
        split=SplitSpec(seed=seed, group_column=case.group),
        training=TrainingSpec(seed=seed, preset=preset, threads=threads),  # type: ignore[arg-type]
    )


class Rows(NamedTuple):
    """What every contestant gets, and what its answers are judged by."""

    parquet: Path
    test: pl.DataFrame
    target: np.ndarray
    task: str
    classes: tuple[str, ...]


def lay_out(case: Case, data: Path, seed: int, folder: Path) -> Rows:
    """Write the rows in three parts as our own training splits and reads them."""
    table = prepare(str(data / case.path), spec_of(case, seed, "fast", 1))
    columns: dict[str, Any] = {}
    for column in table.schema.features:
        values = table.columns[column.name][:][:, 0]
        columns[column.name] = (
            [text or None for text in values] if values.dtype == object else values
        )
    part = np.empty(len(table.target), object)
    for name, rows in table.split._asdict().items():
        part[rows] = name
    frame = pl.DataFrame(columns)
    path = folder / f"{case.name}-{seed}.parquet"
    frame.with_columns(
        pl.Series("__target", table.target), pl.Series("__part", part.tolist())
    ).write_parquet(path)
    test = table.split.test
    return Rows(path, frame[test], table.target[test], table.schema.target.task, table.classes)


def score(answers: np.ndarray, rows: Rows) -> dict[str, float]:
    """Return the metrics of answers to the test part."""
    if not rows.classes:
        return regression_metrics(rows.target, answers.reshape(-1))
    return classification_metrics(rows.target, answers, rows.classes)


def run_ours(
    case: Case, data: Path, seed: int, preset: str, threads: int, rows: Rows
) -> dict[str, Any]:
    """Train by a preset and return its row."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        started, cpu = time.perf_counter(), time.process_time()
        spec = spec_of(case, seed, preset, threads)
        trained = train(str(data / case.path), spec, home=home, name="bench")
        whole, used = time.perf_counter() - started, time.process_time() - cpu
        model = Model(load_bundle(trained.bundle, home=home), name="bench", version="1")
        found = model.answer(rows.test)
        answers = found["probabilities"] if rows.classes else found["prediction"]
        call = model.predict_proba if rows.classes else model.predict
        row_ms = one_row_ms(call, rows.test.head(DISTINCT).to_dicts())
    return {
        "fit_s": trained.fit_seconds,
        "whole_s": whole,
        "cpu_s": used,
        "row_ms": row_ms,
        "metrics": score(answers, rows),
    }


def run_peer(peer: str, seed: int, threads: int, limit: float, rows: Rows) -> dict[str, Any]:
    """Fit a peer in its environment and return its row, or why there is none."""
    count = str(threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        script = ROOT / "bench" / "training_peers.py"
        command = [PEERS_PYTHON, script, peer, rows.parquet, rows.task, out, str(seed), count]
        environment = {**os.environ, **dict.fromkeys(names, count)}
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=limit, check=False, env=environment
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"over {limit:g} s"}
        if not out.is_file():
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            return {"failed": (last or ["no answer"])[0][:160]}
        row: dict[str, Any] = json.loads(out.read_text())
    row["metrics"] = score(np.array(row.pop("answers")), rows)
    return row


def code_digest() -> str:
    """Return a digest of our own code."""
    files = sorted((ROOT / "src" / "steadynet").rglob("*.py"))
    return sha256_bytes(b"".join(path.read_bytes() for path in files))[:12]


class Cache:
    """What has run: key → row, one JSON line each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.is_file() else []
        self._rows = {(found := json.loads(line))["key"]: found for line in lines}

    def get(self, key: str) -> dict[str, Any] | None:
        """Return a row that has run."""
        return self._rows.get(key)

    def put(self, key: str, row: dict[str, Any]) -> None:
        """Keep a row."""
        self._rows[key] = row | {"key": key}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(self._rows[key]) + "\n")


def make_peers() -> None:
    """Make the peers' environment where there is none."""
    if PEERS_PYTHON.is_file():
        return
    print("making .venv-peers; this takes minutes", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", ROOT / ".venv-peers"], check=True)
    pip = [PEERS_PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "torch==2.13.0"], check=True)
    subprocess.run([*pip, "-r", ROOT / "bench" / "peers-training.txt"], check=True)


def measure(options: argparse.Namespace, cases: Iterable[Case]) -> list[dict[str, Any]]:
    """Run what has not run, print as it comes, and return every row."""
    cache, digest = Cache(options.cache), code_digest()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            for name in options.wanted:
                for seed in range(options.seeds):
                    version = digest if name in OURS else "peer"
                    key = f"{name}|{version}|{case.path}|{seed}|{options.threads}"
                    row = cache.get(key)
                    if row is None:
                        rows = lay_out(case, options.data, seed, Path(folder))
                        if name in OURS:
                            row = run_ours(case, options.data, seed, name, options.threads, rows)
                        else:
                            row = run_peer(name, seed, options.threads, options.limit, rows)
                        cache.put(key, row)
                    found.append(row | {"table": case.name, "name": name, "seed": seed})
                    print(line_of(found[-1]), file=sys.stderr, flush=True)
                    if row.get("failed") or row["cpu_s"] > QUICK_S:
                        break
    return found


def line_of(row: dict[str, Any]) -> str:
    """Return a row in words."""
    start = f"{row['table']:<20}{row['name']:<15}{row['seed']}"
    if row.get("failed"):
        return f"{start}  {row['failed']}"
    metric = "auc" if "auc" in row["metrics"] else "rmse"
    return (
        f"{start}  {metric} {row['metrics'][metric]:.5g}  fit {row['fit_s']:.1f} s  "
        f"cpu {row['cpu_s']:.1f} s  row {row['row_ms']:.2f} ms"
    )


def table_of(found: list[dict[str, Any]], names: list[str]) -> str:
    """Return the medians as a Markdown table, with mean ranks over the tables all finished."""
    tables = list(dict.fromkeys(row["table"] for row in found))
    lines = ["| table | what | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    ranks: dict[str, list[float]] = {name: [] for name in names}
    for table in tables:
        own = {
            name: [
                row
                for row in found
                if row["table"] == table and row["name"] == name and not row.get("failed")
            ]
            for name in names
        }
        some = next((rows[0] for rows in own.values() if rows), None)
        if some is None:
            continue
        metric = "auc" if "auc" in some["metrics"] else "rmse"
        medians = {
            name: float(np.median([row["metrics"][metric] for row in rows]))
            for name, rows in own.items()
            if rows
        }
        if len(medians) == len(names):
            order = sorted(medians, key=lambda name: medians[name], reverse=metric == "auc")
            for name in names:
                ranks[name].append(order.index(name) + 1)
        wanted = [metric, *(m for m in ("log_loss", "ece") if m in some["metrics"])]
        for key in wanted:
            cells = [_median(own[name], lambda row, key=key: row["metrics"][key]) for name in names]
            lines.append(f"| {table} | {key} | " + " | ".join(cells) + " |")
        for key in ("cpu_s", "row_ms", "values_ms"):
            if not any(key in row for rows in own.values() for row in rows):
                continue
            cells = [_median(own[name], lambda row, key=key: row.get(key)) for name in names]
            lines.append(f"| {table} | {key} | " + " | ".join(cells) + " |")
    means = [f"{np.mean(ranks[name]):.2f}" if ranks[name] else "-" for name in names]
    count = len(next(iter(ranks.values())))
    lines.append(f"| mean rank | {count} tables | " + " | ".join(means) + " |")
    return "\n".join(lines)


def _median(rows: list[dict[str, Any]], value: Any) -> str:
    known = [found for row in rows if (found := value(row)) is not None]
    return f"{float(np.median(known)):.4g}" if known else "-"


def main() -> None:
    """Measure and print."""
    default = os.environ.get("STEADYNET_TEST_DATA", ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--tables", default="")
    parser.add_argument("--peers", default="", help="names, ours too; all unless given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=900.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=ROOT / ".steadynet" / "bench-training.jsonl")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--target")
    parser.add_argument("--drop", default="")
    options = parser.parse_args()
    cases: tuple[Case, ...] = CASES
    if options.table:
        dropped = tuple(filter(None, options.drop.split(",")))
        cases = (Case(str(options.table.absolute()), options.target, dropped),)
    chosen = set(filter(None, options.tables.split(",")))
    cases = tuple(case for case in cases if not chosen or case.name in chosen)
    asked = list(filter(None, options.peers.split(",")))
    options.wanted = asked or [*OURS, *PEERS]
    if any(name in PEERS for name in options.wanted):
        make_peers()
    text = table_of(measure(options, cases), options.wanted)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n")


if __name__ == "__main__":
    main()
