"""`steadynet explain`: why a version answers as it does."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steadynet.cli.explanation import (
    DEFAULT_ORDERS,
    MOST_ORDERS,
    Asked,
    Explained,
    Needs,
    explain_table,
)
from steadynet.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from steadynet.explain.shapley import Attribution

SHOWN = 8
"""Columns of a row that are named."""


def explain(
    model: Annotated[str, typer.Argument(help="name, name@alias, name/3 or a bundle's path.")],
    table: Annotated[Path, typer.Argument(help="A CSV or Parquet file.")],
    row: Annotated[
        list[int] | None, typer.Option(help="A row to explain, the first being 1; may be repeated.")
    ] = None,
    orders: Annotated[
        int | None,
        typer.Option(
            help="Orders to sample per row; four times as many halve the error. 200 unless set, "
            "with --time-limit as many as fit."
        ),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(help="As many rows, shuffles and orders as fit in 90s, 5m or 1h."),
    ] = None,
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
    graph against rows of the table, with their standard errors). What each cost is said too. With
    --time-limit it takes as long as it is given, but for reading the version and the table where
    that lasts longer, and the errors say what came of it.
    """
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.cli.train import seconds_of

    began = time.perf_counter()
    if time_limit is not None and pictures is not None:
        raise UserError(
            "--pictures take the time that they take",
            expected="no --time-limit beside it",
            do="Leave one of them out.",
        )
    usual = DEFAULT_ORDERS if time_limit is None else MOST_ORDERS
    asked = Asked(
        rows=tuple(row or ()),
        orders=usual if orders is None else orders,
        seed=seed,
        pictures=pictures,
        limit_s=None if time_limit is None else seconds_of(time_limit),
        began=began,
    )
    found = explain_table(model, table, asked)
    if as_json:
        print_json(_answer(found))
    else:
        _show(stdout(), found)


def _answer(found: Explained) -> dict[str, Any]:
    needs = found.needs
    return {
        "output": found.output,
        "importance": () if needs is None else needs.importance,
        "importance_rows": 0 if needs is None else needs.rows,
        "importance_shuffles": 0.0 if needs is None else needs.shuffles,
        "dependence": () if needs is None else needs.dependence,
        "costs": {name: asdict(cost) for name, cost in found.costs.items()},
        "pictures": [str(path) for path in found.pictures],
        "rows": [
            {"row": number, "attribution": attribution}
            for number, (attribution, _) in found.rows.items()
        ],
    }


def _show(console: Console, found: Explained) -> None:
    if found.needs is not None:
        _show_needs(console, found.output, found.needs)
    for number, (attribution, cells) in found.rows.items():
        _show_row(console, found.output, number, attribution, cells)
    for path in found.pictures:
        console.print(f"picture  {path}", markup=False)
    spent = ", ".join(
        f"{name} {cost.answered} rows answered in {cost.seconds:.1f} s"
        for name, cost in found.costs.items()
    )
    console.print(f"cost  {spent}", markup=False, style="dim", highlight=False)


def _show_needs(console: Console, output: str, needs: Needs) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2))
    for title in ("column", "loss without it", "±"):
        table.add_column(title, justify="left" if title == "column" else "right")
    for item in needs.importance:
        table.add_row(item.column, f"{item.loss:+.5f}", f"{2 * item.error:.5f}")
    console.print(table)
    console.print(
        f"[dim]rise of the loss where it is shuffled, on {needs.rows} rows, {needs.shuffles:.3g} "
        "times each; ± two standard errors[/]"
    )
    for shape in needs.dependence:
        console.print(f"\n{output}, as it goes with {shape.column}", markup=False)
        table = Table(box=None, header_style="dim", padding=(0, 2))
        for title in (shape.column, "mean", "lowest tenth", "highest tenth", "rows"):
            table.add_column(title, justify="right")
        lines = zip(shape.values, shape.mean, shape.low, shape.high, shape.share, strict=True)
        for value, mean, low, high, share in lines:
            table.add_row(value, f"{mean:.4g}", f"{low:.4g}", f"{high:.4g}", f"{share:.0%}")
        console.print(table)


def _show_row(
    console: Console, output: str, number: int, found: Attribution, cells: dict[str, str]
) -> None:
    from rich.table import Table

    console.print(
        f"\nrow {number}: {output} {found.answer:.4g}, {found.baseline:.4g} on average "
        f"({found.orders} orders)",
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
