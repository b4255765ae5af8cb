"""Asking the controller for something, from another process.

A command is queued in the store. Where a controller is alive it answers; where none is, the asker
takes the lease and does the controller's work itself until the command is answered.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from steadynet.clock import Clock, SystemClock
from steadynet.control.controller import Controller
from steadynet.control.store import Command, Store
from steadynet.control.world import published_route
from steadynet.errors import RolloutError, StoreError
from steadynet.home import Home
from steadynet.spec.model import Spec

POLL_S = 0.1
TIMEOUT_S = 30.0


def controller_alive(store: Store, model: str, now: float) -> bool:
    """Tell whether somebody holds the model's lease."""
    with store.read() as tx:
        lease = tx.lease(model)
    return lease is not None and lease.expires > now


def ask(
    home: Home,
    model: str,
    kind: str,
    arguments: Mapping[str, object],
    spec: Spec,
    *,
    clock: Clock | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Command:
    """Queue a command and return it with its answer, or as it waits after `timeout_s`.

    Raises `RolloutError` where the model was never served, and where the command is refused.
    """
    clock = clock or SystemClock()
    with Store.of(home) as store:
        with store.read() as tx:
            served = tx.decisions.route(model) is not None
        if not served and published_route(home, model) is None:
            raise RolloutError(
                f"{model} was never served from {home.root}",
                do=f"Start a server first: steadynet serve {model}",
            )
        with store.write() as tx:
            number = tx.commands.send(model, at=clock.now(), kind=kind, arguments=dict(arguments))
        answered = _wait(
            store, Controller(home, model, store, spec, clock=clock), number, timeout_s
        )
    if answered.state == "refused":
        raise RolloutError(answered.answer)
    return answered


def _wait(store: Store, stand_in: Controller, number: int, timeout_s: float) -> Command:
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            stand_in.tick()
            with store.read() as tx:
                command = tx.commands.get(number)
            if command is None:
                raise StoreError("the command is gone from the control store")
            if command.state != "waiting" or time.monotonic() > deadline:
                return command
            time.sleep(POLL_S)
    finally:
        stand_in.close()
