"""Adversarial validation: can a model tell two sets of rows apart, and by which columns?"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from steadynet.doctor.folds import out_of_fold
from steadynet.doctor.report import Symptom
from steadynet.table.leak import area_under_roc

Floats = npt.NDArray[np.float64]

SHIFTED = 0.6
"""Area under the ROC curve from which the sets are worth a warning."""
TOLD_COLUMNS = 5


def tell_apart(
    cells: npt.NDArray[np.float32], second: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """Return the out-of-fold area under the ROC curve and its standard error.

    The error is Hanley and McNeil's (1982).
    """
    rows = np.arange(len(second))
    answers = out_of_fold(cells, second.astype(np.int64), rows, classes=2)
    area = area_under_roc(answers[:, 1], second.astype(np.float64))
    ones, zeros = int(second.sum()), int((~second).sum())
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = area * (1 - area) + (ones - 1) * (q1 - area**2) + (zeros - 1) * (q2 - area**2)
    return area, math.sqrt(max(variance, 0.0) / (ones * zeros))


def shift_symptoms(
    cells: npt.NDArray[np.float32],
    names: list[str],
    second: npt.NDArray[np.bool_],
    *,
    first_name: str,
    second_name: str,
) -> list[Symptom]:
    """Return what is to be said where `second` rows (N,) can be told from the others."""
    area, error = tell_apart(cells, second)
    if area - 2 * error < SHIFTED:
        return []
    single = {name: _single_area(cells[:, place], second) for place, name in enumerate(names)}
    telling = sorted(single, key=lambda name: -single[name])[:TOLD_COLUMNS]
    told = [f"{name} ({single[name]:.2f})" for name in telling if single[name] > 0.55]
    return [
        Symptom(
            level="warning",
            code="shift",
            message=(
                f"{second_name} can be told from {first_name}: area under the ROC curve "
                f"{area:.2f} ± {2 * error:.2f} (0.5 is chance)"
                + (f"; by {', '.join(told)}" if told else "")
            ),
            count=int(second.sum()),
            do="If rows come in the order of time, split by it (split.time_column): drift is near.",
        )
    ]


def _single_area(values: npt.NDArray[np.float32], second: npt.NDArray[np.bool_]) -> float:
    filled = np.where(np.isnan(values), -np.inf, values).astype(np.float64)
    area = area_under_roc(filled, second.astype(np.float64))
    return max(area, 1 - area)
