"""`steadynet evaluate`: a version's metrics on a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steadynet.home import Home

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from steadynet.bundle.manifest import Covered, EceFloor, Interval
    from steadynet.bundle.read import Bundle


@dataclass(frozen=True, kw_only=True)
class _Evaluated:
    """What a version's answers are worth on a table."""

    metrics: dict[str, Interval]
    ece_floor: EceFloor | None
    covered: Covered | None


def evaluate(
    model: Annotated[str, typer.Argument(help="name, name@alias, name/3 or a bundle's path.")],
    table: Annotated[Path, typer.Argument(help="A CSV or Parquet file with the target.")],
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Print a version's metrics on a table, with 95 % intervals.

    Rows without a target are left out and counted. The columns must be those of training.
    """
    from steadynet.cli.models import open_model
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.spec.model import TableSpec
    from steadynet.table.read import read_table
    from steadynet.table.target import drop_rows_without_target

    version, bundle = open_model(Home.default(), model)
    schema = bundle.manifest.schema
    spec = TableSpec(target=schema.target.name, missing=schema.missing_spellings)
    frame, without = drop_rows_without_target(read_table(table, spec), spec)
    found = _evaluate(bundle, frame)
    if as_json:
        print_json(
            {
                "model": version.name,
                "version": version.version,
                "rows": frame.height,
                "rows_without_target": without,
                "metrics": {name: item.value for name, item in found.metrics.items()},
                "intervals": {name: [item.low, item.high] for name, item in found.metrics.items()},
                "ece_floor": found.ece_floor,
                "covered": found.covered,
            }
        )
        return
    console = stdout()
    console.print(
        f"[bold]{version.name}[/] version {version.version} on {table.name}: {frame.height} rows"
    )
    _show(console, found)
    if without:
        console.print(f"{without} rows without a target were left out", markup=False)


def _evaluate(bundle: Bundle, frame: pl.DataFrame) -> _Evaluated:
    from steadynet.cli.scoring import score
    from steadynet.runtime.coverage import coverage_of
    from steadynet.runtime.ece_floor import ece_floor
    from steadynet.runtime.loss_metrics import MetricOptions
    from steadynet.runtime.metrics import with_intervals
    from steadynet.table.convert import encode_target

    manifest = bundle.manifest
    classes, threshold = manifest.schema.target.classes, manifest.decision_threshold
    target, answers = encode_target(frame, manifest.schema), score(bundle, frame)
    metrics = with_intervals(
        target,
        answers["probabilities" if classes else "prediction"],
        classes,
        decision_threshold=0.5 if threshold is None else threshold,
        options=MetricOptions(loss=manifest.loss, ordered=manifest.schema.target.ordered),
    )
    promised = manifest.covered
    return _Evaluated(
        metrics=metrics,
        ece_floor=ece_floor(answers["probabilities"], metrics["ece"].value) if classes else None,
        covered=None
        if promised is None
        else coverage_of(target, answers, method=promised.method, promised=promised.promised),
    )


def _show(console: Console, found: _Evaluated) -> None:
    from rich.table import Table

    from steadynet.bundle.uncertainty_words import covered_words, floor_words

    shown = Table("metric", "value", "95 % interval", box=None, header_style="dim")
    for name, item in found.metrics.items():
        shown.add_row(name, f"{item.value:.4f}", f"{item.low:.4f} … {item.high:.4f}")
    console.print(shown)
    if found.ece_floor is not None:
        words = floor_words(found.ece_floor, found.metrics["ece"].value)
        console.print(words, markup=False, highlight=False)
    if found.covered is not None:
        console.print(covered_words(found.covered), markup=False, highlight=False)
