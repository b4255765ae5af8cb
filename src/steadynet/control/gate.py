"""The gate: challenger against champion on the same rows that neither was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from steadynet.bundle.profile import Profile
from steadynet.control.gate_checks import cost_problems, wrong_answers
from steadynet.control.labels import moments_of, truth_of
from steadynet.control.retrain_plan import FEWEST_HELD_OUT, GateReport
from steadynet.control.slices import make_slicer
from steadynet.control.store import LabelledRow
from steadynet.errors import GateFailed
from steadynet.runtime.metrics import (
    classification_metrics,
    per_row_loss,
    regression_metrics,
)
from steadynet.runtime.predictor import Predictor
from steadynet.spec.model import Spec
from steadynet.table.schema import Target

Z_95 = 1.959964
"""Two-sided 95 % of a normal distribution: the gate looks once, so no sequence is needed."""
SLICE_ALPHA = 0.05
"""Chance that an equal challenger fails for one of its slices, however many there are."""
FEWEST_OF_SLICE = 30

CALIBRATION_SLACK = 0.02
GOOD_CALIBRATION = 0.05
"""Calibration error that is good enough whatever the champion's is."""
CALIBRATION_METRIC = MappingProxyType({"binary": "ece", "multiclass": "ece"})

Floats = npt.NDArray[np.float64]


def compare(
    challenger: Predictor,
    champion: Predictor,
    rows: Sequence[LabelledRow],
    spec: Spec,
    profile: Profile,
) -> GateReport:
    """Judge the challenger on labelled rows. Raises `GateFailed` where there are too few.

    It passes where its mean loss is shown to be no more than `rollout.loss_tolerance` above the
    champion's (paired differences, normal interval of 95 %), it is not worse calibrated, no slice
    of `rollout.slices` is shown to be worse, it costs not much more, and it gives the answers that
    must stay right.
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
    unit = profile.loss_deviation or 1.0
    tolerance = spec.rollout.loss_tolerance * unit
    problems = [
        *_problems(target, new, old, (mean, mean + half), tolerance),
        *_slice_problems(spec, profile, kept, difference),
        *cost_problems(challenger, champion, [item.row.row for item in kept[:1]], spec.heal),
        *wrong_answers(challenger, spec.heal.must_stay_right),
    ]
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


def _slice_problems(
    spec: Spec, profile: Profile, rows: Sequence[LabelledRow], difference: Floats
) -> list[str]:
    """Name the slices that are shown to be worse than `rollout.slice_tolerance` (Bonferroni over
    the slices; a slice of few rows can show nothing)."""
    slicer = make_slicer(spec.rollout.slices, profile)
    places: dict[str, list[int]] = {}
    for place, item in enumerate(rows):
        for name in slicer.slices_of(item.row.row):
            places.setdefault(name, []).append(place)
    large = {name: own for name, own in places.items() if len(own) >= FEWEST_OF_SLICE}
    tolerance = spec.rollout.slice_tolerance * (profile.loss_deviation or 1.0)
    found = []
    for name, own in sorted(large.items()):
        values = difference[own]
        z = NormalDist().inv_cdf(1 - SLICE_ALPHA / len(large))
        low = float(values.mean()) - z * float(values.std(ddof=1)) / math.sqrt(len(own))
        if low > tolerance:
            found.append(
                f"it is worse where {name} ({len(own)} rows, loss {values.mean():+.4f}, "
                f"at least {low:+.4f}, tolerance {tolerance:.4f})"
            )
    return found


def _measure(
    predictor: Predictor, target: Target, rows: Sequence[LabelledRow], truth: np.ndarray
) -> tuple[Floats, dict[str, float]]:
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
