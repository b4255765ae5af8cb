"""Decisions as sentences, with the numbers behind them. Pure."""

from __future__ import annotations

from steadynet.rollout.state import Rollout, Transition


def duration(seconds: float) -> str:
    """Return a length of time as people say it: 4 s, 12 min, 3.5 h, 2.0 days."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def stage_words(rollout: Rollout) -> str:
    """Return where a rollout stands: in the shadow, at 5 %, waiting for approval, …"""
    if rollout.phase == "pending":
        return "while it was loaded"
    if rollout.phase == "shadow":
        return "in the shadow"
    if rollout.phase == "awaiting_approval":
        return "waiting for approval"
    return f"at {100 * rollout.share:g} %"


def rollout_story(before: Rollout, transition: Transition) -> tuple[str, str]:
    """Return kind and sentence of the journal entry on a step of a rollout."""
    after = transition.state
    version = after.challenger
    took = duration((after.ended or after.stage_started) - before.started)
    at_stage = duration(max(0.0, (after.ended or after.stage_started) - before.stage_started))
    where = stage_words(before)
    if after.phase == "aborted":
        return (
            "rollout.aborted",
            f"version {version} was rolled back {where} after {at_stage}: {transition.reason}",
        )
    if after.phase == "promoted":
        became = f"version {version} became champion in place of {before.champion} after {took}"
        return "rollout.promoted", f"{became}: {transition.reason}"
    if after.stage_started < before.stage_started:
        return "rollout.clock", transition.reason
    if before.paused_at is None and after.paused_at is not None:
        return "rollout.paused", f"the rollout of version {version} was paused {where}"
    if before.paused_at is not None and after.paused_at is None:
        return "rollout.resumed", f"the rollout of version {version} goes on {where}"
    return "rollout.step", f"version {version} moved on: {transition.reason}"
