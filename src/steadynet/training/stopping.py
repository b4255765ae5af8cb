"""What a fit stops by where the user names a metric: the less, the better."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from steadynet.runtime.metrics import classification_metrics, regression_metrics
from steadynet.spec.losses import LESS_IS_BETTER
from steadynet.training.data import TargetCode

Floats = npt.NDArray[np.float64]


def stopping_score(
    answer: Floats,
    target: npt.NDArray[np.generic],
    code: TargetCode,
    weights: Floats | None = None,
) -> float:
    """Return the score of answers (n, C), class weights divided out, by `code.metric`.

    `target` (n,) are class indices or numbers in their unit. Metrics of which more is better come
    with a minus sign; infinity where the metric is not defined, as AUC with one class.
    """
    if code.classes:
        names = [str(place) for place in range(code.classes)]
        decided = code.class_weights[0] / sum(code.class_weights) if code.classes == 2 else 0.5
        found = classification_metrics(
            target.astype(np.int64), answer, names, decision_threshold=decided, weights=weights
        )
    else:
        prediction = code.decode(answer[:, 0])
        found = regression_metrics(
            target.astype(np.float64), prediction, loss=code.loss, weights=weights
        )
    value = found[code.metric]
    if not math.isfinite(value):
        return math.inf
    return value if code.metric in LESS_IS_BETTER else -value
