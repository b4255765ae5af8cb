"""How answers to held-out rows compare: by the loss, or by the metric that the user named.

A metric such as AUC is no mean over rows. The error of a difference of two is then found by leaving
out blocks of rows (the jackknife, Quenouille 1956; Tukey 1958).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from steadynet.spec.losses import LESS_IS_BETTER
from steadynet.training.data import TargetCode
from steadynet.training.objective import row_losses
from steadynet.training.stopping import stopping_score

Floats = npt.NDArray[np.float64]

SMALLEST = 1e-7
BLOCKS = 20
"""Of the jackknife: rows are dealt to as many."""


class Apart(NamedTuple):
    """By how much one answer is worse than another."""

    worse_by: float
    error: float
    """Standard error of it, over rows."""


@dataclass(frozen=True, kw_only=True)
class HeldTruth:
    """Held-out rows, and what answers to them are judged by."""

    target: npt.NDArray[np.generic]
    """(n,)."""
    code: TargetCode
    weights: Floats | None = None
    """(n,), 1 on average; None: all rows count the same."""

    @property
    def by_loss(self) -> bool:
        """Whether answers are judged by the loss, which is a mean over rows."""
        return self.code.metric == "auto"

    @property
    def is_smooth(self) -> bool:
        """Whether the score moves with every answer, and not by jumps of ranks or labels."""
        return self.by_loss or self.code.metric in LESS_IS_BETTER

    def losses(self, answer: Floats) -> Floats:
        """Return each row's loss (n,) of answers (n, C)."""
        return held_losses(answer, self.target, self.code, self.weights)

    def score(self, answer: Floats) -> float:
        """Return what is made small: the mean loss, or the metric with its sign."""
        if self.by_loss:
            return float(self.losses(answer).mean())
        return self._metric(answer, np.arange(len(self.target)))

    def apart(self, answer: Floats, better: Floats) -> Apart:
        """Return by how much `answer` (n, C) is worse than `better` (n, C)."""
        if self.by_loss:
            return mean_apart(self.losses(answer) - self.losses(better))
        return self._jackknifed(
            lambda rows: self._metric(answer, rows) - self._metric(better, rows)
        )

    def _jackknifed(self, rise: Callable[[npt.NDArray[np.int64]], float]) -> Apart:
        rows = np.arange(len(self.target))
        left = np.array([rise(rows[rows % BLOCKS != block]) for block in range(BLOCKS)])
        left = left[np.isfinite(left)]
        if len(left) < 2:
            return Apart(rise(rows), math.inf)
        variance = (len(left) - 1) / len(left) * np.square(left - left.mean()).sum()
        return Apart(rise(rows), math.sqrt(float(variance)))

    def _metric(self, answer: Floats, rows: npt.NDArray[np.int64]) -> float:
        own = answer[rows]
        if self.code.classes:
            own = own / np.array(self.code.class_weights)
            own = own / own.sum(axis=1, keepdims=True)
        weights = None if self.weights is None else self.weights[rows]
        return stopping_score(own, self.target[rows], self.code, weights)


def mean_apart(rises: Floats) -> Apart:
    """Return the mean of rows' rises of the loss (n,), with its error."""
    return Apart(float(rises.mean()), float(rises.std()) / math.sqrt(len(rises)))


def held_losses(
    answer: Floats,
    target: npt.NDArray[np.generic],
    code: TargetCode,
    weights: Floats | None = None,
) -> Floats:
    """Return each row's loss (n,) of answers (n, C), class weights divided out.

    Losses are multiplied by `weights` (n,), 1 on average: their mean is the weighted mean.
    """
    losses = _plain_losses(answer, target, code)
    return losses if weights is None else losses * weights


def _plain_losses(answer: Floats, target: npt.NDArray[np.generic], code: TargetCode) -> Floats:
    if not code.classes:
        coded = torch.from_numpy(code.encode(target))
        losses: Floats = row_losses(torch.from_numpy(answer), coded, code).numpy()
        return losses
    even = answer / np.array(code.class_weights)
    even = np.maximum(even / even.sum(axis=1, keepdims=True), SMALLEST)
    wanted = torch.from_numpy(target.astype(np.int64))
    found: Floats = row_losses(torch.from_numpy(even), wanted, code).numpy()
    return found
