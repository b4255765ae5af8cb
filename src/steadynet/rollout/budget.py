"""How the plan's alpha, the chance of failing an equal challenger, is shared out."""

from __future__ import annotations

from steadynet.rollout.evidence import SignalName
from steadynet.spec.model import RolloutSpec

ALWAYS: tuple[SignalName, ...] = ("errors", "latency", "outputs", "labels", "calibration")
"""Signals of every plan."""


def signals_of(plan: RolloutSpec) -> tuple[SignalName, ...]:
    """Return the signals that a plan is judged by, in the order in which they are told."""
    tailed: tuple[SignalName, ...] = ("tail",) if "tail" in plan.critical else ()
    sliced: tuple[SignalName, ...] = ("slices",) if plan.slices else ()
    valued: tuple[SignalName, ...] = ("value",) if plan.value != "none" else ()
    return (*ALWAYS, *tailed, *sliced, *valued)


def signal_alpha(plan: RolloutSpec) -> float:
    """Return what one signal may spend over the whole rollout."""
    return plan.alpha / len(signals_of(plan))


def stage_alpha(plan: RolloutSpec) -> float:
    """Return what a signal that begins anew in every stage may spend in one."""
    return signal_alpha(plan) / (len(plan.steps) + 1)
