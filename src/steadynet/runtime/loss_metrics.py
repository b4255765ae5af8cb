"""Metrics that belong to a loss or to ordered classes, as functions of row weights. NumPy alone."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.spec.losses import Loss

SMALLEST_RATE = 1e-12

Floats = npt.NDArray[np.float64]
Measure = Callable[[Floats], dict[str, Floats]]


class MetricOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which metrics there are beside the common ones."""

    loss: Loss | None = None
    """What the fit made small."""
    ordered: bool = False
    """Whether the classes are ordered."""


def number_measure(truth: Floats, answer: Floats, loss: Loss | None) -> Measure:
    """Return the metrics of a loss of numbers (N,): none for the squared one, which has R².

    `d2` is the share of the loss that is less than the best constant's (Hastie, Tibshirani and
    Wainwright 2015): R² for another loss than the squared one.
    """
    if loss is None or loss.name == "squared":
        return lambda _: {}
    name, losses = _row_losses(truth, answer, loss)
    _, constant = _row_losses(truth, np.full_like(truth, _best_constant(truth, loss)), loss)
    below = (truth <= answer).astype(np.float64)

    def measure(weights: Floats) -> dict[str, Floats]:
        total = weights.sum(axis=1)
        own, base = weights @ losses, weights @ constant
        share = np.where(base > 0, 1 - own / np.where(base > 0, base, 1.0), np.nan)
        found = {"d2": share} if name is None else {name: own / total, "d2": share}
        if loss.name == "quantile":
            found["share_below"] = weights @ below / total
        return found

    return measure


def order_measure(truth: npt.NDArray[np.int64], decided: npt.NDArray[np.int64]) -> Measure:
    """Return `class_mae` and `kappa` of class indices (N,)."""
    count = int(max(truth.max(), decided.max())) + 1
    classes = np.arange(count)
    is_true = np.equal.outer(truth, classes).astype(np.float64)  # (N, C)
    is_decided = np.equal.outer(decided, classes).astype(np.float64)
    apart = np.square(np.subtract.outer(classes, classes)).astype(np.float64)
    off = np.abs(truth - decided).astype(np.float64)

    def measure(weights: Floats) -> dict[str, Floats]:
        total = weights.sum(axis=1)
        chance = np.einsum("ri,ij,rj->r", weights @ is_true, apart, weights @ is_decided) / total
        kappa = np.where(chance > 0, 1 - weights @ off**2 / np.where(chance > 0, chance, 1), np.nan)
        return {"class_mae": weights @ off / total, "kappa": kappa}

    return measure


def pinball(truth: Floats, answer: Floats, level: float) -> Floats:
    """Return each row's pinball loss (N,) (Koenker and Bassett 1978)."""
    short = truth - answer
    return np.maximum(level * short, (level - 1) * short)


def poisson_deviance(truth: Floats, answer: Floats) -> Floats:
    """Return each row's Poisson deviance (N,); answers are raised above 0."""
    rate = np.maximum(answer, SMALLEST_RATE)
    positive = np.where(truth > 0, truth, 1.0)
    deviance: Floats = 2 * (
        np.where(truth > 0, truth * np.log(positive / rate), 0.0) - truth + rate
    )
    return deviance


def _row_losses(truth: Floats, answer: Floats, loss: Loss) -> tuple[str | None, Floats]:
    """Return the metric's name, None where a common one says it already, and the rows' losses."""
    if loss.name == "quantile":
        return "pinball", pinball(truth, answer, loss.parameter)
    if loss.name == "poisson":
        return "poisson_deviance", poisson_deviance(truth, answer)
    return None, np.abs(truth - answer)


def _best_constant(truth: Floats, loss: Loss) -> float:
    if loss.name == "poisson":
        return float(truth.mean())
    return float(np.quantile(truth, loss.parameter if loss.name == "quantile" else 0.5))
