"""`steadynet explain`: why a version answers as it does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steadynet.errors import UserError
from steadynet.home import Home

if TYPE_CHECKING:
    from rich.console import Console

    from steadynet.explain.importance import ColumnImportance, Dependence
    from steadynet.explain.shapley import Attribution

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
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Say what a version needs its columns for, and what each adds to a row's answer.

    With the target in the table: the columns' importance and how answers go with the first of
    them. With --row: what each column adds to that row's answer (Shapley values of the served
    graph against rows of the table, with their standard errors).
    """
    from steadynet.cli.terminal import print_json, stdout

    found = _explain(model, table, tuple(row or ()), orders, seed)
    if as_json:
        print_json(_answer(found))
    else:
        _show(stdout(), found)


def _explain(model: str, path: Path, rows: tuple[int, ...], orders: int, seed: int) -> _Explained:
    import numpy as np

    from steadynet.cli.models import open_model
    from steadynet.cli.terminal import stderr
    from steadynet.explain.answering import score_of, take
    from steadynet.explain.importance import dependence, permutation_importance
    from steadynet.explain.shapley import explain_row
    from steadynet.runtime.predictor import Predictor
    from steadynet.spec.model import TableSpec
    from steadynet.table.convert import encode_target, to_columns
    from steadynet.table.read import read_table
    from steadynet.table.target import drop_rows_without_target

    _, bundle = open_model(Home.default(), model)
    schema = bundle.manifest.schema
    spec = TableSpec(target=schema.target.name, missing=schema.missing_spellings)
    frame = read_table(path, spec)
    columns, predictor = to_columns(frame, schema), Predictor(bundle)
    random = np.random.default_rng(seed)
    place = None
    score = score_of(predictor.run, schema, place)
    importance: tuple[ColumnImportance, ...] = ()
    shapes: tuple[Dependence, ...] = ()
    if schema.target.name in frame.columns:
        labelled, _ = drop_rows_without_target(frame, spec)
        chosen = random.permutation(labelled.height)[:IMPORTANCE_ROWS]
        target = encode_target(labelled, schema)[chosen]
        sample = take(to_columns(labelled, schema), chosen)
        stderr().print("shuffling one column after the other", style="dim")
        importance = permutation_importance(predictor.run, schema, sample, target, seed=seed)
        features = {column.name: column for column in schema.features}
        shapes = tuple(
            dependence(score, features[item.column], sample) for item in importance[:DEPENDENCES]
        )
    elif not rows:
        raise UserError(
            "there is nothing to explain",
            expected=f"the target {schema.target.name!r} in the table, or --row",
        )
    background = take(columns, random.permutation(frame.height)[:BACKGROUND_ROWS])
    explained = {}
    for number in rows:
        if not 1 <= number <= frame.height:
            raise UserError(
                "there is no such row", expected=f"1 to {frame.height}", got=str(number)
            )
        one = take(columns, np.array([number - 1]))
        cells = {name: str(frame[name][number - 1]) for name in one}
        explained[number] = (explain_row(score, one, background, orders=orders, seed=seed), cells)
    output = schema.target.name
    if schema.target.classes:
        output = f"probability of {schema.target.classes[-1]}"
    return _Explained(output=output, importance=importance, dependence=shapes, rows=explained)


def _answer(found: _Explained) -> dict[str, Any]:
    return {
        "output": found.output,
        "importance": found.importance,
        "dependence": found.dependence,
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
        console.print("[dim]rise of the loss where the column is shuffled[/]")
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
