"""What recalibrating alone would bring on labelled rows, measured on rows it was not fitted on.

Classes: the logarithms of the probabilities are scaled by one number and shifted per class, which
holds temperature scaling (Guo et al. 2017, arXiv:1706.04599) and, for two classes, Platt's (1999)
scaling. Numbers: a line by least squares; a quantile: a shift. None of them changes the order of
rows by much, so what they mend is calibration and no more.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FOLDS = 5
STEPS = 30
RIDGE = 1e-3
"""Pull towards changing nothing, per row; it decides where the rows do not."""
SMALLEST = 1e-6
CLOSE = 1e-6

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]


def recalibrated_probabilities(target: Classes, probabilities: Floats) -> Floats:
    """Return probabilities (N, C), each row's by a fit on the other folds' rows."""
    logs = np.log(np.maximum(probabilities, SMALLEST))
    fold = np.arange(len(target)) % FOLDS
    found = np.empty_like(logs)
    for number in range(FOLDS):
        held = fold == number
        scale, shift = fit_scaling(target[~held], logs[~held])
        found[held] = _softmax(scale * logs[held] + shift)
    return found


def fit_scaling(target: Classes, logs: Floats) -> tuple[float, Floats]:
    """Return scale and shifts (C,) that minimise the log-loss of `softmax(scale * logs + shift)`.

    Newton's method with halved steps where a whole one would raise the convex loss; `logs` is
    (N, C).
    """
    rows, classes = logs.shape
    truth = np.eye(classes)[target]
    parameters = np.concatenate([[1.0], np.zeros(classes)])
    start = parameters.copy()
    ridge = RIDGE * np.eye(classes + 1)
    # z = design @ parameters for each class: its log-probability, and a one in its own place.
    design = np.concatenate(
        [logs[:, :, None], np.broadcast_to(np.eye(classes), (rows, classes, classes))], axis=2
    )

    def objective(at: Floats) -> float:
        p = _softmax(design @ at)
        chosen = np.maximum(p[np.arange(rows), target], 1e-300)
        return float(-np.log(chosen).mean() + RIDGE / 2 * np.square(at - start).sum())

    best = objective(parameters)
    for _ in range(STEPS):
        p = _softmax(design @ parameters)
        mean = np.einsum("nc,ncd->nd", p, design)
        gradient = np.einsum("nc,ncd->d", p - truth, design) / rows
        second = np.einsum("nc,ncd,nce->de", p, design, design) - mean.T @ mean
        pull = RIDGE * (parameters - start)
        step = np.linalg.solve(second / rows + ridge, gradient + pull)
        while float(np.abs(step).max()) > CLOSE and objective(parameters - step) > best:
            step = step / 2
        parameters = parameters - step
        best = objective(parameters)
        if float(np.abs(step).max()) <= CLOSE:
            break
    return float(parameters[0]), parameters[1:]


def recalibrated_numbers(target: Floats, prediction: Floats, quantile: float | None) -> Floats:
    """Return predictions (N,), each row's by a fit on the other folds' rows."""
    fold = np.arange(len(target)) % FOLDS
    found = np.empty(len(target))
    for number in range(FOLDS):
        held = fold == number
        own, truth = prediction[~held], target[~held]
        if quantile is not None:
            found[held] = prediction[held] + np.quantile(truth - own, quantile)
            continue
        spread = float(own.var())
        slope = 1.0
        if spread > 0:
            slope = float(((own - own.mean()) * (truth - truth.mean())).mean()) / spread
        found[held] = truth.mean() + slope * (prediction[held] - own.mean())
    return found


def _softmax(values: Floats) -> Floats:
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    result: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return result
