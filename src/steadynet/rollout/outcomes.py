"""The judge's signals of what really happened, beside the loss: calibration, slices, value.

None of them is waited for unless the plan calls `value` critical: labels come late, if at all.
"""

from __future__ import annotations

import math

import msgspec

from steadynet.rollout.budget import signal_alpha, stage_alpha
from steadynet.rollout.evidence import Evidence, Outcome, Signal
from steadynet.rollout.labels import bound_loss, estimate_loss
from steadynet.rollout.wording import broken, no_data, sequence, signed
from steadynet.spec.model import RolloutSpec
from steadynet.statistics.moments import Moments
from steadynet.statistics.sequential import (
    FEWEST_VALUES,
    Bounds,
    mean_bounds,
    stratified_difference,
    stratified_difference_bounds,
)


def judge_calibration(plan: RolloutSpec, evidence: Evidence) -> Signal:
    """Compare how far each version's mean score is from what happened, in either direction."""
    arms = evidence.bias.challenger, evidence.bias.champion
    unit = evidence.score_unit
    tolerance = plan.calibration_tolerance * unit
    blank = Signal(
        name="calibration",
        outcome="not_yet",
        tolerance=tolerance,
        challenger_n=arms[0].n,
        champion_n=arms[1].n,
        critical=False,
        sentence=no_data("labelled rows", min(arm.n for arm in arms), FEWEST_VALUES),
    )
    if not all(arm.finite for arm in arms):
        return msgspec.structs.replace(blank, outcome="broken", sentence=broken("scores"))
    if min(arm.n for arm in arms) < FEWEST_VALUES:
        return blank
    new, old = (_distance(arm, stage_alpha(plan) / 2, unit) for arm in arms)
    low, high = new[0] - old[1], new[1] - old[0]
    wide_new, wide_old = (_distance(arm, plan.alpha / 2, unit) for arm in arms)
    outcome: Outcome = "fail" if low > tolerance else "not_yet"
    if outcome == "not_yet" and wide_new[1] - wide_old[0] < tolerance:
        outcome, low, high = "pass", wide_new[0] - wide_old[1], wide_new[1] - wide_old[0]
    means = [arm.mean for arm in arms]
    return msgspec.structs.replace(
        blank,
        outcome=outcome,
        estimate=abs(means[0]) - abs(means[1]),
        low=low,
        high=high,
        sentence=(
            f"mean score off by {signed(means[0])} against {signed(means[1])} "
            f"({sequence(low, high, tolerance)})"
        ),
    )


def _distance(arm: Moments, alpha: float, unit: float) -> Bounds:
    """Bound the size of a mean, `alpha` for both ends together."""
    low, high = mean_bounds(arm, alpha_low=alpha / 2, alpha_high=alpha / 2, unit=unit)
    least = max(0.0, low, -high)
    return least, max(abs(low), abs(high))


def judge_slices(plan: RolloutSpec, evidence: Evidence) -> Signal:
    """Compare losses within each slice; the worst one is told. It can only fail."""
    tolerance = plan.slice_tolerance * evidence.loss_unit
    blank = Signal(
        name="slices",
        outcome="not_yet",
        tolerance=tolerance,
        critical=False,
        sentence=no_data("labelled rows of any slice"),
    )
    if not all(losses.finite for losses in evidence.slices.values()):
        return msgspec.structs.replace(blank, outcome="broken", sentence=broken("losses"))
    count = max(1, len(evidence.slices))
    bounds = {
        name: bound_loss(
            losses,
            alpha_low=signal_alpha(plan) / count,
            alpha_high=plan.alpha,
            unit=evidence.loss_unit,
        )
        for name, losses in evidence.slices.items()
    }
    known = {name: pair for name, pair in bounds.items() if math.isfinite(pair[0])}
    if not known:
        return blank
    worst = max(known, key=lambda name: known[name][0])
    low, high = known[worst]
    excluded = len(known) == len(bounds) and all(pair[1] < tolerance for pair in known.values())
    losses = evidence.slices[worst]
    estimate = estimate_loss(losses)
    return msgspec.structs.replace(
        blank,
        outcome="fail" if low > tolerance else "pass" if excluded else "not_yet",
        estimate=None if estimate is None else estimate[0],
        low=low,
        high=high,
        challenger_n=losses.paired.n + sum(stage.challenger.n for stage in losses.stages),
        champion_n=losses.paired.n + sum(stage.champion.n for stage in losses.stages),
        sentence=(
            f"loss where {worst}, the worst of {len(known)} slices "
            f"({sequence(low, high, tolerance)})"
        ),
    )


def judge_value(plan: RolloutSpec, evidence: Evidence) -> Signal:
    """Compare the mean of the callers' own number, in the direction that the plan calls worse."""
    worse = -1.0 if plan.value == "higher" else 1.0
    arms = [
        (_times(stage.challenger, worse), _times(stage.champion, worse)) for stage in evidence.value
    ]
    sizes = sum(pair[0].n for pair in arms), sum(pair[1].n for pair in arms)
    blank = Signal(
        name="value",
        outcome="not_yet",
        tolerance=plan.value_tolerance,
        challenger_n=sizes[0],
        champion_n=sizes[1],
        critical="value" in plan.critical,
        sentence=no_data("rows with a value", min(sizes), FEWEST_VALUES),
    )
    if not all(arm.finite for pair in arms for arm in pair):
        return msgspec.structs.replace(blank, outcome="broken", sentence=broken("values"))
    if min(sizes) < FEWEST_VALUES:
        return blank
    low, high = stratified_difference_bounds(
        arms, alpha_low=signal_alpha(plan), alpha_high=plan.alpha, unit=plan.value_tolerance
    )
    outcome: Outcome = "fail" if low > plan.value_tolerance else "not_yet"
    if high < plan.value_tolerance:
        outcome = "pass"
    return msgspec.structs.replace(
        blank,
        outcome=outcome,
        estimate=stratified_difference(arms)[0],
        low=low,
        high=high,
        sentence=(
            f"mean value worse by {signed(stratified_difference(arms)[0])} "
            f"({sequence(low, high, plan.value_tolerance)})"
        ),
    )


def _times(moments: Moments, sign: float) -> Moments:
    return Moments(moments.n, sign * moments.total, moments.squares)
