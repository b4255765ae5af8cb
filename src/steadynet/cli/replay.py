"""`steadynet replay`: decide again what was decided, from what was written down."""

from __future__ import annotations

from typing import Annotated

import typer

from steadynet.home import Home


def replay(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    number: Annotated[
        int | None, typer.Argument(help="The decision's number in the journal; default: all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Recompute decisions of the journal from their recorded windows, labels and thresholds.

    Says of each whether this version of the program decides the same. Exit code 1 where one is
    decided otherwise, or where the journal was changed behind the program's back.
    """
    from steadynet.cli.terminal import print_json, stderr, stdout
    from steadynet.control.report import replayed
    from steadynet.registry.local import LocalRegistry

    home = Home.default()
    name = LocalRegistry(home).resolve(model).name
    found, problems = replayed(home, name, number)
    different = [item for item in found if item.outcome == "different"]
    if as_json:
        print_json({"model": name, "replayed": found, "problems": problems})
    else:
        console = stdout()
        for item in found:
            if item.outcome == "no_decision" and number is None:
                continue
            console.print(f"{item.number:>5}  {item.outcome:11} {item.text}", markup=False)
            for difference in item.differences:
                console.print(f"       {difference}", markup=False)
        decided = [item for item in found if item.outcome in ("same", "different")]
        console.print(f"{len(decided)} decisions recomputed, {len(different)} came out otherwise")
    for problem in problems:
        stderr().print(f"[bold red]the journal is not whole:[/] {problem}")
    if problems or different:
        raise typer.Exit(1)
