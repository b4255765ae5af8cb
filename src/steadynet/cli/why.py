"""`steadynet why`: the last decisions, with their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from steadynet.home import Home

if TYPE_CHECKING:
    from steadynet.control.journal import JournalEntry


def why(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    last: Annotated[int, typer.Option("--last", min=1, help="How many decisions.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON, with all data.")] = False,
) -> None:
    """Tell the last decisions, newest last, each with the numbers it was made on.

    Exit code 1 where the journal was changed behind the program's back.
    """
    from steadynet.control.report import journal
    from steadynet.registry.local import LocalRegistry

    home = Home.default()
    name = LocalRegistry(home).resolve(model).name
    entries, problems = journal(home, name, last)
    tell(name, entries, problems, as_json=as_json)


def tell(name: str, entries: list[JournalEntry], problems: list[str], *, as_json: bool) -> None:
    """Show entries of a journal; exit code 1 where the journal is not whole."""
    from steadynet.cli.terminal import clock_time, print_json, stderr, stdout

    if as_json:
        decisions = [
            {
                "number": entry.number,
                "at": entry.at,
                "kind": entry.kind,
                "text": entry.text,
                "data": entry.data,
                "digest": entry.digest,
            }
            for entry in entries
        ]
        print_json({"model": name, "decisions": decisions, "problems": problems})
    else:
        console = stdout()
        for entry in entries:
            console.print(f"{clock_time(entry.at)}  {entry.text}", markup=False)
        if not entries:
            console.print(f"nothing is in the journal of {name} yet", markup=False)
    for problem in problems:
        stderr().print(f"[bold red]the journal is not whole:[/] {problem}")
    if problems:
        raise typer.Exit(1)
