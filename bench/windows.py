"""What expanding windows bring to a table split by time: `python bench/windows.py --data FOLDER`.

Each table is fitted with one block (the validation part) and with several, and fitted once more on
everything as by default. All are measured on the same test part, which no fit has seen.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl
from refit import CASES, ORDER
from rich.console import Console
from rich.table import Table

from steadynet.home import Home
from steadynet.spec.model import Spec
from steadynet.training.run import Trained, train


def fit(table: pl.DataFrame, name: str, folds: int, seed: int) -> Trained:
    """Train once, by the order of rows."""
    target, dropped = CASES[name]
    spec = msgspec.convert(
        {
            "table": {"target": target, "drop": [one for one in dropped if one in table.columns]},
            "split": {"time_column": ORDER},
            "training": {"folds": folds, "seed": seed, "pictures": False},
        },
        Spec,
    )
    with tempfile.TemporaryDirectory() as folder:
        return train(table, spec, home=Home(Path(folder)), name="m", resume=False)


def told(trained: Trained) -> tuple[str, str, str]:
    """Return the metric people watch, what calibration is judged by, and the trees' weight."""
    metrics, covered = trained.manifest.metrics["test"], trained.manifest.covered
    weight = next((share.weight for share in trained.shares if share.name == "trees"), 0.0)
    if covered is None:
        first = f"AUC {metrics['auc'].value:.4f}"
        second = f"log-loss {metrics['log_loss'].value:.4f}, ECE {metrics['ece'].value:.3f}"
    else:
        first = f"RMSE {metrics['rmse'].value:.2f}"
        second = (
            f"covered {covered.measured.value:.3f} of {covered.promised:g}, "
            f"width {covered.size.value:.1f}"
        )
    return first, second, f"{weight:.2f}"


def measure(data: Path, names: Sequence[str], folds: Sequence[int], seeds: int) -> Table:
    """Return a row for each table, seed and number of blocks."""
    shown = Table("table", "seed", "blocks", "metric", "calibration", "trees", "fit s")
    for name in names:
        (file,) = (data / name).glob(f"{name}.*")
        table = (pl.read_parquet if file.suffix == ".parquet" else pl.read_csv)(file)
        rows = table.with_row_index(ORDER)
        for seed in range(seeds):
            for blocks in folds:
                trained = fit(rows, name, blocks, seed)
                seconds = f"{trained.fit_seconds:.1f}"
                shown.add_row(name, str(seed), str(blocks), *told(trained), seconds)
    return shown


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--folds", nargs="+", type=int, default=(1, 3, 5))
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    Console(width=120).print(measure(options.data, options.tables, options.folds, options.seeds))


if __name__ == "__main__":
    main()
