"""A head fitted anew on the answers of a network that stays."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import optimize

from steadynet.export.head import ClassificationHead, Head, RegressionHead, in_unit
from steadynet.spec.model import CalibrationSpec, Spec
from steadynet.table.schema import Schema
from steadynet.training.calibrate import Calibration, calibrate
from steadynet.training.conformal import fit_interval
from steadynet.training.data import TargetCode
from steadynet.training.record import TrainingFile

Floats = npt.NDArray[np.float64]


def fitted_calibration(asked: CalibrationSpec, head: Head) -> CalibrationSpec:
    """Return what is fitted of what is asked: a number's interval has one width.

    What tells another width by row, trees or groups, stays with the network's own fit.
    """
    if isinstance(head, ClassificationHead):
        return asked
    return msgspec.structs.replace(asked, interval="constant")


def fit_head_anew(
    training: TrainingFile,
    blend: Floats,
    target: npt.NDArray[Any],
    spec: Spec,
    schema: Schema,
) -> Calibration:
    """Fit a head on the parent's answers (N, C) before its own head, and their targets (N,)."""
    old = training.head
    if isinstance(old, ClassificationHead):
        code = TargetCode(
            task=schema.target.task,
            outputs=len(old.classes),
            classes=len(old.classes),
            center=0.0,
            scale=1.0,
            class_weights=old.class_weights,
        )
        return calibrate(blend, target, code, old.classes, spec.calibration)
    plain = msgspec.structs.replace(old, adaptive=False, crossed=None, half_width=0.0)
    moved = _moved(plain, blend[:, 0], target.astype(np.float64), training)
    found = in_unit(blend[:, 0], moved)
    chosen = fitted_calibration(spec.calibration, moved)
    fitted = fit_interval(found, target.astype(np.float64), None, chosen)
    return Calibration(head=msgspec.structs.replace(moved, half_width=fitted.shape.half_width))


def _moved(
    head: RegressionHead, answer: Floats, target: Floats, training: TrainingFile
) -> RegressionHead:
    """Return the head whose predictions are in place again: what the loss predicts decides how.

    A mean is put in place by a line (least squares), behind a transform by a shift; a median or a
    quantile by a shift to as large a share of rows below it.
    """
    loss, level = training.training.loss, training.training.quantile
    if loss in ("quantile", "absolute"):
        beyond = head.inverse.undo(target) - (answer * head.scale + head.center)
        shift = float(np.quantile(beyond, 0.5 if level is None else level))
        return msgspec.structs.replace(head, center=head.center + shift)
    if head.inverse.kind != "identity":

        def missed(shift: float) -> float:
            moved = msgspec.structs.replace(head, center=head.center + shift)
            return float(in_unit(answer, moved).mean() - target.mean())

        reach = 5.0 * max(head.scale, 1.0)
        if missed(-reach) < 0 < missed(reach):
            shift = float(optimize.brentq(missed, -reach, reach))
            return msgspec.structs.replace(head, center=head.center + shift)
        return head
    spread = float(answer.var())
    covariance = float(((answer - answer.mean()) * (target - target.mean())).mean())
    slope = covariance / spread if spread > 0 else 0.0
    if slope <= 0:  # the order is lost: a line would turn it round
        slope = head.scale
    return msgspec.structs.replace(
        head, scale=slope, center=float(target.mean() - slope * answer.mean())
    )
