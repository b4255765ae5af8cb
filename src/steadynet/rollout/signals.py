"""The judge's signals that need no labels: errors, latency, outputs. See `judge` for their law."""

from __future__ import annotations

import msgspec

from steadynet.rollout.evidence import Arm, Evidence, Outcome, PairedScores, Signal, SignalName
from steadynet.rollout.labels import leans_better, shown_better
from steadynet.rollout.wording import broken, no_data, points, signed
from steadynet.spec.model import RolloutSpec
from steadynet.statistics.sequential import (
    FEWEST_VALUES,
    Bounds,
    mean_bounds,
    mean_difference_bounds,
    rate_bounds,
    rate_difference_bounds,
)

SIGNALS = 4
"""Signals that share the plan's alpha equally."""
_USUAL_DISAGREEMENT = 0.1


def judge_errors(plan: RolloutSpec, challenger: Arm, control: Arm, alpha: float) -> Signal:
    """Compare the shares of requests with a version's own fault."""
    return _judge_rate(
        _undecided("errors", plan.error_tolerance),
        (float(challenger.faults), max(challenger.requests, challenger.faults)),
        (float(control.faults), max(control.requests, control.faults)),
        alpha=(alpha, plan.alpha),
        what="faulty requests",
    )


def judge_latency(plan: RolloutSpec, challenger: Arm, control: Arm, alpha: float) -> Signal:
    """Compare the shares of requests slower than the SLO."""
    return _judge_rate(
        _undecided("latency", plan.latency_tolerance),
        (min(challenger.slow, float(challenger.timed)), challenger.timed),
        (min(control.slow, float(control.timed)), control.timed),
        alpha=(alpha, plan.alpha),
        what="slow requests",
    )


def judge_outputs(plan: RolloutSpec, evidence: Evidence, control: Arm, alpha: float) -> Signal:
    """Judge the shift of the mean score and disagreement, and whether labels excuse them."""
    signal = _judge_mean_score(plan, evidence, control, alpha * 2 / 3)
    if evidence.classification and evidence.pairs.rows:
        signal = _worse_of(signal, _judge_disagreement(plan, evidence.pairs, alpha / 3))
    if signal.outcome == "pass" or signal.estimate is None:
        return signal
    if shown_better(plan, evidence):
        excuse = f"{signal.sentence}; no fault, since labels show a smaller loss"
        return msgspec.structs.replace(signal, outcome="pass", sentence=excuse)
    if evidence.stage == "shadow" and leans_better(evidence):
        respite = f"{signal.sentence}; labels speak for the challenger, but do not show it yet"
        return msgspec.structs.replace(signal, outcome="not_yet", sentence=respite)
    return signal


def decide(low: float, high: float, tolerance: float) -> Outcome:
    """Decide a signal where only more is worse."""
    if low > tolerance:
        return "fail"
    return "pass" if high < tolerance else "not_yet"


def _undecided(name: SignalName, tolerance: float) -> Signal:
    return Signal(name=name, outcome="not_yet", tolerance=tolerance, sentence="")


def _judge_rate(
    blank: Signal,
    treated: tuple[float, int],
    control: tuple[float, int],
    *,
    alpha: tuple[float, float],
    what: str,
) -> Signal:
    """Fill `blank` from the (sum, n) of two arms; `alpha` is for failing and for passing."""
    sized = msgspec.structs.replace(blank, challenger_n=treated[1], champion_n=control[1])
    if treated[1] == 0 or control[1] == 0:
        return msgspec.structs.replace(sized, sentence=no_data(what))
    tolerance = blank.tolerance
    low, high = rate_difference_bounds(
        treated,
        control,
        alpha_low=alpha[0],
        alpha_high=alpha[1],
        typical=min(0.5, max(tolerance, 1e-4)),
    )
    rates = treated[0] / treated[1], control[0] / control[1]
    return msgspec.structs.replace(
        sized,
        outcome=decide(low, high, tolerance),
        estimate=rates[0] - rates[1],
        low=low,
        high=high,
        sentence=(
            f"{what}: {points(rates[0])} against {points(rates[1])}, "
            f"difference between {points(low)} and {points(high)}, tolerance {points(tolerance)}"
        ),
    )


def _judge_mean_score(plan: RolloutSpec, evidence: Evidence, control: Arm, alpha: float) -> Signal:
    """Compare mean scores, paired where pairs exist, in both directions."""
    tolerance = plan.output_tolerance * evidence.score_unit
    paired, treated = evidence.pairs.difference, evidence.challenger.score
    sizes = (paired.n, paired.n) if paired.n else (treated.n, control.score.n)
    sized = msgspec.structs.replace(
        _undecided("outputs", tolerance), challenger_n=sizes[0], champion_n=sizes[1]
    )
    if not (paired.finite and treated.finite and control.score.finite):
        return msgspec.structs.replace(sized, sentence=broken("scores"))
    if min(sizes) < FEWEST_VALUES:
        few = no_data("scores", min(sizes), FEWEST_VALUES)
        return msgspec.structs.replace(sized, sentence=few)

    def bounds(one_side: float) -> Bounds:
        sides = {"alpha_low": one_side, "alpha_high": one_side, "unit": evidence.score_unit}
        if paired.n:
            return mean_bounds(paired, **sides)
        return mean_difference_bounds(treated, control.score, **sides)

    low, high = bounds(alpha / 2)
    outcome: Outcome = "fail" if low > tolerance or high < -tolerance else "not_yet"
    if outcome == "not_yet":
        narrow = bounds(plan.alpha)
        if -tolerance < narrow[0] and narrow[1] < tolerance:
            outcome, (low, high) = "pass", narrow
    return msgspec.structs.replace(
        sized,
        outcome=outcome,
        estimate=paired.mean if paired.n else treated.mean - control.score.mean,
        low=low,
        high=high,
        sentence=(
            f"mean score moved by between {signed(low)} and {signed(high)}, "
            f"tolerance {signed(tolerance).lstrip('+')} either way"
        ),
    )


def _judge_disagreement(plan: RolloutSpec, pairs: PairedScores, alpha: float) -> Signal:
    """Bound the share of rows on which the two versions give another label."""
    tolerance = plan.disagreement_tolerance
    disagreements = min(pairs.disagreements, pairs.rows)
    low, high = rate_bounds(
        float(disagreements),
        pairs.rows,
        alpha_low=alpha,
        alpha_high=plan.alpha,
        typical=_USUAL_DISAGREEMENT,
    )
    share = disagreements / pairs.rows
    return msgspec.structs.replace(
        _undecided("outputs", tolerance),
        outcome=decide(low, high, tolerance),
        estimate=share,
        low=low,
        high=high,
        challenger_n=pairs.rows,
        champion_n=pairs.rows,
        sentence=(
            f"another label than the champion's on {points(share)} of rows, between "
            f"{points(low)} and {points(high)}, tolerance {points(tolerance)}"
        ),
    )


def _worse_of(a: Signal, b: Signal) -> Signal:
    """Return the signal that decides; the other's sentence is kept."""
    order: tuple[Outcome, ...] = ("fail", "not_yet", "pass")
    first, second = (a, b) if order.index(a.outcome) <= order.index(b.outcome) else (b, a)
    return msgspec.structs.replace(first, sentence=f"{first.sentence}; {second.sentence}")
