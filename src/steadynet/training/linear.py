"""The linear model that a network starts as, per group, fitted by scikit-learn.

A penalised linear model is hard to beat on a small table. The network therefore begins as one,
with the penalty chosen on held-out rows, and early stopping may keep it as it is.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from scipy.linalg import LinAlgWarning
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from steadynet.networks import TabularNetwork
from steadynet.spec.losses import Loss
from steadynet.training.data import Folds, TargetCode, TrainingData
from steadynet.training.objective import class_losses, number_losses
from steadynet.training.samples import REFERENCE_ROWS

Floats = npt.NDArray[np.float64]
ITERATIONS = 200
ROUNDS = 10
"""Of weighted least squares; a start need not be converged."""
SMALLEST_ERROR = 1e-2
"""In the target's deviations; smaller errors weigh no more."""
LARGEST_LOG_RATE = 8.0
NEWTON_SIZE = 300
"""Coefficients up to which Newton's steps, with their dense Hessian, are 10 to 30 times as fast as
L-BFGS."""
NEWTON_ITERATIONS = 15


def start_as_linear(
    network: TabularNetwork, data: TrainingData, folds: Folds, strengths: tuple[float, ...]
) -> float:
    """Fit every group's linear model, set the network's linear path to it, return the strength.

    At most `REFERENCE_ROWS` rows of each group are taken. The strength (inverse penalty) is the
    one with the least held-out loss over all groups. Every target has its own; the main one's is
    returned.
    """
    folds = folds.thinned(REFERENCE_ROWS)
    rows = np.unique(np.concatenate([folds.fit.ravel(), folds.held.ravel()]))
    folds = Folds(np.searchsorted(rows, folds.fit), np.searchsorted(rows, folds.held))
    taken = torch.from_numpy(rows).to(data.target.device)
    design, center, spread = design_matrix(
        data.numbers[taken].cpu().numpy(),
        data.categories[taken].cpu().numpy(),
        network.layout.cardinalities,
        folds.fitted,
    )
    everywhere = np.ones(len(rows), bool)
    counted = None if data.weights is None else data.weights[taken].cpu().numpy().astype(np.float64)
    best, models = _fit_target(
        design, data.target[taken].cpu().numpy(), everywhere, data.code, folds, strengths, counted
    )
    for further in data.more:
        target, known = further.target[taken].cpu().numpy(), further.known[taken].cpu().numpy()
        _, own = _fit_target(design, target, known, further.code, folds, strengths, counted)
        models = [
            (np.concatenate([weight, w], axis=1), np.concatenate([bias, b]))
            for (weight, bias), (w, b) in zip(models, own, strict=True)
        ]
    numbers = data.numbers.shape[1]
    for group, (weight, bias) in enumerate(models):
        unscaled = weight.copy()
        unscaled[:numbers] /= spread[:, None]
        moved = bias - center @ unscaled[:numbers]
        network.set_linear(
            group,
            torch.from_numpy(unscaled.astype(np.float32)),
            torch.from_numpy(moved.astype(np.float32)),
        )
    return best


def design_matrix(
    numbers: npt.NDArray[np.float32],
    categories: npt.NDArray[np.int64],
    cardinalities: tuple[int, ...],
    fitted: npt.NDArray[np.int64],
) -> tuple[sparse.csr_matrix, Floats, Floats]:
    """Return numbers beside one-hot categories (N, D + entries), sparse, and center and spread.

    Numbers are standardised by the center and spread (D,) of the fitted rows.
    """
    values = numbers.astype(np.float64)
    center = values[fitted].mean(axis=0)
    spread = values[fitted].std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    rows, count = categories.shape
    offsets = np.concatenate([[0], np.cumsum(cardinalities)])[:count].astype(np.int64)
    one_hot = sparse.csr_matrix(
        (np.ones(rows * count), (categories + offsets).ravel(), np.arange(rows + 1) * count),
        shape=(rows, sum(cardinalities)),
    )
    dense = sparse.csr_matrix((values - center) / spread)
    return sparse.hstack([dense, one_hot], format="csr"), center, spread


def _fit_target(
    design: sparse.csr_matrix,
    target: Floats,
    known: npt.NDArray[np.bool_],
    code: TargetCode,
    folds: Folds,
    strengths: tuple[float, ...],
    counted: Floats | None,
) -> tuple[float, list[tuple[Floats, Floats]]]:
    """Return one target's best strength, and weight (F, C) and bias (C,) for every group."""
    fit = [rows[known[rows]] for rows in folds.fit]
    held = [rows[known[rows]] for rows in folds.held]
    losses: dict[float, float] = {}
    fitted: dict[float, list[tuple[Floats, Floats]]] = {}
    for strength in strengths:
        models = [
            _fit(design[rows], target[rows], code, strength, _of(counted, rows)) for rows in fit
        ]
        fitted[strength] = models
        losses[strength] = sum(
            _loss(design[rows] @ weight + bias, target[rows], code, _of(counted, rows))
            for (weight, bias), rows in zip(models, held, strict=True)
            if len(rows)
        )
    best = min(strengths, key=lambda strength: losses[strength])
    return best, fitted[best]


def _fit(
    design: sparse.csr_matrix,
    target: Floats,
    code: TargetCode,
    strength: float,
    own: Floats | None,
) -> tuple[Floats, Floats]:
    """Return weight (F, C) and bias (C,)."""
    if len(target) == 0:  # no row of the fold has this target
        return np.zeros((design.shape[1], code.outputs)), np.zeros(code.outputs)
    if code.task == "regression":
        return fit_numbers(design, target, code, 1 / strength, own)
    weight = np.zeros((design.shape[1], code.outputs))
    bias = np.zeros(code.outputs)
    present = np.unique(target)
    if len(present) < 2:  # a fold without a second class has nothing to separate
        return weight, bias
    if design.shape[1] * code.outputs <= NEWTON_SIZE:
        design = design.toarray()
        model = LogisticRegression(
            C=strength, max_iter=NEWTON_ITERATIONS, tol=1e-5, solver="newton-cholesky"
        )
    else:
        model = LogisticRegression(C=strength, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        # A start that is not quite converged is as good a start.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", LinAlgWarning)  # L-BFGS then takes over
        weights = np.array(code.class_weights)[target]
        model.fit(design, target, sample_weight=weights if own is None else weights * own)
    if code.outputs == 1:
        return model.coef_.T, model.intercept_
    if len(present) == 2:  # of several classes: scikit-learn then gives one logit
        weight[:, present[1]] = model.coef_[0]
        bias[present[1]] = model.intercept_[0]
    else:
        weight[:, present] = model.coef_.T
        bias[present] = model.intercept_
    absent = np.setdiff1d(np.arange(code.outputs), present)
    bias[absent] = bias[present].min() - np.log(len(target) + 1)
    return weight, bias


def fit_numbers(
    design: sparse.csr_matrix,
    target: Floats,
    code: TargetCode,
    penalty: float,
    own: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Return weight (F, 1) and bias (1,) of the linear model of least loss, for coded targets.

    Losses other than the squared one are reached by least squares that are weighted anew each
    round (Holland and Welsch 1977; McCullagh and Nelder 1989 for counts). `own` weighs rows.
    """
    ridge = Ridge(alpha=penalty)
    if code.loss.name == "squared":
        ridge.fit(design, target, sample_weight=own)
        return ridge.coef_.reshape(-1, 1), np.atleast_1d(ridge.intercept_)
    response, weight = _working(np.zeros(len(target)), target, code.loss)
    for _ in range(ROUNDS):
        ridge.fit(design, response, sample_weight=weight if own is None else weight * own)
        response, weight = _working(ridge.predict(design), target, code.loss)
    bias = np.atleast_1d(ridge.intercept_)
    if code.loss.name in ("absolute", "quantile"):
        level = code.loss.parameter if code.loss.name == "quantile" else 0.5
        short = target - ridge.predict(design)
        bias = bias + weighted_quantile(short, level, own)
    return ridge.coef_.reshape(-1, 1), bias


def weighted_quantile(values: Floats, level: float, weights: Floats | None) -> float:
    """Return the smallest value with at least `level` of the weight at or below it."""
    if weights is None:
        return float(np.quantile(values, level))
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) >= level * weights.sum()
    return float(values[order][int(np.argmax(reached))])


def _working(outputs: Floats, target: Floats, loss: Loss) -> tuple[Floats, Floats]:
    """Return the response and the row weights (N,) of the next round of least squares."""
    short = target - outputs
    apart = np.maximum(np.abs(short), SMALLEST_ERROR)
    match loss.name:
        case "absolute":
            return target, 1 / apart
        case "quantile":
            return target, np.where(short > 0, loss.parameter, 1 - loss.parameter) / apart
        case "huber":
            return target, np.minimum(1.0, loss.parameter / apart)
        case "poisson":
            held = np.clip(outputs, -LARGEST_LOG_RATE, LARGEST_LOG_RATE)
            rate = np.exp(held)
            return held + (target - rate) / rate, rate
        case _:
            raise ValueError(f"no weighted least squares for {loss.name}")


def _of(weights: Floats | None, rows: npt.NDArray[np.int64]) -> Floats | None:
    return None if weights is None else weights[rows]


def _loss(outputs: Floats, target: Floats, code: TargetCode, own: Floats | None) -> float:
    """Return the mean loss of linear outputs (N, C)."""
    if code.task == "regression":
        wanted = torch.from_numpy(target)
        losses = number_losses(torch.from_numpy(outputs[:, 0].copy()), wanted, code)
        return float(np.average(losses.numpy(), weights=own))
    logits = outputs
    if code.outputs == 1:
        logits = np.concatenate([np.zeros_like(outputs), outputs], axis=1)
    logs = torch.log_softmax(torch.from_numpy(logits - np.log(code.class_weights)), dim=-1)
    losses = class_losses(logs, torch.from_numpy(target.astype(np.int64)), code)
    return float(np.average(losses.numpy(), weights=own))
