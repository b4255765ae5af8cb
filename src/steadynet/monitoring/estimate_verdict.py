"""What estimates say of quality over several windows, and how far they were right. Pure.

One window's estimate is `lower` where its loss is shown above the test part's by what matters, `ok`
where it is not, `outside` or `unchecked` where there is none. The verdict becomes what
`drift_windows` windows in a row have said; the first window of a version is believed at once unless
it says `lower`. So a mix of scores that comes and goes changes nothing, and each change of the
verdict is one that a person may want to read. The alert rests on the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from steadynet.bundle.profile import Profile
from steadynet.monitoring.estimate import QualityEstimate, estimate_quality
from steadynet.monitoring.reconcile import EstimateRecord, PastEstimate, record_of
from steadynet.monitoring.reports import Condition, FeatureDrift
from steadynet.monitoring.runbooks import runbook_of
from steadynet.monitoring.windows import Window
from steadynet.spec.kinds import Task
from steadynet.spec.operating import MonitoringSpec

EstimateVerdict = Literal["not_yet", "ok", "lower", "outside", "unchecked"]


class EstimateState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one window's verdict passes to the next; a new champion begins with none."""

    verdict: EstimateVerdict = "not_yet"
    said: EstimateVerdict = "not_yet"
    """What the newest window says."""
    in_a_row: int = 0
    """Windows in a row that say so."""
    since: float | None = None
    """Start of the first of them, seconds UTC."""


class EstimateReport(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict on quality without labels."""

    verdict: EstimateVerdict
    estimate: QualityEstimate
    """Of the newest window, with its interval and its doubts."""
    tolerance: float
    """Rise of the loss, as a share of the test part's, from which quality is lower."""
    windows: int
    """Windows in a row that a verdict needs."""
    record: EstimateRecord | None
    """How right past estimates were, by the labels that came since; None while none can tell."""
    state: EstimateState = EstimateState()
    sentence: str = ""


def judge_estimate(
    profile: Profile,
    task: Task,
    window: Window,
    drifts: Sequence[FeatureDrift],
    plan: MonitoringSpec,
    state: EstimateState | None = None,
    past: Sequence[PastEstimate] = (),
) -> EstimateReport:
    """Estimate a window's quality and say what holds after it.

    `drifts` is what was said of the window's inputs, `state` what the window before it left, `past`
    the hours in which estimates were held against labels.
    """
    found = estimate_quality(profile, task, window, drifts)
    after = _advance(state or EstimateState(), _said_of(found, plan), window.start, plan)
    record = record_of(past)
    return EstimateReport(
        verdict=after.verdict,
        estimate=found,
        tolerance=plan.quality_loss_share,
        windows=plan.drift_windows,
        record=record,
        state=after,
        sentence=_sentence(after, found, plan, record),
    )


def is_worse(found: QualityEstimate, plan: MonitoringSpec) -> bool:
    """Tell whether the estimated loss is above the test part's by what matters, beyond chance."""
    loss = found.loss
    return loss is not None and (
        loss.low > loss.reference and loss.value >= (1 + plan.quality_loss_share) * loss.reference
    )


def estimate_condition(report: EstimateReport | None) -> Condition | None:
    """Return the condition that quality is estimated to be lost; None where it is not known."""
    if report is None or report.estimate.outcome != "estimated":
        return None
    found = report.estimate
    return Condition(
        key="quality/estimated",
        active=report.verdict == "lower",
        kind="ticket",
        cause="estimated quality",
        summary=f"quality is lower by the mix of scores alone. {found.sentence}",
        since=report.state.since if report.state.said == report.verdict else None,
        todo=runbook_of("quality/estimated").todo,
        details={name: metric.value for name, metric in found.metrics.items()},
    )


def _said_of(found: QualityEstimate, plan: MonitoringSpec) -> EstimateVerdict:
    if found.outcome != "estimated":
        return found.outcome
    return "lower" if is_worse(found, plan) else "ok"


def _advance(
    before: EstimateState, said: EstimateVerdict, start: float, plan: MonitoringSpec
) -> EstimateState:
    again = said == before.said
    in_a_row = before.in_a_row + 1 if again else 1
    first = before.verdict == "not_yet" and said != "lower"
    return EstimateState(
        verdict=said if first or in_a_row >= plan.drift_windows else before.verdict,
        said=said,
        in_a_row=in_a_row,
        since=before.since if again else start,
    )


def _sentence(
    state: EstimateState,
    found: QualityEstimate,
    plan: MonitoringSpec,
    record: EstimateRecord | None,
) -> str:
    """Say the verdict with the numbers and limits that it rests on."""
    asked = "" if record is None else f"; {record.sentence}"
    if state.said != "lower":
        return found.sentence + asked
    word = "quality is lower" if state.verdict == "lower" else "quality may be lower"
    return (
        f"{word} by the mix of scores alone, in {state.in_a_row} windows in a row (limit "
        f"{plan.drift_windows}, a loss shown above the test part's and "
        f"{100 * plan.quality_loss_share:g} % above): {found.sentence}{asked}"
    )
