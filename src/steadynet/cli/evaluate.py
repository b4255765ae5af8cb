"""`steadynet evaluate`: a version's metrics on a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steadynet.home import Home


def evaluate(
    model: Annotated[str, typer.Argument(help="name, name@alias, name/3 or a bundle's path.")],
    table: Annotated[Path, typer.Argument(help="A CSV or Parquet file with the target.")],
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Print a version's metrics on a table, with 95 % intervals.

    Rows without a target are left out and counted. The columns must be those of training.
    """
    from rich.table import Table

    from steadynet.bundle.uncertainty_words import floor_words
    from steadynet.cli.models import open_model
    from steadynet.cli.scoring import score
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.runtime.ece_floor import ece_floor
    from steadynet.runtime.metrics import with_intervals
    from steadynet.spec.model import TableSpec
    from steadynet.table.convert import encode_target
    from steadynet.table.read import read_table
    from steadynet.table.target import drop_rows_without_target

    version, bundle = open_model(Home.default(), model)
    schema = bundle.manifest.schema
    spec = TableSpec(target=schema.target.name, missing=schema.missing_spellings)
    frame, without = drop_rows_without_target(read_table(table, spec), spec)
    answers = score(bundle, frame)
    threshold = bundle.manifest.decision_threshold
    intervals = with_intervals(
        encode_target(frame, schema),
        answers["probabilities" if schema.target.classes else "prediction"],
        schema.target.classes,
        decision_threshold=0.5 if threshold is None else threshold,
    )
    floor = None
    if schema.target.classes:
        floor = ece_floor(answers["probabilities"], intervals["ece"].value)
    if as_json:
        print_json(
            {
                "model": version.name,
                "version": version.version,
                "rows": frame.height,
                "rows_without_target": without,
                "metrics": {name: item.value for name, item in intervals.items()},
                "intervals": {name: [item.low, item.high] for name, item in intervals.items()},
                "ece_floor": floor,
            }
        )
        return
    shown = Table("metric", "value", "95 % interval", box=None, header_style="dim")
    for name, item in intervals.items():
        shown.add_row(name, f"{item.value:.4f}", f"{item.low:.4f} … {item.high:.4f}")
    console = stdout()
    console.print(
        f"[bold]{version.name}[/] version {version.version} on {table.name}: {frame.height} rows"
    )
    console.print(shown)
    if floor is not None:
        console.print(floor_words(floor, intervals["ece"].value), markup=False, highlight=False)
    if without:
        console.print(f"{without} rows without a target were left out", markup=False)
