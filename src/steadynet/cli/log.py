"""`steadynet log`: the log of answered rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steadynet.home import Home

app = typer.Typer(help="The log of answered rows.", no_args_is_help=True)


@app.callback()
def _log() -> None:
    """The log of answered rows."""


@app.command("export")
def export(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    output: Annotated[Path, typer.Option(help="Folder of the Parquet files.")],
    keep: Annotated[int, typer.Option(min=1, help="Files to keep; older ones are removed.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Write the answered rows that the folder does not hold yet as Parquet.

    Run it regularly (cron): each row is written once.
    """
    from steadynet.bundle.manifest import MANIFEST, decode_manifest
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.control.row_log import export_rows
    from steadynet.errors import MissingDependency
    from steadynet.registry.local import LocalRegistry

    home = Home.default()
    version = LocalRegistry(home).resolve(model)
    schema = decode_manifest((version.bundle / MANIFEST).read_bytes()).schema
    try:
        done = export_rows(home, version.name, schema, output, keep=keep)
    except ModuleNotFoundError as error:
        raise MissingDependency("polars", "train") from error
    if as_json:
        files = [str(path) for path in done.files]
        removed = [str(path) for path in done.removed]
        print_json({"model": version.name, "rows": done.rows, "files": files, "removed": removed})
        return
    stdout().print(f"{done.rows} rows in {len(done.files)} new files in {output}", markup=False)
    if done.removed:
        stdout().print(f"{len(done.removed)} old files were removed", markup=False)
