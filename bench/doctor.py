"""How well the doctor finds wrong labels, how seldom it cries wolf, and how long it takes.

    python bench/doctor.py labels [DATA] [--seeds 3] [--share 0.05] [--rows 10000]
    python bench/doctor.py clean [--tables 200]
    python bench/doctor.py time [--rows 100000] [--columns 20]

`labels` flips a share of the labels of real tables and counts, at the number of rows that the
report gives, which of the flipped ones are among them (recall) and how many of the named ones were
flipped (precision, which real errors of the table lower). `clean` checks made tables with nothing
wrong. `time` checks one large made table.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from steadynet.doctor.check import check_table
from steadynet.doctor.folds import out_of_fold
from steadynet.doctor.labels import suspects_of_classes, tempered
from steadynet.features.fit import fit_features
from steadynet.features.run import run_features
from steadynet.spec.model import Spec, TableSpec
from steadynet.table.convert import encode_target, to_columns
from steadynet.table.infer import infer_schema
from steadynet.table.read import read_with_findings
from steadynet.training.reference import tree_cells

ROOT = Path(__file__).resolve().parents[1]
TABLES = (
    ("telco_churn/telco_churn.csv", "Churn"),
    ("german_credit/german_credit.csv", "class"),
    ("bank_additional/bank_additional.csv", "y"),
    ("elec2/elec2.csv", "class"),
    ("diabetes_130/diabetes_130.parquet", "readmitted"),
    ("wine_quality/wine_quality.csv", "color"),
)


def labels(options: argparse.Namespace) -> None:
    """Print recall and precision for flipped labels, per table and seed."""
    print("| table | rows | seed | flipped | named | recall | precision | precision of first 50 |")
    print("|---|---|---|---|---|---|---|---|")
    for path, target in TABLES:
        spec = Spec(table=TableSpec(target=target))
        frame = read_with_findings(str(options.data / path), spec.table).frame
        for seed in range(options.seeds):
            random = np.random.default_rng(seed)
            some = frame[np.sort(random.permutation(frame.height)[: options.rows])]
            schema = infer_schema(some, spec.table, spec.split)
            columns, codes = to_columns(some, schema), encode_target(some, schema)
            features = fit_features(columns, schema)
            tensors = run_features(features, columns)
            cells, _ = tree_cells(tensors, columns, schema, features.layout)
            count, classes = len(codes), len(schema.target.classes)
            flipped = random.permutation(count)[: round(options.share * count)]
            wrong = codes.astype(np.int64).copy()
            wrong[flipped] = (wrong[flipped] + random.integers(1, classes, len(flipped))) % classes
            answers = out_of_fold(cells, wrong, np.arange(count), classes=classes)
            named = suspects_of_classes(tempered(answers, wrong), wrong)
            hits = np.isin(named, flipped)
            recall, precision = hits.sum() / len(flipped), hits.mean() if len(named) else 0.0
            first = hits[:50].mean() if len(named) else 0.0
            print(
                f"| {Path(path).stem} | {count} | {seed} | {len(flipped)} | {len(named)} "
                f"| {recall:.2f} | {precision:.2f} | {first:.2f} |",
                flush=True,
            )


def clean(options: argparse.Namespace) -> None:
    """Print how many of many clean tables got which warning or note."""
    told: Counter[str] = Counter()
    quiet = 0
    for seed in range(options.tables):
        report = check_table(made(seed, 1000, 6), Spec(table=TableSpec(target="y")))
        warnings = {symptom.code for symptom in report.symptoms if symptom.level != "note"}
        notes = {symptom.code for symptom in report.symptoms if symptom.level == "note"}
        told.update([f"warning {code}" for code in warnings] + [f"note {code}" for code in notes])
        quiet += not warnings
    print(f"{options.tables} clean tables of 1000 rows; without any warning: {quiet}")
    for what, count in told.most_common():
        print(f"  {what}: {count}")


def made(seed: int, rows: int, columns: int) -> pl.DataFrame:
    """Return a table with nothing wrong: numbers, categories, a noisy target of a random kind."""
    random = np.random.default_rng(seed)
    data: dict[str, np.ndarray] = {}
    score = np.zeros(rows)
    for place in range(columns):
        kind = int(random.integers(0, 4))
        weight = random.normal()
        if kind == 0:
            values = random.normal(size=rows)
        elif kind == 1:
            values = random.lognormal(2, 0.7, rows).round(2)
        elif kind == 2:
            values = random.poisson(4, rows).astype(float)
        else:
            codes = random.integers(0, int(random.integers(2, 9)), rows)
            data[f"c{place}"] = np.array([f"group {code}" for code in codes])
            score += weight * (codes % 3)
            continue
        data[f"c{place}"] = values
        score += weight * (values - values.mean()) / values.std()
    noise = random.normal(size=rows) * score.std() * random.uniform(0.3, 1.5)
    task = seed % 3
    if task == 0:
        data["y"] = (score + noise).round(3)
    elif task == 1:
        data["y"] = np.where(score + noise > np.quantile(score, 0.6), "yes", "no")
    else:
        cuts = np.quantile(score + noise, [0.3, 0.75])
        data["y"] = np.array(["low", "middle", "high"])[np.digitize(score + noise, cuts)]
    return pl.DataFrame(data)


def clock(options: argparse.Namespace) -> None:
    """Print how long the check of a large table takes, step by step."""
    frame = made(1, options.rows, options.columns)
    started = before = time.perf_counter()
    cpu = time.process_time()
    last = ""

    def tell(step: str) -> None:
        nonlocal before, last
        now = time.perf_counter()
        if last:
            print(f"{now - before:6.1f} s  {last}")
        before, last = now, step

    check_table(frame, Spec(table=TableSpec(target="y")), tell=tell)
    tell("")
    print(
        f"{options.rows} rows, {options.columns} columns: {time.perf_counter() - started:.1f} s, "
        f"{time.process_time() - cpu:.1f} s of the processor"
    )


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    which = parser.add_subparsers(required=True)
    flips = which.add_parser("labels")
    default = os.environ.get("STEADYNET_TEST_DATA", ROOT.parent / "shared" / "data")
    flips.add_argument("data", nargs="?", type=Path, default=Path(default))
    flips.add_argument("--seeds", type=int, default=3)
    flips.add_argument("--share", type=float, default=0.05)
    flips.add_argument("--rows", type=int, default=10_000)
    flips.set_defaults(run=labels)
    many = which.add_parser("clean")
    many.add_argument("--tables", type=int, default=200)
    many.set_defaults(run=clean)
    large = which.add_parser("time")
    large.add_argument("--rows", type=int, default=100_000)
    large.add_argument("--columns", type=int, default=20)
    large.set_defaults(run=clock)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
