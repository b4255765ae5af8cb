"""`steadynet evaluate`: a version's metrics on a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steadynet.errors import TableError
from steadynet.home import Home

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from steadynet.bundle.manifest import Covered, EceFloor, Interval, Manifest
    from steadynet.cli.scoring import Answers
    from steadynet.table.schema import Target


@dataclass(frozen=True, kw_only=True)
class _Evaluated:
    """What a version's answers to one target are worth on a table."""

    target: str
    rows: int
    """Rows that have a value of it."""
    metrics: dict[str, Interval]
    ece_floor: EceFloor | None
    covered: Covered | None

    def answer(self) -> dict[str, Any]:
        """Return what `--json` says of it."""
        return {
            "metrics": {name: item.value for name, item in self.metrics.items()},
            "intervals": {name: [item.low, item.high] for name, item in self.metrics.items()},
            "ece_floor": self.ece_floor,
            "covered": self.covered,
        }


def evaluate(
    model: Annotated[str, typer.Argument(help="name, name@alias, name/3 or a bundle's path.")],
    table: Annotated[Path, typer.Argument(help="A CSV or Parquet file with the target.")],
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Print a version's metrics on a table, with 95 % intervals.

    Rows without a target are left out and counted. The columns must be those of training; a
    further target that the table lacks is left out. Where the targets are labels of one column, it
    is split as in training, and rows with labels that training has not seen are counted.
    """
    from steadynet.cli.models import open_model
    from steadynet.cli.scoring import score
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.spec.model import TableSpec
    from steadynet.table.labels import new_labels, read_labelled
    from steadynet.table.target import drop_rows_without_target

    version, bundle = open_model(Home.default(), model)
    schema = bundle.manifest.schema
    spec = TableSpec(target=schema.target.name, missing=schema.missing_spellings)
    frame, without = drop_rows_without_target(read_labelled(table, schema), spec)
    new, strange = new_labels(frame, schema)
    answers = score(bundle, frame)
    main, *more = (
        _evaluate(bundle.manifest, target, frame, answers)
        for target in schema.targets
        if target.name in frame.columns
    )
    if as_json:
        print_json(
            {
                "model": version.name,
                "version": version.version,
                "rows": frame.height,
                "rows_without_target": without,
                **({"rows_with_new_labels": strange} if schema.target.labels else {}),
                **main.answer(),
                "more_targets": {
                    item.target: {"rows": item.rows, **item.answer()} for item in more
                },
            }
        )
        return
    console = stdout()
    console.print(
        f"[bold]{version.name}[/] version {version.version} on {table.name}: {frame.height} rows"
    )
    for found in (main, *more):
        if schema.more_targets:
            console.print(f"\n{found.target}: {found.rows} rows", markup=False, highlight=False)
        _show(console, found)
    if strange:
        console.print(f"{strange} rows have labels that training has not seen ({new} in all)")
    if without:
        console.print(f"{without} rows without a target were left out", markup=False)


def _evaluate(
    manifest: Manifest, target: Target, frame: pl.DataFrame, answers: Answers
) -> _Evaluated:
    from steadynet.runtime.coverage import coverage_of
    from steadynet.runtime.ece_floor import ece_floor
    from steadynet.runtime.loss_metrics import MetricOptions
    from steadynet.runtime.metrics import with_intervals
    from steadynet.table.convert import encode_known_target
    from steadynet.table.schema import answers_about
    from steadynet.table.weights import read_weights

    about = manifest.about(target)
    truth = encode_known_target(frame, about.schema)
    if len(truth.rows) == 0:
        raise TableError(f"the further target {target.name!r} has no value in any row")
    values = truth.values[truth.rows]
    own = {
        name: output[truth.rows]
        for name, output in answers_about(answers, manifest.schema, target).items()
    }
    threshold = about.decision_threshold
    counted = manifest.weight_column if manifest.weight_column in frame.columns else None
    weights = None
    if counted is not None:
        weights = read_weights(frame, counted, manifest.schema.missing_spellings)[truth.rows]
    metrics = with_intervals(
        values,
        own["probabilities" if target.classes else "prediction"],
        target.classes,
        decision_threshold=0.5 if threshold is None else threshold,
        options=MetricOptions(loss=about.loss, ordered=target.ordered),
        weights=weights,
    )
    promised = about.covered
    floor = ece_floor(own["probabilities"], metrics["ece"].value) if target.classes else None
    return _Evaluated(
        target=target.name,
        rows=len(values),
        metrics=metrics,
        ece_floor=floor,
        covered=None
        if promised is None
        else coverage_of(values, own, method=promised.method, promised=promised.promised),
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
