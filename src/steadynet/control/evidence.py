"""From what was observed to what the judge is told. Pure."""

from __future__ import annotations

import msgspec

from steadynet.bundle.profile import Profile
from steadynet.control.facts import RolloutNotes
from steadynet.control.label_tally import LabelTally
from steadynet.control.tally import Tally
from steadynet.monitoring.latency import bucket_bounds_s, quantile, slower_than
from steadynet.monitoring.windows import LATENCY_BUCKETS, Role, Window
from steadynet.rollout.evidence import Arm, Evidence, PairedScores
from steadynet.rollout.state import Rollout
from steadynet.spec.kinds import Task
from steadynet.spec.model import Slo

TAIL_SHARE = 0.99
FEWEST_FOR_TAIL = 1000
"""Requests before a 99th percentile is worth comparing with."""


class Yardstick(msgspec.Struct, frozen=True, kw_only=True):
    """What differences are measured with: the champion's promises and reference distributions."""

    slo: Slo
    classification: bool
    score_unit: float
    loss_unit: float
    output_edges: tuple[float, ...] = ()
    """Inner edges of the champion's output histogram."""


def yardstick(task: Task, slo: Slo, profile: Profile) -> Yardstick:
    """Return the champion's yardstick."""
    classification = task != "regression"
    return Yardstick(
        slo=slo,
        classification=classification,
        score_unit=1.0 if classification else (profile.output.deviation or 1.0),
        loss_unit=profile.loss_deviation or 1.0,
        output_edges=profile.output.edges,
    )


def arm_of(window: Window, slo: Slo, *, tail_s: float = 0.0, edges: tuple[float, ...] = ()) -> Arm:
    """Return what a version did in a window; `edges` are those of its own output histogram."""
    return Arm(
        requests=window.requests,
        faults=sum(window.errors.values()),
        timed=sum(window.latency),
        slow=slower_than(window.latency, slo.latency_ms / 1000),
        tail=slower_than(window.latency, tail_s) if tail_s else 0.0,
        score=window.score,
        output=window.output,
        edges=edges,
    )


def usual_tail_s(window: Window) -> float:
    """Return the bound of the latency bucket that holds a window's 99th percentile, seconds.

    A bucket's bound, so that no request within a bucket has to be guessed at. 0 where too few
    requests were measured, or the percentile is beyond the last bound.
    """
    if sum(window.latency) < FEWEST_FOR_TAIL:
        return 0.0
    tail = quantile(window.latency, TAIL_SHARE)
    if tail is None:
        return 0.0
    bounds = (bucket_bounds_s(bucket)[1] for bucket in range(LATENCY_BUCKETS))
    return next((bound for bound in bounds if bound >= tail), 0.0)


def gather_evidence(
    rollout: Rollout, tally: Tally, labels: LabelTally, notes: RolloutNotes, unit: Yardstick
) -> Evidence:
    """Return the evidence on the rollout's present stage."""
    role: Role = "shadow" if rollout.stage == "shadow" else "challenger"
    treated = tally.of(rollout.challenger, role)
    control = tally.of(rollout.champion, "champion")
    return Evidence(
        stage=rollout.stage,
        share=rollout.share,
        challenger=arm_of(treated, unit.slo, tail_s=notes.tail_s, edges=notes.challenger_edges),
        champion=arm_of(control, unit.slo, tail_s=notes.tail_s, edges=unit.output_edges),
        tail_s=notes.tail_s,
        pairs=PairedScores(
            rows=treated.pairs.rows,
            disagreements=treated.pairs.disagreements,
            difference=treated.pairs.difference,
        ),
        labels=labels.losses,
        bias=labels.bias(len(notes.canary_starts)),
        slices=labels.slices,
        value=labels.value,
        classification=unit.classification,
        score_unit=unit.score_unit,
        loss_unit=unit.loss_unit,
    )
