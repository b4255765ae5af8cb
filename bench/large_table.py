"""Write a large table of mixed kinds: `python bench/large_table.py ROWS OUT.parquet`.

24 numbers (some with gaps, some skewed) and 6 categories of 2 to 5000 names, from which a target of
two classes follows with noise; the best AUC that there is, by the true probabilities, is printed.
Written in parts, so that it takes little memory. To train on it and to see what that takes:

    /usr/bin/time -v steadynet train OUT.parquet --target label --time-limit 6m
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PART_ROWS = 500_000
NUMBERS = 24
CARDINALITIES = (2, 8, 40, 200, 1000, 5000)


def part(rows: int, random: np.random.Generator, effects: list[np.ndarray]) -> dict[str, object]:
    """Return the columns of some rows, with the probability that each row's label is from."""
    numbers = random.normal(size=(rows, NUMBERS)).astype(np.float32)
    logit = 0.8 * np.sin(2 * numbers[:, 0]) + 0.5 * numbers[:, 1] * numbers[:, 2]
    logit += 0.4 * numbers[:, 3:8].sum(axis=1) * 0.5 + 0.3 * (np.abs(numbers[:, 8]) > 1)
    columns: dict[str, object] = {}
    for place in range(NUMBERS):
        values = numbers[:, place]
        if place % 5 == 4:
            values = np.exp(values)
        if place % 6 == 5:
            values = np.where(random.random(rows) < 0.05, np.float32("nan"), values)
        columns[f"number_{place:02}"] = values.astype(np.float32)
    for count, effect in zip(CARDINALITIES, effects, strict=True):
        # Few names are frequent and many are rare, as in real columns.
        entries = (count * random.random(rows) ** 2).astype(np.int64)
        logit += effect[entries]
        names = pa.array([f"c{entry:04}" for entry in range(count)])
        columns[f"category_{count}"] = names.take(pa.array(entries))
    probability = 1 / (1 + np.exp(-logit))
    drawn = random.random(rows) < probability
    columns["label"] = pa.array(np.where(drawn, "yes", "no"))
    columns["probability"] = probability
    return columns


def main() -> None:
    """Write the table and print the AUC of the true probabilities on its last part."""
    rows, path = int(sys.argv[1].replace("_", "")), Path(sys.argv[2])
    random = np.random.default_rng(0)
    effects = [random.normal(size=count) * 0.5 for count in CARDINALITIES]
    writer = None
    for start in range(0, rows, PART_ROWS):
        columns = part(min(PART_ROWS, rows - start), random, effects)
        truth = columns.pop("probability")
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    assert writer is not None
    writer.close()
    ranks = np.argsort(np.argsort(truth))
    hits = np.asarray(columns["label"]) == "yes"
    area = (ranks[hits].sum() - hits.sum() * (hits.sum() - 1) / 2) / (hits.sum() * (~hits).sum())
    print(f"{rows} rows in {path}, {path.stat().st_size / 1e6:.0f} MB; best AUC {area:.4f}")


if __name__ == "__main__":
    main()
