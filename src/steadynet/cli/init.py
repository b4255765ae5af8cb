"""`steadynet init`: write steadynet.toml with what was found in a table, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from steadynet.spec.model import Spec
    from steadynet.table.findings import Finding
    from steadynet.table.schema import Schema

SPEC = Path("steadynet.toml")


def init(
    table: Annotated[Path, typer.Argument(help="A CSV or Parquet file.")],
    target: Annotated[
        list[str],
        typer.Option(
            "--target", help="The column to predict; may be repeated, the first being the main one."
        ),
    ],
    task: Annotated[
        str | None, typer.Option("--task", help="binary, multiclass or regression.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", help="A column to leave out; may be repeated.")
    ] = None,
    labels_separator: Annotated[
        str | None,
        typer.Option("--labels-separator", help='What stands between labels of a row, as "|".'),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The model's name.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write it.")] = SPEC,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write steadynet.toml for a table: every key, what was found in the table, and why."""
    from steadynet.cli.terminal import show_findings, stderr, stdout
    from steadynet.cli.train import targets_given
    from steadynet.errors import UserError
    from steadynet.files import write_atomic
    from steadynet.spec.load import load_spec
    from steadynet.spec.write import render_spec
    from steadynet.table.explain import explain

    if output.exists() and not force:
        raise UserError(f"{output} exists already", do="Add --force to overwrite it.")
    spec = load_spec(
        None,
        {
            "name": name or table.stem,
            **targets_given(target),
            **({"table.task": task} if task else {}),
            **({"table.drop": drop} if drop else {}),
            **({"table.labels_separator": labels_separator} if labels_separator else {}),
        },
    )
    found = _look(table, spec)
    write_atomic(output, render_spec(spec, explain(found.schema, found.findings)).encode())
    show_findings(stderr(), found.findings)
    console, schema = stdout(), found.schema
    left_out = len(schema.left_out)
    console.print(
        f"[bold]{output}[/] written: {found.rows} rows, {len(schema.features)} features, "
        f"{left_out} {'column' if left_out == 1 else 'columns'} left out, "
        f"target {schema.target.task}",
    )
    for further in schema.more_targets:
        console.print(f"  further target {further.name}: {further.task}", markup=False)
    if found.without_target:
        console.print(f"  {found.without_target} rows without a target are not used", markup=False)
    console.print(f"  next: steadynet train {table}", markup=False)


class _Found(NamedTuple):
    """What there is in a table."""

    schema: Schema
    findings: tuple[Finding, ...]
    rows: int
    without_target: int


def _look(table: Path, spec: Spec) -> _Found:
    """Read a table as training does."""
    from steadynet.table.infer import infer_schema
    from steadynet.table.labels import split_labels
    from steadynet.table.quality import check_quality
    from steadynet.table.read import read_with_findings
    from steadynet.table.split import split_rows
    from steadynet.table.target import drop_rows_without_target

    read = read_with_findings(table, spec.table)
    labelled = split_labels(read.frame, spec.table)
    frame, without = drop_rows_without_target(labelled.frame, labelled.table)
    schema = infer_schema(frame, labelled.table, spec.split, labelled.column)
    split = split_rows(frame, schema, spec.split)
    findings = (*read.findings, *labelled.findings, *check_quality(frame, schema, split))
    return _Found(schema, findings, frame.height, without)
