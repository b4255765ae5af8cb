"""`steadynet check`: what is wrong with a table, which rows show it, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steadynet.errors import MissingDependency, TableError

if TYPE_CHECKING:
    from rich.console import Console

    from steadynet.doctor.report import Report, Symptom

ROWS_SHOWN = 10


def check(
    table: Annotated[Path, typer.Argument(help="A CSV or Parquet file.")],
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target", help="The column to predict; may be repeated, the first being the main one."
        ),
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="The spec, for its [table].")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="A column to leave out.")] = None,
    time_column: Annotated[
        str | None, typer.Option(help="Split in the order of this column.")
    ] = None,
    group_column: Annotated[
        str | None, typer.Option(help="Keep rows with one value of this column together.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Another table of the same columns, as newer rows.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="End with an error for warnings too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Look for what harms a model: wrong labels, leaks, duplicates, shifts, odd columns.

    Rows are numbered as in the file, the first row of data being 1. Exit code 2 where training
    would refuse the table, and with --strict where there is any warning.
    """
    from steadynet.cli.terminal import print_json, stderr, stdout
    from steadynet.cli.train import targets_given
    from steadynet.spec.load import load_spec

    try:
        from steadynet.doctor.check import check_table
    except ModuleNotFoundError as error:
        raise MissingDependency(error.name or "sklearn", "train") from error

    given = {
        **targets_given(target),
        "table.drop": drop or None,
        "split.time_column": time_column,
        "split.group_column": group_column,
    }
    chosen = load_spec(spec, {key: value for key, value in given.items() if value is not None})
    report = check_table(
        table,
        chosen,
        compare=compare,
        tell=lambda step: stderr().print(step, style="dim", markup=False),
    )
    if as_json:
        print_json(report)
    else:
        _show(stdout(), report)
    bad = {"error", "warning"} if strict else {"error"}
    if any(symptom.level in bad for symptom in report.symptoms):
        raise typer.Exit(TableError.exit_code)


def _show(console: Console, report: Report) -> None:
    """Print what was found, the most harmful first."""
    levels = [symptom.level for symptom in report.symptoms]
    told = [(levels.count(level), level) for level in ("error", "warning", "note")]
    counts = ", ".join(f"{count} {level}{'s' * (count != 1)}" for count, level in told)
    console.print(
        f"{report.rows} rows, {report.columns} columns; {report.task} of {report.target!r}\n"
        + (counts if levels else "nothing found"),
        markup=False,
    )
    if report.sampled:
        console.print(
            f"every row was looked at, by trees fitted on {report.sampled} rows each", markup=False
        )
    alike: dict[str, list[Symptom]] = {}
    for symptom in report.symptoms:
        alike.setdefault(_kind_of(symptom), []).append(symptom)
    for symptoms in alike.values():
        _show_alike(console, symptoms)


def _kind_of(symptom: Symptom) -> str:
    """Return what is said, whatever column it is said of."""
    said = symptom.message
    if symptom.column is not None and not symptom.rows:
        said = said.replace(repr(symptom.column), "", 1)
    return f"{symptom.level} {symptom.code} {said}"


def _show_alike(console: Console, symptoms: list[Symptom]) -> None:
    """Print one symptom, or once what is said of several columns."""
    first = symptoms[0]
    message = first.message
    if len(symptoms) > 1:
        columns = ", ".join(repr(symptom.column) for symptom in symptoms)
        message = f"{columns}: each {message.replace(repr(first.column), '', 1).strip()}"
    console.print(f"\n{first.level}  {message}", markup=False)
    if first.rows:
        shown = ", ".join(str(row) for row in first.rows[:ROWS_SHOWN])
        more = first.count - min(len(first.rows), ROWS_SHOWN)
        tail = f" and {more} more (--json names {len(first.rows)})" if more > 0 else ""
        console.print(f"  rows {shown}{tail}", markup=False)
    if first.do:
        console.print(f"  {first.do}", markup=False)
