"""`steadynet explain`: why a version answers as it does."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steadynet.errors import MissingDependency, UserError
from steadynet.files import write_atomic
from steadynet.home import Home

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl
    from rich.console import Console

    from steadynet.bundle.read import Bundle
    from steadynet.explain.answering import Columns, Run
    from steadynet.explain.importance import ColumnImportance, Dependence
    from steadynet.explain.shapley import Attribution
    from steadynet.spec.model import TableSpec
    from steadynet.table.schema import Schema

SHOWN = 8
"""Columns of a row that are named."""
DEPENDENCES = 3
IMPORTANCE_ROWS = 5000
BACKGROUND_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class _Explained:
    """What is said of a version and a table."""

    output: str
    importance: tuple[ColumnImportance, ...]
    dependence: tuple[Dependence, ...]
    rows: dict[int, tuple[Attribution, dict[str, str]]]
    """Row number → what its columns add, and what they hold."""
    costs: dict[str, _Cost]
    """What was done → what it cost: `importance`, `rows`, `pictures`."""
    pictures: tuple[Path, ...]


@dataclass(frozen=True)
class _Cost:
    """What an explanation takes of the graph."""

    answered: int
    """Rows that the graph answered."""
    seconds: float


class _Meter:
    """Runs a graph and counts. Invariant: `answered` is the sum over all costs taken so far."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._answered = 0
        self._since = time.perf_counter()

    def run(self, columns: Columns) -> dict[str, Any]:
        """Answer columns (N, 1) and count their rows."""
        self._answered += len(next(iter(columns.values())))
        return self._run(columns)

    def cost(self) -> _Cost:
        """Return the cost since the last time this was asked."""
        now = time.perf_counter()
        found = _Cost(self._answered, now - self._since)
        self._answered, self._since = 0, now
        return found


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the options ask for."""

    rows: tuple[int, ...]
    orders: int
    seed: int
    pictures: Path | None


def explain(
    model: Annotated[str, typer.Argument(help="name, name@alias, name/3 or a bundle's path.")],
    table: Annotated[Path, typer.Argument(help="A CSV or Parquet file.")],
    row: Annotated[
        list[int] | None, typer.Option(help="A row to explain, the first being 1; may be repeated.")
    ] = None,
    orders: Annotated[
        int,
        typer.Option(help="Orders to sample per row; four times as many halve the error."),
    ] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    pictures: Annotated[
        Path | None,
        typer.Option(help="A folder for pictures (SVG) of the version on these rows."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Say what a version needs its columns for, and what each adds to a row's answer.

    With the target in the table: the columns' importance and how answers go with the first of
    them. With --row: what each column adds to that row's answer (Shapley values of the served
    graph against rows of the table, with their standard errors). What each cost is said too.
    """
    from steadynet.cli.terminal import print_json, stdout

    asked = _Asked(rows=tuple(row or ()), orders=orders, seed=seed, pictures=pictures)
    found = _explain(model, table, asked)
    if as_json:
        print_json(_answer(found))
    else:
        _show(stdout(), found)


def _explain(model: str, path: Path, asked: _Asked) -> _Explained:
    import numpy as np

    from steadynet.cli.models import open_model
    from steadynet.explain.answering import score_of, take
    from steadynet.explain.illustrate import output_name
    from steadynet.explain.shapley import explain_row
    from steadynet.runtime.predictor import Predictor
    from steadynet.spec.model import TableSpec
    from steadynet.table.convert import to_columns
    from steadynet.table.labels import read_labelled

    _, bundle = open_model(Home.default(), model)
    schema = bundle.manifest.schema
    spec = TableSpec(target=schema.target.name, missing=schema.missing_spellings)
    frame = read_labelled(path, schema)
    columns = to_columns(frame, schema)
    meter = _Meter(Predictor(bundle).run)
    importance: tuple[ColumnImportance, ...] = ()
    shapes: tuple[Dependence, ...] = ()
    written: tuple[Path, ...] = ()
    costs: dict[str, _Cost] = {}
    if schema.target.name in frame.columns:
        labelled = _labelled(frame, spec, schema, asked.seed)
        importance, shapes = _needs(meter, schema, labelled, asked.seed)
        costs["importance"] = meter.cost()
        if asked.pictures is not None:
            written = _draw(asked, meter, bundle, labelled, importance)
            costs["pictures"] = meter.cost()
    elif not asked.rows or asked.pictures is not None:
        raise UserError(
            "there is nothing to explain" if not asked.rows else "there is nothing to draw",
            expected=f"the target {schema.target.name!r} in the table"
            + ("" if asked.rows else ", or --row"),
        )
    random = np.random.default_rng(asked.seed)
    background = take(columns, random.permutation(frame.height)[:BACKGROUND_ROWS])
    score, explained = score_of(meter.run, schema), {}
    for number in asked.rows:
        if not 1 <= number <= frame.height:
            raise UserError(
                "there is no such row", expected=f"1 to {frame.height}", got=str(number)
            )
        one = take(columns, np.array([number - 1]))
        cells = {name: str(frame[name][number - 1]) for name in one}
        found = explain_row(score, one, background, orders=asked.orders, seed=asked.seed)
        explained[number] = (found, cells)
    if explained:
        costs["rows"] = meter.cost()
    return _Explained(
        output=output_name(schema),
        importance=importance,
        dependence=shapes,
        rows=explained,
        costs=costs,
        pictures=written,
    )


def _labelled(
    frame: pl.DataFrame, spec: TableSpec, schema: Schema, seed: int
) -> tuple[Columns, npt.NDArray[Any]]:
    """Return the columns and the target of a sample of the rows that have one."""
    import numpy as np

    from steadynet.explain.answering import take
    from steadynet.table.convert import encode_target, to_columns
    from steadynet.table.target import drop_rows_without_target

    labelled, _ = drop_rows_without_target(frame, spec)
    chosen = np.random.default_rng(seed).permutation(labelled.height)[:IMPORTANCE_ROWS]
    return take(to_columns(labelled, schema), chosen), encode_target(labelled, schema)[chosen]


def _needs(
    meter: _Meter, schema: Schema, labelled: tuple[Columns, npt.NDArray[Any]], seed: int
) -> tuple[tuple[ColumnImportance, ...], tuple[Dependence, ...]]:
    from steadynet.cli.terminal import stderr
    from steadynet.explain.answering import score_of
    from steadynet.explain.importance import dependence, permutation_importance

    sample, target = labelled
    stderr().print("shuffling one column after the other", style="dim")
    importance = permutation_importance(meter.run, schema, sample, target, seed=seed)
    features = {column.name: column for column in schema.features}
    score = score_of(meter.run, schema)
    shapes = [dependence(score, features[item.column], sample) for item in importance[:DEPENDENCES]]
    return importance, tuple(shapes)


def _draw(
    asked: _Asked,
    meter: _Meter,
    bundle: Bundle,
    labelled: tuple[Columns, npt.NDArray[Any]],
    importance: tuple[ColumnImportance, ...],
) -> tuple[Path, ...]:
    """Write the pictures into the folder that was asked for; return their paths."""
    from steadynet.explain.illustrate import Shown, can_draw, illustrate

    folder, manifest = asked.pictures, bundle.manifest
    if folder is None:
        return ()
    if not can_draw():
        raise MissingDependency("matplotlib", "train")
    sample, target = labelled
    shown = Shown(
        schema=manifest.schema,
        columns=sample,
        target=target,
        answers=meter.run(sample),
        threshold=manifest.decision_threshold,
    )
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in illustrate(meter.run, shown, importance, seed=asked.seed):
            path = folder / f"{picture.name}.svg"
            write_atomic(path, picture.svg)
            written.append(path)
    except OSError as error:
        raise UserError(f"{folder} cannot be written", got=error.strerror) from error
    return tuple(written)


def _answer(found: _Explained) -> dict[str, Any]:
    return {
        "output": found.output,
        "importance": found.importance,
        "dependence": found.dependence,
        "costs": {name: asdict(cost) for name, cost in found.costs.items()},
        "pictures": [str(path) for path in found.pictures],
        "rows": [
            {"row": number, "attribution": attribution}
            for number, (attribution, _) in found.rows.items()
        ],
    }


def _show(console: Console, found: _Explained) -> None:
    from rich.table import Table

    if found.importance:
        table = Table(box=None, header_style="dim", padding=(0, 2))
        for title in ("column", "loss without it", "±"):
            table.add_column(title, justify="left" if title == "column" else "right")
        for item in found.importance:
            table.add_row(item.column, f"{item.loss:+.5f}", f"{2 * item.error:.5f}")
        console.print(table)
        console.print("[dim]rise of the loss where it is shuffled; ± two standard errors[/]")
    for shape in found.dependence:
        console.print(f"\n{found.output}, as it goes with {shape.column}", markup=False)
        table = Table(box=None, header_style="dim", padding=(0, 2))
        for title in (shape.column, "mean", "lowest tenth", "highest tenth", "rows"):
            table.add_column(title, justify="right")
        lines = zip(shape.values, shape.mean, shape.low, shape.high, shape.share, strict=True)
        for value, mean, low, high, share in lines:
            table.add_row(value, f"{mean:.4g}", f"{low:.4g}", f"{high:.4g}", f"{share:.0%}")
        console.print(table)
    for number, (attribution, cells) in found.rows.items():
        _show_row(console, found.output, number, attribution, cells)
    for path in found.pictures:
        console.print(f"picture  {path}", markup=False)
    spent = ", ".join(
        f"{name} {cost.answered} rows answered in {cost.seconds:.1f} s"
        for name, cost in found.costs.items()
    )
    console.print(f"cost  {spent}", markup=False, style="dim", highlight=False)


def _show_row(
    console: Console, output: str, number: int, found: Attribution, cells: dict[str, str]
) -> None:
    from rich.table import Table

    console.print(
        f"\nrow {number}: {output} {found.answer:.4g}, {found.baseline:.4g} on average",
        markup=False,
    )
    table = Table(box=None, show_header=False, padding=(0, 2))
    order = sorted(range(len(found.values)), key=lambda place: -abs(found.values[place]))
    for place in order[:SHOWN]:
        name = found.columns[place]
        error = f"± {2 * found.errors[place]:.2g}"
        table.add_row(f"{found.values[place]:+.4g}", error, f"{name} = {cells[name]}")
    rest = sum(found.values[place] for place in order[SHOWN:])
    if order[SHOWN:]:
        table.add_row(f"{rest:+.4g}", "", f"{len(order) - SHOWN} other columns")
    console.print(table, markup=False)
