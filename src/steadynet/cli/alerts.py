"""`steadynet alerts`: whether alerts arrive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steadynet.home import Home

if TYPE_CHECKING:
    from steadynet.control.receivers import Tried
    from steadynet.monitoring.reports import AlertKind
    from steadynet.spec.operating import AlertsSpec

app = typer.Typer(help="Try whether alerts arrive.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(help="A model's name.")]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


@app.command("test")
def try_receivers(
    model: Model,
    spec: Annotated[
        Path | None,
        typer.Option(help="steadynet.toml; default: what the model is served with."),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="ticket, or page to try who is woken at night.")
    ] = "ticket",
    as_json: Json = False,
) -> None:
    """Send a test alert, marked as such, through each receiver of [alerts].

    Messages are signed by $STEADYNET_WEBHOOK_SECRET as it is in this shell. The journal keeps that
    it was sent. Exit code 1 where a receiver did not take it.
    """
    import os

    from steadynet.cli.terminal import print_json, stdout
    from steadynet.clock import SystemClock
    from steadynet.control import receivers
    from steadynet.control.signing import WebhookKeys
    from steadynet.errors import UserError
    from steadynet.registry.local import LocalRegistry

    if kind not in ("page", "ticket"):
        raise UserError("there is no such kind", expected="page or ticket", got=repr(kind[:40]))
    home, now = Home.default(), SystemClock().now()
    name = LocalRegistry(home).resolve(model).name
    wanted: AlertKind = "page" if kind == "page" else "ticket"
    told = receivers.try_receivers(
        name, _alerts_spec(home, name, spec), WebhookKeys.of(os.environ), kind=wanted, now=now
    )
    if as_json:
        print_json({"model": name, "kind": kind, "receivers": told})
    else:
        for item in told:
            stdout().print(f"{item.format}  {item.receiver}  {_outcome(item)}", markup=False)
    _write_down(home, name, kind, told, now)
    if any(item.problem for item in told):
        raise typer.Exit(1)


def _alerts_spec(home: Home, name: str, path: Path | None) -> AlertsSpec:
    """Return `[alerts]` of a file, or of the spec that the model is served with."""
    from steadynet.control.settings import remembered_spec
    from steadynet.errors import UserError
    from steadynet.spec.load import load_spec

    found = remembered_spec(home, name) if path is None else load_spec(path)
    if found.alerts.webhook is None:
        where = f"what {name} is served with" if path is None else str(path)
        raise UserError(
            "no receiver of alerts is named",
            expected="webhook = URL under [alerts]",
            got=f"none in {where}",
            do="Name one in steadynet.toml and start the server with it, or try the file first: "
            f"steadynet alerts test {name} --spec steadynet.toml",
        )
    return found.alerts


def _outcome(tried: Tried) -> str:
    from steadynet.control.signing import VARIABLE

    signed = "signed" if tried.signed else f"not signed: ${VARIABLE} is not set in this shell"
    how = f" ({signed})" if tried.format == "standard" else ""
    return f"NOT taken{how}: {tried.problem}" if tried.problem else f"taken{how}"


def _write_down(home: Home, name: str, kind: str, told: tuple[Tried, ...], now: float) -> None:
    from steadynet.control.store import Store

    with Store.of(home) as store, store.write() as tx:
        for item in told:
            became = f"was not taken: {item.problem}" if item.problem else "was taken"
            tx.journal.append(
                name,
                at=now,
                kind="alert.tested",
                text=f"a test {kind} to {item.receiver} ({item.format}) {became}",
                data={"tried": item},
            )
