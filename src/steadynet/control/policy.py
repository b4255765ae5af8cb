"""When to train a new version by itself. Pure: from what is known to one decision.

Invariants:
- Nothing is started while a retrain or a rollout runs, within the cool-down of the last attempt,
  with too few labelled rows since the change, or after `max_failures` failures in a row.
- A person's request is bound by none of these but the first and the labelled rows.
- A model with further targets is never retrained: the new version would not predict them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from steadynet.spec.model import HealSpec

Outcome = Literal["running", "promoted", "failed"]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One retrain: from its start until its version was promoted or given up."""

    started: float
    """Seconds UTC."""
    outcome: Outcome
    reason: str = ""
    version: str = ""
    """The version that it registered, once it did."""


class HealView(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy looks at."""

    now: float
    """Seconds UTC."""
    drifted: tuple[str, ...] = ()
    """Features (or `output`) with sustained drift."""
    quality_lost: bool = False
    since: float | None = None
    """When the oldest of these began, seconds UTC."""
    labelled_rows: int = 0
    """Labelled rows answered since then; all of them where nothing began."""
    rollout_running: bool = False
    attempts: tuple[Attempt, ...] = ()
    """Oldest first."""
    requested: bool = False
    """Whether a person asked for it."""
    more_targets: tuple[str, ...] = ()
    """Further targets of the champion: their labels do not come back, so nothing can be trained."""


class HealDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, and why."""

    action: Literal["nothing", "wait", "heal", "stop"]
    reason: str
    """One sentence with its numbers; empty for `nothing`."""


def decide_heal(spec: HealSpec, view: HealView) -> HealDecision:
    """Return whether to train a new version now."""
    cause = _cause(spec, view)
    if cause is None:
        return HealDecision(action="nothing", reason="")
    if view.more_targets:
        named = ", ".join(map(repr, view.more_targets[:3]))
        return HealDecision(
            action="stop",
            reason=f"{cause}, but labels come back for the main target alone, not for {named}: "
            "train on a table that has them all, with `steadynet train`, and roll that out",
        )
    if any(attempt.outcome == "running" for attempt in view.attempts):
        return _wait(cause, "a retrain is running")
    if view.rollout_running:
        return _wait(cause, "a rollout is running")
    if not view.requested:
        failures = failures_in_a_row(view.attempts)
        if failures >= spec.max_failures:
            return HealDecision(
                action="stop",
                reason=f"{cause}, but the last {failures} retrains failed "
                f"(limit {spec.max_failures}): {view.attempts[-1].reason}",
            )
        left = _cooldown_left(spec, view)
        if left > 0:
            return _wait(cause, f"the cool-down lasts {left:.0f} s more")
    if view.labelled_rows < spec.min_labelled_rows:
        return _wait(
            cause,
            f"{view.labelled_rows} labelled rows are there and {spec.min_labelled_rows} are needed",
        )
    return HealDecision(action="heal", reason=f"{cause}; {view.labelled_rows} labelled rows")


def failures_in_a_row(attempts: tuple[Attempt, ...]) -> int:
    """Return how many of the newest attempts failed without another outcome between them."""
    count = 0
    for attempt in reversed(attempts):
        if attempt.outcome != "failed":
            break
        count += 1
    return count


def _cause(spec: HealSpec, view: HealView) -> str | None:
    if view.requested:
        return "a person asked for it"
    if not spec.enabled:
        return None
    causes = []
    if view.quality_lost and "quality" in spec.on:
        causes.append("quality is lost")
    if view.drifted and "drift" in spec.on:
        named = ", ".join(view.drifted[:3])
        more = f" and {len(view.drifted) - 3} more" if len(view.drifted) > 3 else ""
        causes.append(f"drift is sustained in {named}{more}")
    return " and ".join(causes) or None


def _cooldown_left(spec: HealSpec, view: HealView) -> float:
    if not view.attempts:
        return 0.0
    return view.attempts[-1].started + spec.cooldown_s - view.now


def _wait(cause: str, why: str) -> HealDecision:
    return HealDecision(action="wait", reason=f"{cause}, but {why}")
