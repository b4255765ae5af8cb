"""Rollouts: what a person asks for and what the state machine decides becomes route and journal.

Invariants:
- State, route and journal entry of a step are written in one transaction, so a controller that
  is killed at any point goes on where it was, and no step is taken twice.
- Taking traffic off a challenger does not wait for the store: where the store fails, the route
  is published without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from steadynet.control.champion import Champion
from steadynet.control.evidence import gather_evidence, usual_tail_s
from steadynet.control.facts import (
    ALIASES,
    ROLLOUT,
    VERDICT,
    AliasWish,
    LastVerdict,
    RolloutNotes,
)
from steadynet.control.label_tally import LabelTally
from steadynet.control.launch import launch
from steadynet.control.publish import publish, take_off_unrecorded, without_challenger
from steadynet.control.replay import RolloutInputs
from steadynet.control.slices import make_slicer
from steadynet.control.store import Command, Transaction
from steadynet.control.stories import rollout_story
from steadynet.control.tally import Tally
from steadynet.control.turn import Turn
from steadynet.control.world import live_workers
from steadynet.errors import LeaseLost, SteadynetError, StoreError
from steadynet.monitoring.windows import Window
from steadynet.rollout import state as machine
from steadynet.rollout.evidence import Evidence, Verdict
from steadynet.rollout.judge import judge
from steadynet.rollout.route import Route
from steadynet.rollout.state import Observation, Rollout, Transition
from steadynet.spec.model import RolloutSpec

LABELS_PER_TICK = 5_000
TELL_EVERY_S = 1.0

START = "rollout.start"
ORDERS: MappingProxyType[str, machine.Command] = MappingProxyType(
    {
        "rollout.promote": "promote",
        "rollout.abort": "abort",
        "rollout.pause": "pause",
        "rollout.resume": "resume",
    }
)
"""Kinds of stored commands that steer a running rollout."""


@dataclass(frozen=True, kw_only=True)
class _Step:
    before: Rollout
    plan: RolloutSpec
    observation: Observation
    evidence: Evidence | None
    transition: Transition
    order: Command | None
    unrecorded: bool


class Rollouts:
    """The running rollout of one model, with the sums that its verdicts are made of."""

    def __init__(self) -> None:
        self._stage: tuple[str, str, float] | None = None
        self._tally = Tally("", 0.0)
        self._labels: LabelTally | None = None
        self._told = 0.0

    def advance(
        self,
        turn: Turn,
        champion: Champion,
        windows: tuple[Window, ...],
        commands: Sequence[Command],
    ) -> Rollout | None:
        """Take the rollout one step on; return it where one runs or has just ended.

        `commands` are those that nobody has answered.
        """
        with turn.store.read() as tx:
            rollout = tx.decisions.running_rollout(turn.model, Rollout)
            if rollout is not None:
                notes = tx.decisions.fact(turn.model, ROLLOUT, RolloutNotes) or RolloutNotes()
                route = tx.decisions.route(turn.model)
        order = next((item for item in commands if item.kind in ORDERS), None)
        if rollout is None:
            self._stage = None
            _refuse(turn, order)
            # A start that came while another rollout ran has waited for its end.
            wanted = next((item for item in commands if item.kind == START), None)
            return None if wanted is None else _launch(turn, champion, wanted)
        plan = _plan(turn, notes)
        evidence = self._look(turn, champion, rollout, notes, windows)
        observation = _observe(turn, rollout, evidence, order)
        transition = machine.step(rollout, plan, observation)
        unrecorded = route is not None and route.challenger is None
        if unrecorded:
            transition = _end_unrecorded(rollout, turn)
        if transition.reason or order is not None:
            step = _Step(
                before=rollout,
                plan=plan,
                observation=observation,
                evidence=evidence,
                transition=transition,
                order=order,
                unrecorded=unrecorded,
            )
            usual = usual_tail_s(self._tally.of(rollout.champion, "champion"))
            _take(turn, step, _next_notes(step, notes, usual))
        else:
            self._tell(turn, rollout, observation.verdict)
        return transition.state

    def _tell(self, turn: Turn, rollout: Rollout, verdict: Verdict | None) -> None:
        """Keep the newest verdict for `status`, at most once in `TELL_EVERY_S`."""
        if verdict is None or 0 <= turn.now - self._told < TELL_EVERY_S:
            return
        with turn.write() as tx:
            last = LastVerdict(rollout=rollout.id, at=turn.now, verdict=verdict)
            tx.decisions.remember(turn.model, VERDICT, last)
        self._told = turn.now

    def _look(
        self,
        turn: Turn,
        champion: Champion,
        rollout: Rollout,
        notes: RolloutNotes,
        windows: tuple[Window, ...],
    ) -> Evidence | None:
        """Return the evidence on the present stage; None while there is nothing to judge."""
        if rollout.phase not in ("shadow", "canary", "awaiting_approval"):
            return None
        stage = (rollout.id, rollout.stage, rollout.stage_started)
        if self._stage == stage:
            self._tally.add(windows)
        else:
            with turn.store.read() as tx:
                stored = tx.observations.windows(turn.model, rollout.stage_started)
            self._tally = Tally(turn.model, rollout.stage_started, stored)
            if self._stage is None or self._stage[0] != rollout.id:
                self._labels = None
            self._stage = stage
        if self._labels is None:
            self._labels = LabelTally(
                champion.target,
                rollout.champion,
                rollout.challenger,
                holdout=notes.holdout,
                after=notes.labels_after,
                slicer=make_slicer(turn.spec.rollout.slices, champion.profile),
            )
        with turn.store.read() as tx:
            labelled = tx.observations.labelled_after(
                turn.model, after=self._labels.after, limit=LABELS_PER_TICK
            )
        self._labels.add(labelled, canary_starts=notes.canary_starts)
        return gather_evidence(rollout, self._tally, self._labels, notes, champion.yardstick)


def _plan(turn: Turn, notes: RolloutNotes) -> RolloutSpec:
    """Return the plan of a rollout: a healed version may need a person's word."""
    plan = turn.spec.rollout
    return msgspec.structs.replace(plan, approval=plan.approval or notes.approval)


def _observe(
    turn: Turn, rollout: Rollout, evidence: Evidence | None, order: Command | None
) -> Observation:
    workers = live_workers(turn.home, turn.model, turn.now)
    # Where the clock was set back, the stage begins before the rollout did.
    began = min(rollout.started, rollout.stage_started)
    fresh = [worker for worker in workers if worker.at >= began]
    return Observation(
        now=turn.now,
        verdict=None if evidence is None else judge(turn.spec.rollout, evidence),
        workers_expected=len(workers),
        workers_ready=sum(rollout.challenger in worker.versions for worker in fresh),
        load_failures={
            worker.worker: worker.failures[rollout.challenger]
            for worker in fresh
            if rollout.challenger in worker.failures
        },
        command=None if order is None else ORDERS[order.kind],
    )


def _end_unrecorded(rollout: Rollout, turn: Turn) -> Transition:
    """Record that traffic was taken off the challenger while the store could not be written."""
    abort = Observation(now=turn.now, command="abort")
    transition = machine.step(rollout, turn.spec.rollout, abort)
    why = "its traffic was taken off when the control store could not be written"
    state = msgspec.structs.replace(transition.state, reason=why)
    return msgspec.structs.replace(transition, state=state, reason=why)


def _launch(turn: Turn, champion: Champion, wanted: Command) -> Rollout | None:
    version = str(wanted.arguments.get("version"))
    try:
        return launch(turn, champion, version, command=wanted)
    except LeaseLost:
        raise
    except SteadynetError as error:
        text = f"version {version} was not rolled out: {error}"
        data = {"version": version, "error": type(error).__name__}
        with turn.write() as tx:
            tx.commands.answer(wanted.number, "refused", str(error))
            tx.journal.append(turn.model, at=turn.now, kind="rollout.refused", text=text, data=data)
        return None


def _refuse(turn: Turn, order: Command | None) -> None:
    if order is not None:
        with turn.write() as tx:
            tx.commands.answer(order.number, "refused", "no rollout is running")


def _take(turn: Turn, step: _Step, notes: RolloutNotes) -> None:
    """Write down a step and the notes that follow from it, and let the workers know."""
    action = step.transition.action
    try:
        with turn.write() as tx:
            if step.transition.reason:
                _record(turn, tx, step)
                _change_route(turn, tx, step)
                tx.decisions.remember(turn.model, ROLLOUT, notes)
            if step.order is not None:
                _answer(tx, step.order, step.transition)
    except LeaseLost:
        raise
    except StoreError:
        if action == "rollback":
            take_off_unrecorded(turn)
        raise
    if action != "none":
        publish(turn)


def _record(turn: Turn, tx: Transaction, step: _Step) -> None:
    state = step.transition.state
    kind, text = rollout_story(step.before, step.transition)
    tx.decisions.save_rollout(
        state, rollout_id=state.id, model=turn.model, started=state.started, ended=state.ended
    )
    inputs = RolloutInputs(
        rollout=state,
        before=step.before,
        plan=step.plan,
        evidence=step.evidence,
        observation=step.observation,
        unrecorded=step.unrecorded,
    )
    data = msgspec.structs.asdict(inputs)
    tx.journal.append(turn.model, at=turn.now, kind=kind, text=text, data=data)


def _change_route(turn: Turn, tx: Transaction, step: _Step) -> None:
    action, state = step.transition.action, step.transition.state
    route = tx.decisions.route(turn.model)
    if action == "none" or route is None:
        return
    if action == "set_route":
        changed = msgspec.structs.replace(
            route, share=state.share, mirror=state.mirror, generation=route.generation + 1
        )
    elif route.challenger is None:
        changed = route
    elif action == "promote":
        changed = Route(
            model=route.model, generation=route.generation + 1, champion=route.challenger
        )
    else:
        changed = without_challenger(route)
    tx.decisions.save_route(changed)
    challenger = None if changed.challenger is None else changed.challenger.version
    wish = AliasWish(champion=changed.champion.version, challenger=challenger)
    tx.decisions.remember(turn.model, ALIASES, wish)


def _next_notes(step: _Step, notes: RolloutNotes, usual_tail_s: float) -> RolloutNotes:
    """Return the notes for the stage that a step begins.

    `usual_tail_s` is the champion's in the stage that ends; it is taken where none was known
    before, and then stays.
    """
    after = step.transition.state
    if after.stage_started < step.before.stage_started:
        starts = tuple(min(start, after.stage_started) for start in notes.canary_starts)
        return msgspec.structs.replace(notes, canary_starts=starts)
    if step.transition.action != "set_route" or after.phase != "canary":
        return notes
    return msgspec.structs.replace(
        notes,
        canary_starts=(*notes.canary_starts, after.stage_started),
        tail_s=notes.tail_s or usual_tail_s,
    )


def _answer(tx: Transaction, order: Command, transition: Transition) -> None:
    if transition.reason:
        tx.commands.answer(order.number, "done", transition.reason)
    else:
        phase = transition.state.phase
        paused = " and paused" if transition.state.paused_at is not None else ""
        word = ORDERS[order.kind]
        tx.commands.answer(
            order.number, "refused", f"a rollout that is {phase}{paused} cannot {word}"
        )
