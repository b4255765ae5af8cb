"""The rollout's state machine: `step` takes a state and what is seen, and returns the next state.

    pending ─ workers loaded ─▶ shadow ─ pass ─▶ canary 0 ─ pass ─▶ … canary n-1 ─ pass ─▶ promoted
                                                                         └▶ awaiting_approval ─▲
    with `approve_steps` each ─ pass ─▶ awaiting_approval ─ promote ─▶ the next stage
    (any of these) ─ fail, load failure, abort, time is up ─▶ aborted

It reads no clock and keeps no memory: time comes with the observation, and all else is in the
state, so that a controller that was killed goes on with the state it wrote last. Write the state
before acting on it, and act again after a restart: both are safe, by these invariants.

1. Before promotion the share grows only by one entry of `RolloutSpec.steps` at a time, and it
   falls only to 0.
2. A rollout is promoted only by the `pass` of its last stage, or by the command `promote` once
   the challenger is loaded. Where a step waits for approval the command goes on to the next one.
3. `aborted` has share 0 and mirror 0, and nothing follows it or `promoted`: every later
   observation returns the same state and the action `none`.
4. A verdict counts only in the stage that it was made on, so that the same observation, given
   twice, moves traffic once.
5. A stage lasts at least `min_step_s` and, unless the plan holds, at most `max_step_s`; the time
   in which a rollout is paused does not count. When its time is up, a verdict that only waited
   for labels lets it go on, and one that says `broken` holds it: a measurement that cannot be
   true neither promotes a version nor rolls it back.
6. A pause stops promotion only. A failing verdict, a load failure and `abort` end a paused
   rollout as they end any other.
7. A clock that was set back begins the stage's time anew: else nothing would be judged, however
   bad, until it had come as far again.
8. The action is `none` exactly where the route and the champion need no change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from steadynet.rollout.evidence import Verdict
from steadynet.spec.model import RolloutSpec

SET_BACK_S = 5.0
"""From how far before the stage's start a moment means that the clock was set back."""

Phase = Literal["pending", "shadow", "canary", "awaiting_approval", "promoted", "aborted"]
Command = Literal["promote", "abort", "pause", "resume"]
Action = Literal["none", "set_route", "promote", "rollback"]


class Rollout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a rollout stands. Everything that a restarted controller needs to go on."""

    id: str
    model: str
    champion: str
    """Version that answers now."""
    challenger: str
    """Version that wants to."""
    started: float
    """Seconds UTC."""
    stage_started: float
    """Seconds UTC; moved on by the length of each pause."""
    phase: Phase = "pending"
    canary: int = 0
    """Index into `RolloutSpec.steps` while the phase is `canary` or `awaiting_approval`."""
    awaits: int | None = None
    """The step that a person's approval begins; None where it promotes."""
    share: float = 0.0
    """Share of traffic that the route gives the challenger."""
    mirror: float = 0.0
    """Share of the champion's requests that the challenger answers unseen."""
    paused_at: float | None = None
    ended: float | None = None
    reason: str = ""
    """Why it stands where it stands, for people."""

    @property
    def stage(self) -> str:
        """Return the name that evidence and verdict carry: `shadow`, `canary 0`, …"""
        if self.phase == "awaiting_approval" and self.mirror > 0:
            return "shadow"
        if self.phase in ("canary", "awaiting_approval"):
            return f"canary {self.canary}"
        return self.phase

    @property
    def over(self) -> bool:
        """Tell whether the rollout has ended."""
        return self.phase in ("promoted", "aborted")


class Observation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the controller sees at one moment."""

    now: float
    """Seconds UTC."""
    verdict: Verdict | None = None
    workers_expected: int = 0
    workers_ready: int = 0
    """Live workers that have loaded and verified the challenger."""
    load_failures: dict[str, str] = msgspec.field(default_factory=dict)
    """Worker → why it could not load the challenger."""
    command: Command | None = None


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be so now.

    The route shall have `state.share` and `state.mirror`. `set_route`: they changed. `promote`:
    the challenger becomes champion. `rollback`: the challenger leaves the route.
    """

    state: Rollout
    action: Action
    reason: str
    """Why something changed, or why a command was refused; empty where nothing happened."""


def start(*, rollout_id: str, model: str, champion: str, challenger: str, now: float) -> Rollout:
    """Return the state of a rollout that begins: the route names the challenger, at no share."""
    return Rollout(
        id=rollout_id,
        model=model,
        champion=champion,
        challenger=challenger,
        started=now,
        stage_started=now,
        reason=f"version {challenger} is being loaded by the workers",
    )


def step(state: Rollout, plan: RolloutSpec, observation: Observation) -> Transition:
    """Return what follows from `state` when `observation` is seen.

    The order of the rules is the order of their weight: an end is final; harm ends a rollout
    before anything else is looked at; a person's word comes before the plan's.
    """
    if state.over:
        return Transition(state=state, action="none", reason="")
    for rule in (_on_harm, _on_command, _on_clock, _on_pause, _on_progress, _on_timeout):
        transition = rule(state, plan, observation)
        if transition is not None:
            return transition
    return Transition(state=state, action="none", reason="")


Rule = Callable[[Rollout, RolloutSpec, Observation], Transition | None]


def _on_harm(state: Rollout, plan: RolloutSpec, seen: Observation) -> Transition | None:
    """Abort where the challenger cannot be loaded or is shown to be worse."""
    if seen.load_failures:
        worker, why = min(seen.load_failures.items())
        return _abort(state, seen.now, f"worker {worker} could not load the challenger: {why}")
    verdict = _verdict_on_this_stage(state, seen)
    if verdict is not None and verdict.outcome == "fail":
        return _abort(state, seen.now, verdict.sentence)
    return None


def _on_command(state: Rollout, plan: RolloutSpec, seen: Observation) -> Transition | None:
    """Do what a person asked for, where the state allows it."""
    if seen.command == "abort":
        return _abort(state, seen.now, "aborted by command")
    if seen.command == "promote" and state.phase == "pending":
        refused = f"version {state.challenger} cannot be promoted before workers have loaded it"
        return Transition(state=state, action="none", reason=refused)
    awaited = len(plan.steps) if state.awaits is None else state.awaits
    if seen.command == "promote" and awaited < len(plan.steps):
        going = msgspec.structs.replace(state, paused_at=None)
        return _enter_canary(going, plan, seen.now, awaited, "approved by command")
    if seen.command == "promote":
        return _promote(state, seen.now, "promoted by command")
    if seen.command == "pause" and state.paused_at is None:
        paused = msgspec.structs.replace(state, paused_at=seen.now, reason="paused by command")
        return Transition(state=paused, action="none", reason=paused.reason)
    if seen.command == "resume" and state.paused_at is not None:
        resumed = msgspec.structs.replace(
            state,
            paused_at=None,
            stage_started=state.stage_started + max(0.0, seen.now - state.paused_at),
            reason="resumed by command",
        )
        return Transition(state=resumed, action="none", reason=resumed.reason)
    return None


def _on_clock(state: Rollout, plan: RolloutSpec, seen: Observation) -> Transition | None:
    """Begin the stage's time anew where the clock was set back to before it."""
    back_s = state.stage_started - seen.now
    if back_s <= SET_BACK_S:
        return None
    paused = None if state.paused_at is None else seen.now
    anew = msgspec.structs.replace(state, stage_started=seen.now, paused_at=paused)
    why = f"the clock was set back by {back_s:.0f} s; the time of {state.stage} begins anew"
    return Transition(state=anew, action="none", reason=why)


def _on_pause(state: Rollout, plan: RolloutSpec, seen: Observation) -> Transition | None:
    """Stay where a person paused it, or where a person's approval is awaited."""
    if state.paused_at is not None or state.phase == "awaiting_approval":
        return Transition(state=state, action="none", reason="")
    return None


def _on_progress(state: Rollout, plan: RolloutSpec, seen: Observation) -> Transition | None:
    """Go on to the next stage when this one is done."""
    if state.phase == "pending":
        if seen.workers_ready < max(1, seen.workers_expected):
            return None
        loaded = f"{seen.workers_ready} workers have loaded version {state.challenger}"
        if plan.shadow_share > 0:
            shadowed = f"{loaded}; it answers unseen"
            return _enter(state, seen.now, "shadow", mirror=plan.shadow_share, reason=shadowed)
        return _next_canary(state, plan, seen.now, 0, loaded)
    verdict = _verdict_on_this_stage(state, seen)
    age_s = seen.now - state.stage_started
    if verdict is None or verdict.outcome == "broken" or age_s < plan.min_step_s:
        return None
    passed = verdict.when_time_is_up if age_s > plan.max_step_s else verdict.outcome
    if passed != "pass":
        return None
    following = 0 if state.phase == "shadow" else state.canary + 1
    return _next_canary(state, plan, seen.now, following, verdict.sentence)


def _on_timeout(state: Rollout, plan: RolloutSpec, seen: Observation) -> Transition | None:
    """End a stage that could not be decided in time, unless the plan holds it."""
    if plan.on_timeout == "hold" or seen.now - state.stage_started <= plan.max_step_s:
        return None
    verdict = _verdict_on_this_stage(state, seen)
    if verdict is not None and verdict.outcome == "broken":
        return None
    waiting = (
        f"{seen.workers_ready} of {seen.workers_expected} workers had loaded the challenger"
        if state.phase == "pending"
        else "no verdict"
        if seen.verdict is None
        else seen.verdict.sentence
    )
    why = f"{state.stage} was not decided within {plan.max_step_s:g} s: {waiting}"
    return _abort(state, seen.now, why)


def _verdict_on_this_stage(state: Rollout, seen: Observation) -> Verdict | None:
    if seen.verdict is None or state.phase == "pending" or seen.verdict.stage != state.stage:
        return None
    return seen.verdict


def _next_canary(
    state: Rollout, plan: RolloutSpec, now: float, following: int, why: str
) -> Transition:
    unjudged = state.phase == "pending"
    if following < len(plan.steps):
        if plan.approve_steps and not unjudged:
            waiting = msgspec.structs.replace(
                state,
                phase="awaiting_approval",
                awaits=following,
                reason=f"{why}; it waits for approval to get {100 * plan.steps[following]:g} %",
            )
            return Transition(state=waiting, action="none", reason=waiting.reason)
        return _enter_canary(state, plan, now, following, why)
    if plan.approval or plan.approve_steps or unjudged:
        note = "the plan has no stage to judge it in, so it waits" if unjudged else "it waits"
        waiting = msgspec.structs.replace(
            state, phase="awaiting_approval", reason=f"{why}; {note} for approval"
        )
        return Transition(state=waiting, action="none", reason=waiting.reason)
    return _promote(state, now, why)


def _enter_canary(state: Rollout, plan: RolloutSpec, now: float, step: int, why: str) -> Transition:
    share = plan.steps[step]
    reason = f"{why}; version {state.challenger} gets {100 * share:g} % of requests"
    return _enter(state, now, "canary", canary=step, share=share, reason=reason)


def _enter(
    state: Rollout,
    now: float,
    phase: Phase,
    *,
    reason: str,
    canary: int = 0,
    share: float = 0.0,
    mirror: float = 0.0,
) -> Transition:
    entered = msgspec.structs.replace(
        state,
        phase=phase,
        canary=canary,
        share=share,
        mirror=mirror,
        stage_started=now,
        awaits=None,
        reason=reason,
    )
    return Transition(state=entered, action="set_route", reason=reason)


def _promote(state: Rollout, now: float, reason: str) -> Transition:
    promoted = msgspec.structs.replace(
        state, phase="promoted", share=1.0, mirror=0.0, ended=now, paused_at=None, reason=reason
    )
    return Transition(state=promoted, action="promote", reason=reason)


def _abort(state: Rollout, now: float, reason: str) -> Transition:
    aborted = msgspec.structs.replace(
        state, phase="aborted", share=0.0, mirror=0.0, ended=now, paused_at=None, reason=reason
    )
    return Transition(state=aborted, action="rollback", reason=reason)
