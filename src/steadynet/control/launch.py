"""Beginning a rollout: from a version's name to a route that names it, at no share."""

from __future__ import annotations

import secrets

import msgspec

from steadynet.control.candidates import check_replaceable, verified_endpoint
from steadynet.control.champion import Champion
from steadynet.control.evidence import usual_tail_s
from steadynet.control.facts import ALIASES, ROLLOUT, AliasWish, RolloutNotes
from steadynet.control.publish import publish
from steadynet.control.store import Command, Transaction
from steadynet.control.tally import Tally
from steadynet.control.turn import Turn
from steadynet.errors import RolloutError
from steadynet.rollout.state import Rollout, start
from steadynet.statistics.moments import Moments

LOOK_BACK_S = 3600.0
"""How far back the champion's usual latency is taken from."""


def launch(turn: Turn, champion: Champion, version: str, *, command: Command) -> Rollout:
    """Verify the version and let the workers load it.

    Raises `RolloutError`, `UnknownModel` or `BundleError` where it may not be rolled out.
    """
    if version == champion.version:
        raise RolloutError(f"version {version} is the champion already")
    endpoint, bundle = verified_endpoint(turn.home, turn.model, version)
    new_columns = bool(command.arguments.get("new_columns", False))
    check_replaceable(champion.manifest, bundle.manifest, new_columns=new_columns)
    rollout = start(
        rollout_id=f"{turn.model}-{version}-{secrets.token_hex(4)}",
        model=turn.model,
        champion=champion.version,
        challenger=version,
        now=turn.now,
    )
    holdout = command.arguments.get("holdout")
    with turn.write() as tx:
        route = tx.decisions.route(turn.model)
        assert route is not None, "a model with a champion has a route"
        tx.decisions.save_rollout(
            rollout, rollout_id=rollout.id, model=turn.model, started=turn.now, ended=None
        )
        tx.decisions.save_route(
            msgspec.structs.replace(
                route,
                challenger=endpoint,
                share=0.0,
                mirror=0.0,
                salt=rollout.id,
                generation=route.generation + 1,
            )
        )
        notes = RolloutNotes(
            labels_after=tx.observations.last_join(turn.model),
            tail_s=_usual_tail_s(turn, tx, champion.version),
            challenger_edges=bundle.profile().output.edges,
            approval=bool(command.arguments.get("approval", False)),
            holdout=Moments() if holdout is None else msgspec.convert(holdout, Moments),
        )
        tx.decisions.remember(turn.model, ROLLOUT, notes)
        wish = AliasWish(champion=champion.version, challenger=version)
        tx.decisions.remember(turn.model, ALIASES, wish)
        tx.journal.append(
            turn.model,
            at=turn.now,
            kind="rollout.started",
            text=f"version {version} is rolled out against champion {champion.version}",
            data={"rollout": rollout, "plan": turn.spec.rollout, "challenger": endpoint},
        )
        tx.commands.answer(command.number, "done", f"rollout {rollout.id} has begun")
    publish(turn)
    return rollout


def _usual_tail_s(turn: Turn, tx: Transaction, version: str) -> float:
    """Return the champion's 99th percentile of the last hour, seconds; 0 where it is not known."""
    since = turn.now - LOOK_BACK_S
    tally = Tally(turn.model, since, tx.observations.windows(turn.model, since))
    return usual_tail_s(tally.of(version, "champion"))
