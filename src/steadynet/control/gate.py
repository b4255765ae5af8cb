"""The gate: challenger against champion on the same rows that neither was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType

import numpy as np

from steadynet.bundle.profile import Profile
from steadynet.control.labels import moments_of, truth_of
from steadynet.control.retrain_plan import FEWEST_HELD_OUT, GateReport
from steadynet.control.store import LabelledRow
from steadynet.errors import GateFailed
from steadynet.runtime.metrics import (
    classification_metrics,
    per_row_loss,
    regression_metrics,
)
from steadynet.runtime.predictor import Predictor
from steadynet.spec.model import RolloutSpec
from steadynet.table.schema import Target

Z_95 = 1.959964
"""Two-sided 95 % of a normal distribution: the gate looks once, so no sequence is needed."""

CALIBRATION_SLACK = 0.02
GOOD_CALIBRATION = 0.05
"""Calibration error that is good enough whatever the champion's is."""
CALIBRATION_METRIC = MappingProxyType({"binary": "ece", "multiclass": "ece"})


def compare(
    challenger: Predictor,
    champion: Predictor,
    rows: Sequence[LabelledRow],
    plan: RolloutSpec,
    profile: Profile,
) -> GateReport:
    """Judge the challenger on labelled rows. Raises `GateFailed` where there are too few.

    It passes where its mean loss is shown to be no more than `loss_tolerance` above the
    champion's (paired differences, normal interval of 95 %), and it is not worse calibrated.
    """
    target = champion.schema.target
    kept = [item for item in rows if truth_of(target, item.label) is not None]
    if len(kept) < FEWEST_HELD_OUT:
        raise GateFailed(
            "too few labelled rows are held out to compare the new version with the champion",
            expected=f"at least {FEWEST_HELD_OUT}",
            got=str(len(kept)),
        )
    truth = np.array([truth_of(target, item.label) for item in kept])
    new_loss, new = _measure(challenger, target, kept, truth)
    old_loss, old = _measure(champion, target, kept, truth)
    difference = new_loss - old_loss
    mean = float(difference.mean())
    half = Z_95 * float(difference.std(ddof=1)) / math.sqrt(len(kept))
    tolerance = plan.loss_tolerance * (profile.loss_deviation or 1.0)
    problems = _problems(target, new, old, (mean, mean + half), tolerance)
    name = "absolute error" if target.task == "regression" else "log-loss"
    numbers = (
        f"{name} {new_loss.mean():.4f} against {old_loss.mean():.4f} of the champion on "
        f"{len(kept)} rows, difference {mean:+.4f} (95 % interval {mean - half:+.4f} … "
        f"{mean + half:+.4f}, tolerance {tolerance:.4f})"
    )
    return GateReport(
        passed=not problems,
        sentence=f"{'; '.join(problems)}: {numbers}" if problems else numbers,
        rows=len(kept),
        challenger=new,
        champion=old,
        difference=moments_of(difference.tolist()),
        low=mean - half,
        high=mean + half,
        tolerance=tolerance,
    )


def _problems(
    target: Target,
    new: dict[str, float],
    old: dict[str, float],
    loss: tuple[float, float],
    tolerance: float,
) -> list[str]:
    problems = []
    mean, high = loss
    if mean > tolerance:
        problems.append("it is worse")
    elif high > tolerance:
        problems.append("it is not shown to be as good")
    metric = CALIBRATION_METRIC.get(target.task)
    if metric is not None:
        allowed = max(GOOD_CALIBRATION, old[metric] + CALIBRATION_SLACK)
        if new[metric] > allowed:
            problems.append(f"its calibration error is {new[metric]:.3f} (allowed {allowed:.3f})")
    return problems


def _measure(
    predictor: Predictor, target: Target, rows: Sequence[LabelledRow], truth: np.ndarray
) -> tuple[np.ndarray, dict[str, float]]:
    answers = predictor.run(predictor.decoder.rows([item.row.row for item in rows]))
    if target.task == "regression":
        prediction = answers["prediction"].astype(np.float64)
        return per_row_loss(truth, prediction), regression_metrics(truth, prediction)
    classes = truth.astype(np.int64)
    probabilities = answers["probabilities"]
    return (
        per_row_loss(classes, probabilities),
        classification_metrics(classes, probabilities, target.classes),
    )
