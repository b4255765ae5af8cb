"""The judge's signal that needs labels: the difference of losses. See `judge` for its law."""

from __future__ import annotations

import math
from statistics import NormalDist

import msgspec

from steadynet.rollout.budget import signal_alpha
from steadynet.rollout.evidence import Evidence, LabelledLoss, Outcome, Signal
from steadynet.rollout.wording import broken, no_data, sequence, signed
from steadynet.spec.model import RolloutSpec
from steadynet.statistics.sequential import (
    FEWEST_VALUES,
    Bounds,
    mean_bounds,
    stratified_difference,
    stratified_difference_bounds,
)

CONTRADICTED_ERRORS = 1.0
"""Standard errors by which live labels must speak against held-out ones to outweigh them."""
OPPOSED_ERRORS = 2.0
"""The same, for a challenger that waits in the shadow, where waiting harms nobody."""
FEWEST_TO_LEAN = 30
"""Labelled rows before they can hold a rollout up."""


def judge_labels(plan: RolloutSpec, evidence: Evidence) -> Signal:
    """Compare losses on labelled rows.

    Critical where the plan requires labels, where they lean against the challenger, and (until
    the stage's time is up) where they come in the shadow.
    """
    losses = evidence.labels
    n = losses.paired.n + sum(stage.challenger.n for stage in losses.stages)
    enough = n >= plan.min_labels
    signal = Signal(
        name="labels",
        outcome="not_yet",
        tolerance=plan.loss_tolerance * evidence.loss_unit,
        challenger_n=n,
        champion_n=losses.paired.n + sum(stage.champion.n for stage in losses.stages),
        critical=not enough,
        sentence=no_data("labelled rows", n, plan.min_labels or None),
    )
    if not losses.finite:
        return msgspec.structs.replace(
            signal, outcome="broken", critical=True, sentence=broken("losses")
        )
    estimate = estimate_loss(losses)
    if estimate is None:
        return signal
    difference, error = estimate
    low, high = _live_bounds(plan, evidence)
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
    if not (losses.finite and losses.holdout.finite):
        return False
    low, high = _live_bounds(plan, evidence)
    if high < 0 or low > 0:
        return high < 0
    if losses.holdout.n < FEWEST_VALUES or _contradicted(losses, CONTRADICTED_ERRORS):
        return False
    # Held-out rows are one sample, looked at once, so the bound of a fixed sample holds.
    error = math.sqrt(losses.holdout.variance / losses.holdout.n)
    return losses.holdout.mean + NormalDist().inv_cdf(1 - plan.alpha) * error < 0


def leans_better(evidence: Evidence) -> bool:
    """Tell whether labels so far speak for the challenger: live, or held out and not
    contradicted live by more than chance often does in the first seconds."""
    losses = evidence.labels
    if not losses.finite:
        return False
    if losses.holdout.finite and losses.holdout.n >= FEWEST_TO_LEAN and losses.holdout.total < 0:
        return not _contradicted(losses, OPPOSED_ERRORS)
    estimate = estimate_loss(losses)
    return estimate is not None and estimate[0] < 0


def _contradicted(losses: LabelledLoss, errors: float) -> bool:
    """Tell whether the live difference of losses is so many standard errors above zero.

    Losses are skewed: a handful of rows of the common class differ by nearly the same small
    amount, so that their own spread makes them look sure. The error is therefore never taken
    smaller than as many of the held-out rows would give.
    """
    estimate = estimate_loss(losses)
    if estimate is None:
        return False
    n = max(losses.paired.n, sum(stage.challenger.n for stage in losses.stages))
    usual = math.sqrt(losses.holdout.variance / n)
    return estimate[0] > errors * max(estimate[1], usual)


def estimate_loss(losses: LabelledLoss) -> tuple[float, float] | None:
    """Return the difference of mean losses and its standard error, from the surer comparison."""
    found = []
    if losses.paired.n >= 2:
        found.append((losses.paired.mean, math.sqrt(losses.paired.variance / losses.paired.n)))
    arms = [(stage.challenger, stage.champion) for stage in losses.stages]
    difference, squared, n = stratified_difference(arms)
    if n:
        found.append((difference, math.sqrt(squared)))
    return min(found, key=lambda pair: pair[1]) if found else None


def bound_loss(losses: LabelledLoss, *, alpha_low: float, alpha_high: float, unit: float) -> Bounds:
    """Intersect the bounds of paired and of unpaired rows, each with half of the alphas.

    Infinite where rows are too few.
    """
    low, high = -math.inf, math.inf
    if losses.paired.n >= FEWEST_VALUES:
        low, high = mean_bounds(
            losses.paired, alpha_low=alpha_low / 2, alpha_high=alpha_high / 2, unit=unit
        )
    arms = [(stage.challenger, stage.champion) for stage in losses.stages]
    if arms and min(sum(pair[side].n for pair in arms) for side in (0, 1)) >= FEWEST_VALUES:
        other = stratified_difference_bounds(
            arms, alpha_low=alpha_low / 2, alpha_high=alpha_high / 2, unit=unit
        )
        low, high = max(low, other[0]), min(high, other[1])
    return low, high


def _live_bounds(plan: RolloutSpec, evidence: Evidence) -> Bounds:
    return bound_loss(
        evidence.labels,
        alpha_low=signal_alpha(plan),
        alpha_high=plan.alpha,
        unit=evidence.loss_unit,
    )


def _sentence(difference: float, bounds: Bounds, tolerance: float, *, leans: bool) -> str:
    low, high = bounds
    if math.isinf(low):
        bound = f"too few labelled rows to bound it, tolerance {signed(tolerance).lstrip('+')}"
    else:
        bound = sequence(low, high, tolerance)
    text = f"loss on labelled rows {signed(difference)} ({bound})"
    return f"{text}; it leans against the challenger" if leans else text
