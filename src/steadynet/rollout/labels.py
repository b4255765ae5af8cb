"""The judge's signal that needs labels: the difference of losses. See `judge` for its law."""

from __future__ import annotations

import math
from statistics import NormalDist

import msgspec

from steadynet.rollout.evidence import Evidence, LabelledLoss, Outcome, Signal
from steadynet.rollout.wording import broken, no_data, signed
from steadynet.spec.model import RolloutSpec
from steadynet.statistics.sequential import (
    FEWEST_VALUES,
    Bounds,
    mean_bounds,
    mean_difference_bounds,
)

LABELS_ALPHA_SHARE = 0.25
"""Share of the plan's alpha that belongs to labels: one signal of four."""
FEWEST_TO_LEAN = 30
"""Labelled rows before they can hold a rollout up."""


def judge_labels(plan: RolloutSpec, evidence: Evidence) -> Signal:
    """Compare losses on labelled rows.

    Critical where the plan requires labels, where they lean against the challenger, and (until
    the stage's time is up) where they come in the shadow.
    """
    losses = evidence.labels
    n = losses.paired.n + losses.challenger.n
    enough = n >= plan.min_labels
    signal = Signal(
        name="labels",
        outcome="not_yet",
        tolerance=plan.loss_tolerance * evidence.loss_unit,
        challenger_n=n,
        champion_n=losses.paired.n + losses.champion.n,
        critical=not enough,
        sentence=no_data("labelled rows", n, plan.min_labels or None),
    )
    if not all(part.finite for part in (losses.paired, losses.challenger, losses.champion)):
        return msgspec.structs.replace(signal, critical=True, sentence=broken("losses"))
    estimate = _estimate(losses)
    if estimate is None:
        return signal
    difference, error = estimate
    low, high = _bounds(losses, plan, evidence.loss_unit)
    outcome: Outcome = "not_yet"
    if low > signal.tolerance:
        outcome = "fail"
    elif high < signal.tolerance and enough:
        outcome = "pass"
    undecided = outcome == "not_yet" and n >= FEWEST_TO_LEAN
    leans = undecided and difference > signal.tolerance + error
    waits = undecided and enough and not leans and evidence.stage == "shadow"
    return msgspec.structs.replace(
        signal,
        outcome=outcome,
        estimate=difference,
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        critical=not enough or leans or waits,
        patient=waits,
        sentence=_sentence(difference, (low, high), signal.tolerance, leans=leans),
    )


def shown_better(plan: RolloutSpec, evidence: Evidence) -> bool:
    """Tell whether labels show a smaller loss: live, or held out and not contradicted live."""
    losses = evidence.labels
    parts = (losses.paired, losses.challenger, losses.champion, losses.holdout)
    if not all(part.finite for part in parts):
        return False
    low, high = _bounds(losses, plan, evidence.loss_unit)
    if high < 0 or low > 0:
        return high < 0
    estimate = _estimate(losses)
    contradicted = estimate is not None and estimate[0] > estimate[1]
    if contradicted or losses.holdout.n < FEWEST_VALUES:
        return False
    # Held-out rows are one sample, looked at once, so the bound of a fixed sample holds.
    error = math.sqrt(losses.holdout.variance / losses.holdout.n)
    return losses.holdout.mean + NormalDist().inv_cdf(1 - plan.alpha) * error < 0


def leans_better(evidence: Evidence) -> bool:
    """Tell whether labels, live or else held out, so far speak for the challenger."""
    losses = evidence.labels
    if not all(part.finite for part in (losses.paired, losses.challenger, losses.champion)):
        return False
    estimate = _estimate(losses)
    if estimate is not None:
        return estimate[0] < 0
    return losses.holdout.n >= FEWEST_TO_LEAN and losses.holdout.total < 0


def _estimate(losses: LabelledLoss) -> tuple[float, float] | None:
    """Return the difference of mean losses and its standard error, from the surer comparison."""
    found = []
    if losses.paired.n >= 2:
        found.append((losses.paired.mean, math.sqrt(losses.paired.variance / losses.paired.n)))
    if losses.challenger.n >= 2 and losses.champion.n >= 2:
        arms = (losses.challenger, losses.champion)
        error = math.sqrt(sum(arm.variance / arm.n for arm in arms))
        found.append((losses.challenger.mean - losses.champion.mean, error))
    return min(found, key=lambda pair: pair[1]) if found else None


def _bounds(losses: LabelledLoss, plan: RolloutSpec, unit: float) -> Bounds:
    """Intersect the bounds of paired and of unpaired rows, each with half of the alpha.

    Infinite where rows are too few.
    """
    low, high = -math.inf, math.inf
    sides = {
        "alpha_low": plan.alpha * LABELS_ALPHA_SHARE / 2,
        "alpha_high": plan.alpha / 2,
        "unit": unit,
    }
    if losses.paired.n >= FEWEST_VALUES:
        low, high = mean_bounds(losses.paired, **sides)
    if min(losses.challenger.n, losses.champion.n) >= FEWEST_VALUES:
        other = mean_difference_bounds(losses.challenger, losses.champion, **sides)
        low, high = max(low, other[0]), min(high, other[1])
    return low, high


def _sentence(difference: float, bounds: Bounds, tolerance: float, *, leans: bool) -> str:
    low, high = bounds
    if math.isinf(low):
        text = f"loss differs by {signed(difference)}, on too few labelled rows to bound it"
    else:
        text = f"loss differs by between {signed(low)} and {signed(high)}"
    text = f"{text}, tolerance {signed(tolerance)}"
    return f"{text}; it leans against the challenger" if leans else text
