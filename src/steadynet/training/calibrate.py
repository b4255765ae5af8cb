"""Calibration on held-out rows: the head that is welded behind the network.

The held-out rows also chose the epoch at which the fit stopped, so calibration is a little
optimistic; the test part, which nothing is chosen on, tells by how much.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import optimize

from steadynet.errors import TrainingError
from steadynet.export.head import (
    ClassificationHead,
    Head,
    RegressionHead,
    calibrated,
    member_probabilities,
)
from steadynet.training.data import TargetCode

Floats = npt.NDArray[np.float64]

LOG_TEMPERATURE_BOUNDS = (math.log(0.2), math.log(10.0))
DECISION_THRESHOLD = 0.5
"""The label is the likelier class: with calibrated probabilities that errs least often. Who pays
more for one kind of error than for the other should decide on `probabilities`."""


def calibrate(
    members: npt.NDArray[np.float32],
    target: npt.NDArray[np.generic],
    code: TargetCode,
    classes: tuple[str, ...],
    coverage: float,
) -> Head:
    """Fit the head on held-out rows.

    `members` (N, M, C) are outputs of members that were not fitted on their row; `target` (N,) is
    the class index or the number itself. `coverage` (0 to 1) is promised by a regression's
    interval. Raises `TrainingError` where there are no rows.
    """
    if len(target) == 0:
        raise TrainingError(
            "there are no held-out rows to calibrate on",
            do="Raise split.validation_share.",
        )
    if code.task == "regression":
        prediction = members[:, :, 0].astype(np.float64).mean(axis=1) * code.scale + code.center
        return RegressionHead(
            center=code.center,
            scale=code.scale,
            half_width=conformal_half_width(np.abs(target - prediction), coverage),
        )
    head = ClassificationHead(
        classes=classes,
        temperature=1.0,
        class_weights=code.class_weights,
        threshold=DECISION_THRESHOLD if code.classes == 2 else None,
    )
    return fit_temperature(member_probabilities(members), target.astype(np.int64), head)


def fit_temperature(
    probabilities: Floats, target: npt.NDArray[np.int64], head: ClassificationHead
) -> ClassificationHead:
    """Return `head` with the temperature that has the least log-loss (Guo et al. 2017).

    `probabilities` (N, C) are averaged over members, before the class weights are divided out.
    """
    rows = np.arange(len(target))

    def at(log_temperature: float) -> ClassificationHead:
        return ClassificationHead(
            classes=head.classes,
            temperature=float(np.exp(log_temperature)),
            class_weights=head.class_weights,
            threshold=head.threshold,
        )

    def loss(log_temperature: float) -> float:
        chosen = calibrated(probabilities, at(log_temperature))[rows, target]
        return float(-np.log(np.maximum(chosen, 1e-300)).mean())

    found = optimize.minimize_scalar(loss, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded")
    return at(float(found.x)) if found.fun < loss(0.0) else at(0.0)


def conformal_half_width(residuals: Floats, coverage: float) -> float:
    """Return the half width that covers a new row with probability `coverage` or more.

    Split conformal prediction (Lei et al. 2018): the ceil((n + 1) * coverage)-th smallest absolute
    residual of n held-out rows that are exchangeable with the new one. Where n is too small for
    the promise the largest residual is returned, which promises n / (n + 1).
    """
    rank = math.ceil((len(residuals) + 1) * coverage)
    return float(np.sort(residuals)[min(rank, len(residuals)) - 1])
