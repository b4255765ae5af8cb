"""`steadynet alerts`: whether alerts arrive, and which of them need not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steadynet.home import Home

if TYPE_CHECKING:
    from steadynet.control.receivers import Tried
    from steadynet.monitoring.reports import AlertKind
    from steadynet.spec.operating import AlertsSpec

app = typer.Typer(help="Try whether alerts arrive; silence them for a while.", no_args_is_help=True)

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


@app.command()
def silence(
    model: Model,
    alert: Annotated[
        str | None,
        typer.Argument(help="The alert's key, as drift or slo/latency; default: all of the model."),
    ] = None,
    *,
    length: Annotated[str, typer.Option("--for", help="For how long, as 2h or 3d; 7d at most.")],
    reason: Annotated[str, typer.Option(help="Why, for whoever looks.")],
    as_json: Json = False,
) -> None:
    """Tell nobody of new alerts for a while, pages among them.

    Alerts open, and are in `status`, `why` and the metrics, as always. What still holds when the
    silence is over is told then. With Alertmanager the silence is made there.
    """
    from steadynet.clock import SystemClock
    from steadynet.control.alertmanager import end_silence, make_silence
    from steadynet.control.settings import remembered_spec
    from steadynet.control.silencing import SILENCE
    from steadynet.errors import SteadynetError

    home, now = Home.default(), SystemClock().now()
    name, key, for_s = _silence_of(home, model, alert, length, reason)
    alerts, by = remembered_spec(home, name).alerts, _user()
    there = ""
    if alerts.webhook is not None and alerts.format == "alertmanager":
        there = make_silence(alerts, name, key, start=now, end=now + for_s, by=by, reason=reason)
    wish = {"key": key, "for_s": for_s, "reason": reason, "by": by, "alertmanager": there}
    try:
        _order(home, name, SILENCE, wish, as_json=as_json)
    except SteadynetError:
        if there:
            end_silence(alerts, there)
        raise


@app.command()
def silences(model: Model, as_json: Json = False) -> None:
    """List the silences that hold."""
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.clock import SystemClock
    from steadynet.control.report import silences_of
    from steadynet.monitoring.silences import what, words
    from steadynet.registry.local import LocalRegistry

    home = Home.default()
    name = LocalRegistry(home).resolve(model).name
    found = silences_of(home, name, SystemClock().now())
    if as_json:
        print_json({"model": name, "silences": found})
        return
    for item in found:
        where = " (in Alertmanager)" if item.alertmanager else ""
        stdout().print(f"{item.id}  {what(item)} {words(item)}{where}", markup=False)
    if not found:
        stdout().print(f"no alert of {name} is silenced", markup=False)


@app.command()
def unsilence(
    model: Model,
    number: Annotated[int, typer.Argument(help="The silence's number, as `silences` lists it.")],
    as_json: Json = False,
) -> None:
    """End a silence now; what it kept back and still holds is told."""
    from steadynet.clock import SystemClock
    from steadynet.control.alertmanager import end_silence
    from steadynet.control.report import silences_of
    from steadynet.control.settings import remembered_spec
    from steadynet.control.silencing import UNSILENCE
    from steadynet.registry.local import LocalRegistry

    home = Home.default()
    name = LocalRegistry(home).resolve(model).name
    for item in silences_of(home, name, SystemClock().now()):
        if item.id == number and item.alertmanager:
            end_silence(remembered_spec(home, name).alerts, item.alertmanager)
    _order(home, name, UNSILENCE, {"id": number, "by": _user()}, as_json=as_json)


def _silence_of(
    home: Home, model: str, alert: str | None, length: str, reason: str
) -> tuple[str, str, float]:
    """Return the model's name, the alert's key and the seconds that were asked for, checked."""
    from steadynet.cli.durations import seconds_of
    from steadynet.errors import UserError
    from steadynet.monitoring.runbooks import RUNBOOKS, TEST
    from steadynet.monitoring.silences import MOST_S
    from steadynet.registry.local import LocalRegistry

    name, for_s = LocalRegistry(home).resolve(model).name, seconds_of("--for", length)
    if not 0 < for_s <= MOST_S:
        raise UserError(
            "--for does not fit",
            expected=f"at most {MOST_S / 86_400:g}d",
            got=length,
            do="Silence it anew when that is over, or see docs/runbooks for what ends the alert.",
        )
    if not reason.strip():
        raise UserError("--reason is empty", expected="why alerts are not wanted")
    # `controller` is raised by Prometheus alone.
    keys = {"slo", *RUNBOOKS} - {TEST, "controller"}
    if alert is not None and alert not in keys:
        raise UserError(
            "there is no such alert", expected=", ".join(sorted(keys)), got=repr(alert[:40])
        )
    return name, alert or "", for_s


def _order(
    home: Home, name: str, kind: str, arguments: dict[str, object], *, as_json: bool
) -> None:
    """Ask the controller, and say what it answered."""
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.clock import SystemClock
    from steadynet.control.asking import ask
    from steadynet.control.report import silences_of
    from steadynet.control.settings import remembered_spec

    answered = ask(home, name, kind, arguments, remembered_spec(home, name))
    if as_json:
        held = silences_of(home, name, SystemClock().now())
        print_json({"model": name, "answer": answered.answer, "silences": held})
    else:
        stdout().print(answered.answer or "queued", markup=False)


def _user() -> str:
    """Return who types."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


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
    from steadynet.environment import WEBHOOK

    signed = "signed" if tried.signed else f"not signed: ${WEBHOOK} is not set in this shell"
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
