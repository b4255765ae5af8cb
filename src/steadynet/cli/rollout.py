"""`steadynet rollout`: give a new version traffic, step by step, and take it away again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from steadynet.home import Home

if TYPE_CHECKING:
    from steadynet.control.report import RolloutStatus

app = typer.Typer(
    help="Give a new version traffic step by step; take it away again.", no_args_is_help=True
)

Model = Annotated[str, typer.Argument(help="A model's name.")]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


@app.command()
def start(
    reference: Annotated[str, typer.Argument(help="The version, as name/3 or name@challenger.")],
    new_columns: Annotated[
        bool,
        typer.Option(
            "--new-columns",
            help="Callers already send the columns that the champion does not read.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Begin a rollout: shadow, then the steps of the plan, judged at each."""
    from steadynet.errors import RolloutError
    from steadynet.registry.local import LocalRegistry

    home = Home.default()
    found = LocalRegistry(home).resolve(reference)
    if found.version not in LocalRegistry(home).versions(found.name):
        raise RolloutError(
            "only a registered version can be rolled out", do="Name it as name/3 or name@alias."
        )
    arguments: dict[str, object] = {"version": found.version, "new_columns": new_columns}
    _order(found.name, "rollout.start", as_json=as_json, arguments=arguments)


@app.command()
def promote(model: Model, as_json: Json = False) -> None:
    """Make the challenger champion now; where a step waits for approval, go on to the next."""
    _order(model, "rollout.promote", as_json=as_json)


@app.command()
def abort(model: Model, as_json: Json = False) -> None:
    """Take all traffic off the challenger now."""
    _order(model, "rollout.abort", as_json=as_json)


@app.command()
def pause(model: Model, as_json: Json = False) -> None:
    """Stay at the present step; a version that is shown to be worse is still rolled back."""
    _order(model, "rollout.pause", as_json=as_json)


@app.command()
def resume(model: Model, as_json: Json = False) -> None:
    """Go on with a paused rollout."""
    _order(model, "rollout.resume", as_json=as_json)


@app.command()
def status(model: Model, as_json: Json = False) -> None:
    """Tell where the newest rollout stands."""
    from steadynet.cli.terminal import print_json, stdout

    found = _status(model)
    if as_json:
        print_json({"model": model, "rollout": found})
        return
    stdout().print(_words(model, found), markup=False)


def _status(model: str) -> RolloutStatus | None:
    from steadynet.clock import SystemClock
    from steadynet.control.report import model_status
    from steadynet.registry.local import LocalRegistry

    home = Home.default()
    name = LocalRegistry(home).resolve(model).name
    return model_status(home, name, SystemClock().now()).rollout


def _words(model: str, found: RolloutStatus | None) -> str:
    if found is None:
        return f"{model} has had no rollout"
    paused = ", paused" if found.paused else ""
    share = f", {100 * found.share:g} % of traffic" if found.ended is None else ""
    lines = [f"version {found.challenger}: {found.phase}{share}{paused}", f"  {found.reason}"]
    if found.verdict is not None:
        lines.append(f"now: {found.verdict.sentence}")
        lines += [
            f"  {signal.name:11} {signal.outcome:8} {signal.sentence}"
            for signal in found.verdict.signals
        ]
    return "\n".join(lines)


def _order(
    model: str, kind: str, *, as_json: bool, arguments: dict[str, object] | None = None
) -> None:
    """Ask the controller, and say what it answered."""
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.control.asking import ask
    from steadynet.control.settings import remembered_spec
    from steadynet.registry.local import LocalRegistry

    home = Home.default()
    name = LocalRegistry(home).resolve(model).name
    answered = ask(home, name, kind, arguments or {}, remembered_spec(home, name))
    if as_json:
        print_json(
            {
                "model": name,
                "command": kind,
                "state": answered.state,
                "answer": answered.answer,
                "rollout": _status(name),
            }
        )
        return
    if answered.state == "waiting":
        stdout().print("queued; another rollout runs. See `steadynet rollout status`.")
    else:
        stdout().print(answered.answer, markup=False)
