"""`steadynet retrain`: make a new version of what was learnt in production."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from steadynet.home import Home

if TYPE_CHECKING:
    from steadynet.control.policy import Attempt

POLL_S = 0.5


def retrain(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    way: Annotated[
        Literal["auto", "recalibrate", "fine-tune", "retrain"],
        typer.Option(
            help="Fit the calibration anew, go on from the champion's weights, or train anew."
        ),
    ] = "auto",
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the new version's rollout or failure.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Make a new version of the newest labelled rows, gate it, and roll it out.

    Exit code 4 where, with --wait, it did not pass its gate or was rolled back. Without a server
    --wait ends when the gate has been passed, since a rollout needs traffic.
    """
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.control.asking import ask
    from steadynet.control.healing import RETRAIN
    from steadynet.control.settings import remembered_spec
    from steadynet.errors import GateFailed
    from steadynet.registry.local import LocalRegistry

    home = Home.default()
    name = LocalRegistry(home).resolve(model).name
    arguments = {} if way == "auto" else {"way": way.replace("-", "_")}
    answered = ask(home, name, RETRAIN, arguments, remembered_spec(home, name))
    attempt = _wait(home, name) if wait else None
    if as_json:
        print_json({"model": name, "answer": answered.answer, "attempt": attempt})
    else:
        stdout().print(answered.answer, markup=False)
        if attempt is not None:
            stdout().print(f"{attempt.outcome}: {attempt.reason}", markup=False)
        else:
            stdout().print(f"  follow it with: steadynet why {name}", markup=False)
    if attempt is not None and attempt.outcome == "failed":
        # The answer has said why; an error in JSON beside it would be a second document.
        raise typer.Exit(GateFailed.exit_code)


def _wait(home: Home, name: str) -> Attempt:
    """Return the newest attempt once it has ended; do the controller's work where none is alive."""
    from steadynet.clock import SystemClock
    from steadynet.control.controller import Controller
    from steadynet.control.facts import HEAL, HealNotes
    from steadynet.control.settings import remembered_spec
    from steadynet.control.store import Store
    from steadynet.control.world import live_workers

    clock = SystemClock()
    with Store.of(home) as store:
        stand_in = Controller(home, name, store, remembered_spec(home, name))
        try:
            while True:
                stand_in.tick()
                with store.read() as tx:
                    notes = tx.decisions.fact(name, HEAL, HealNotes) or HealNotes()
                newest = notes.attempts[-1]
                served = bool(live_workers(home, name, clock.now()))
                if newest.outcome != "running" or (newest.version and not served):
                    return newest
                time.sleep(POLL_S)
        finally:
            stand_in.close()
