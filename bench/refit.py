"""What a second fit with the validation part brings: `python bench/refit.py --data FOLDER`.

Each table is fitted with and without it, by the order of its rows and at random, and measured on
the same test part, which neither fit has seen.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl
from rich.console import Console
from rich.table import Table

from steadynet.home import Home
from steadynet.spec.model import Spec
from steadynet.training.run import Trained, train

ORDER = "row_number"
"""The column that rows are cut in the order of."""
CASES = {
    "bank_additional": ("y", ("duration",)),
    "elec2": ("class", ("date",)),
    "bike_sharing_hour": ("cnt", ("casual", "registered", "instant")),
}
"""Table → target, and columns that leak or count the rows."""


def fit(table: pl.DataFrame, name: str, order: str | None, refit: str, seed: int) -> Trained:
    """Train once."""
    target, dropped = CASES[name]
    spec = msgspec.convert(
        {
            "table": {"target": target, "drop": [one for one in dropped if one in table.columns]},
            "split": {"time_column": order} if order else {},
            "training": {"refit": refit, "seed": seed, "pictures": False},
        },
        Spec,
    )
    with tempfile.TemporaryDirectory() as folder:
        return train(table, spec, home=Home(Path(folder)), name="m", resume=False)


def measure(data: Path, names: Sequence[str], seeds: int) -> Table:
    """Return a row for each table, order and seed."""
    shown = Table("table", "rows in", "seed", "metric", "without", "with", "fit s", "with, s")
    for name in names:
        (file,) = (data / name).glob(f"{name}.*")
        table = (pl.read_parquet if file.suffix == ".parquet" else pl.read_csv)(file)
        for order in (ORDER, None):
            rows = table.with_row_index(ORDER) if order else table
            for seed in range(seeds):
                pair = [fit(rows, name, order, each, seed) for each in ("never", "always")]
                metric = "auc" if "auc" in pair[0].manifest.metrics["test"] else "rmse"
                values = [f"{one.manifest.metrics['test'][metric].value:.4f}" for one in pair]
                seconds = [f"{one.fit_seconds:.1f}" for one in pair]
                shown.add_row(
                    name, "time" if order else "random", str(seed), metric, *values, *seconds
                )
    return shown


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    Console().print(measure(options.data, options.tables, options.seeds))


if __name__ == "__main__":
    main()
