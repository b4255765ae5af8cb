"""From what was observed to what the judge is told. Pure."""

from __future__ import annotations

import msgspec

from steadynet.bundle.profile import Profile
from steadynet.control.tally import Tally
from steadynet.monitoring.latency import slower_than
from steadynet.monitoring.windows import Role, Window
from steadynet.rollout.evidence import Arm, Evidence, LabelledLoss, PairedScores
from steadynet.rollout.state import Rollout
from steadynet.spec.kinds import Task
from steadynet.spec.model import Slo


class Yardstick(msgspec.Struct, frozen=True, kw_only=True):
    """What differences are measured with: the champion's promises and reference distributions."""

    slo: Slo
    classification: bool
    score_unit: float
    loss_unit: float


def yardstick(task: Task, slo: Slo, profile: Profile) -> Yardstick:
    """Return the champion's yardstick."""
    classification = task != "regression"
    return Yardstick(
        slo=slo,
        classification=classification,
        score_unit=1.0 if classification else (profile.output.deviation or 1.0),
        loss_unit=profile.loss_deviation or 1.0,
    )


def arm_of(window: Window, slo: Slo) -> Arm:
    """Return what a version did in a window."""
    return Arm(
        requests=window.requests,
        faults=sum(window.errors.values()),
        timed=sum(window.latency),
        slow=slower_than(window.latency, slo.latency_ms / 1000),
        score=window.score,
    )


def gather_evidence(
    rollout: Rollout, tally: Tally, labels: LabelledLoss, baseline: Arm, unit: Yardstick
) -> Evidence:
    """Return the evidence on the rollout's present stage."""
    role: Role = "shadow" if rollout.phase == "shadow" else "challenger"
    treated = tally.of(rollout.challenger, role)
    return Evidence(
        stage=rollout.stage,
        share=rollout.share,
        challenger=arm_of(treated, unit.slo),
        champion=arm_of(tally.of(rollout.champion, "champion"), unit.slo),
        baseline=baseline,
        pairs=PairedScores(
            rows=treated.pairs.rows,
            disagreements=treated.pairs.disagreements,
            difference=treated.pairs.difference,
        ),
        labels=labels,
        classification=unit.classification,
        score_unit=unit.score_unit,
        loss_unit=unit.loss_unit,
    )
