"""The rollout's state machine: `step` takes a state and what is seen, and returns the next state.

pending ─ workers loaded ─▶ shadow ─ pass ─▶ canary 0 ─ pass ─▶ … canary n-1 ─ pass ─▶ promoted
                                                                     └▶ awaiting_approval ─▲
(any of these) ─ fail, load failure, abort, time is up ─▶ aborted
"""

from __future__ import annotations

from typing import Literal

import msgspec

from steadynet.rollout.evidence import Verdict

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
    """Why something changed; empty where nothing did."""
