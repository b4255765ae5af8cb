"""`steadynet check`: what is wrong with a table, which rows show it, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steadynet.errors import MissingDependency, TableError

ROWS_SHOWN = 10


def check(
    table: Annotated[Path, typer.Argument(help="A CSV or Parquet file.")],
    target: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    spec: Annotated[Path | None, typer.Option(help="The spec, for its [table].")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="A column to leave out.")] = None,
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
    from steadynet.spec.load import load_spec

    try:
        from steadynet.doctor.check import check_table
    except ModuleNotFoundError as error:
        raise MissingDependency(error.name or "sklearn", "train") from error

    given = {"table.target": target, "table.drop": drop or None}
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
        console = stdout()
        console.print(
            f"{report.rows} rows, {report.columns} columns; {report.task} of {report.target!r}",
            markup=False,
        )
        if report.sampled:
            console.print(f"the costly checks looked at {report.sampled} rows", markup=False)
        if not report.symptoms:
            console.print("nothing found", markup=False)
        for symptom in report.symptoms:
            console.print(f"\n{symptom.level}  {symptom.message}", markup=False)
            if symptom.rows:
                shown = ", ".join(str(row) for row in symptom.rows[:ROWS_SHOWN])
                more = symptom.count - min(len(symptom.rows), ROWS_SHOWN)
                tail = f" and {more} more" if more > 0 else ""
                console.print(f"  rows {shown}{tail}", markup=False)
            if symptom.do:
                console.print(f"  {symptom.do}", markup=False)
    bad = {"error", "warning"} if strict else {"error"}
    if any(symptom.level in bad for symptom in report.symptoms):
        raise typer.Exit(TableError.exit_code)
