"""The judge's signals that need no labels: errors, latency, tail, outputs. See `judge`."""

from __future__ import annotations

import math

import msgspec

from steadynet.rollout.evidence import Arm, Evidence, Outcome, PairedScores, Signal, SignalName
from steadynet.rollout.labels import leans_better, shown_better
from steadynet.rollout.shape import largest_gap
from steadynet.rollout.wording import broken, no_data, points, sequence, signed
from steadynet.spec.model import RolloutSpec
from steadynet.statistics.sequential import (
    FEWEST_VALUES,
    Bounds,
    mean_bounds,
    mean_difference_bounds,
    rate_bounds,
    rate_difference_bounds,
)

_USUAL_DISAGREEMENT = 0.1


def judge_errors(plan: RolloutSpec, challenger: Arm, control: Arm, alpha: float) -> Signal:
    """Compare the shares of requests with a version's own fault."""
    return _judge_rate(
        _undecided("errors", plan.error_tolerance),
        (float(challenger.faults), max(challenger.requests, challenger.faults)),
        (float(control.faults), max(control.requests, control.faults)),
        alpha=(alpha, plan.alpha),
        what="error rate",
    )


def judge_latency(plan: RolloutSpec, challenger: Arm, control: Arm, alpha: float) -> Signal:
    """Compare the shares of requests slower than the SLO."""
    return _judge_rate(
        _undecided("latency", plan.latency_tolerance),
        (min(challenger.slow, float(challenger.timed)), challenger.timed),
        (min(control.slow, float(control.timed)), control.timed),
        alpha=(alpha, plan.alpha),
        what="share of slow requests",
    )


def judge_tail(
    plan: RolloutSpec, evidence: Evidence, challenger: Arm, control: Arm, alpha: float
) -> Signal:
    """Compare the shares of requests slower than the champion's usual 99th percentile.

    That latency was fixed before the stage, so both arms are counted against the same number,
    whatever it is, and a longer tail shows as a larger share beyond it.
    """
    blank = _undecided("tail", plan.tail_tolerance)
    if not evidence.tail_s:
        unknown = "the champion's usual 99th percentile is not known yet"
        return msgspec.structs.replace(blank, sentence=unknown)
    return _judge_rate(
        blank,
        (min(challenger.tail, float(challenger.timed)), challenger.timed),
        (min(control.tail, float(control.timed)), control.timed),
        alpha=(alpha, plan.alpha),
        what=f"share of requests above {1000 * evidence.tail_s:.4g} ms",
    )


def judge_outputs(plan: RolloutSpec, evidence: Evidence, control: Arm, alpha: float) -> Signal:
    """Judge mean score, disagreement and shape, and whether labels excuse a difference."""
    signal = _judge_mean_score(plan, evidence, control, alpha / 2)
    if evidence.classification and evidence.pairs.rows:
        signal = _worse_of(signal, _judge_disagreement(plan, evidence.pairs, alpha / 4))
    shape = _judge_shape(plan, evidence.challenger, control, alpha / 4)
    if shape is not None:
        signal = _worse_of(signal, shape)
    if signal.outcome in ("pass", "broken") or signal.estimate is None:
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
    if not all(math.isfinite(total) and total >= 0 for total, _ in (treated, control)):
        return msgspec.structs.replace(sized, outcome="broken", sentence=broken(what))
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
            f"{what} {100 * (rates[0] - rates[1]):+.2f} % ({points(rates[0])} against "
            f"{points(rates[1])}, {100 * (1 - max(alpha)):g} % CS {100 * low:+.2f} … "
            f"{100 * high:+.2f}, tolerance {100 * tolerance:.2f})"
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
        return msgspec.structs.replace(sized, outcome="broken", sentence=broken("scores"))
    if min(sizes) < FEWEST_VALUES:
        few = no_data("scores", min(sizes), FEWEST_VALUES)
        return msgspec.structs.replace(sized, sentence=few)

    def bounds(one_side: float) -> Bounds:
        sides = {"alpha_low": one_side, "alpha_high": one_side, "unit": evidence.score_unit}
        if paired.n:
            return mean_bounds(paired, **sides)
        return mean_difference_bounds(treated, control.score, **sides)

    low, high = bounds(alpha / 2)
    moved = paired.mean if paired.n else treated.mean - control.score.mean
    outcome: Outcome = "fail" if low > tolerance or high < -tolerance else "not_yet"
    if outcome == "not_yet":
        narrow = bounds(plan.alpha)
        if -tolerance < narrow[0] and narrow[1] < tolerance:
            outcome, (low, high) = "pass", narrow
    return msgspec.structs.replace(
        sized,
        outcome=outcome,
        estimate=moved,
        low=low,
        high=high,
        sentence=(f"mean score {signed(moved)} ({sequence(low, high, tolerance)} either way)"),
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


def _judge_shape(plan: RolloutSpec, challenger: Arm, control: Arm, alpha: float) -> Signal | None:
    """Fail where many answers have moved across one score, whatever their mean does.

    It can only fail: bins are coarse, so a gap within tolerance is seldom excluded. None where
    there is nothing to compare.
    """
    gap = largest_gap(challenger, control, alpha=alpha)
    if gap is None:
        return None
    tolerance = plan.distribution_tolerance
    shown = gap.low > tolerance
    return msgspec.structs.replace(
        _undecided("outputs", tolerance),
        outcome="fail" if shown else "pass",
        estimate=gap.estimate,
        low=gap.low,
        high=gap.high,
        challenger_n=sum(challenger.output),
        champion_n=sum(control.output),
        sentence=(
            f"{points(gap.challenger)} of answers are below {gap.at:.3g} against "
            f"{points(gap.champion)}, a gap of at least {points(max(0.0, gap.low))}, tolerance "
            f"{points(tolerance)}"
        ),
    )


def _worse_of(a: Signal, b: Signal) -> Signal:
    """Return the signal that decides; the other's sentence is kept."""
    order: tuple[Outcome, ...] = ("fail", "broken", "not_yet", "pass")
    first, second = (a, b) if order.index(a.outcome) <= order.index(b.outcome) else (b, a)
    return msgspec.structs.replace(first, sentence=f"{first.sentence}; {second.sentence}")
