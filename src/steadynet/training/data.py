"""What the fit loop works on: tensors of all rows, and the rows that each group is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from steadynet.features.run import Tensors
from steadynet.spec.kinds import Task
from steadynet.table.split import Split

ROWS_PER_FOLD = 10
"""Fewer rows to a fold say nothing about a fit."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """Row numbers per group, as many for every group.

    Invariant: no row that a group is held to is among those that it fits.
    """

    fit: Indices
    """(G, n)."""
    held: Indices
    """(G, m)."""

    @property
    def fitted(self) -> Indices:
        """Every row that some group fits, once."""
        return np.unique(self.fit)


@dataclass(frozen=True)
class TargetCode:
    """How the target became what the network is fitted to, and back."""

    task: Task
    outputs: int
    """The network's outputs: 1 for binary and regression, else the number of classes."""
    classes: int
    """0 for regression."""
    center: float
    scale: float
    """Regression: the fitted target is `(target - center) / scale`."""
    class_weights: tuple[float, ...]
    """Weight of each class in the loss, 1 on average over rows; empty for regression."""


@dataclass(frozen=True)
class TrainingData:
    """All rows on the device, indexed by the folds."""

    numbers: Tensor
    """float32 (N, D)."""
    categories: Tensor
    """int64 (N, K)."""
    target: Tensor
    """int64 class index, or the float32 standardised target (N,)."""
    code: TargetCode


def make_folds(split: Split, target: npt.NDArray[np.generic], groups: int, seed: int) -> Folds:
    """Return the split's own two parts for one group, else `groups` folds of both together.

    Folds are dealt in the order of the target, so that each holds its share of every class and of
    the whole range.
    """
    if groups == 1:
        return Folds(split.train[None], split.validation[None])
    pool = np.concatenate([split.train, split.validation])
    pool = np.random.default_rng(seed).permutation(pool)
    ordered = pool[np.argsort(target[pool], kind="stable")]
    share = len(ordered) // groups
    dealt = ordered[: share * groups].reshape(share, groups).T  # (G, share)
    rest = ordered[share * groups :]  # fewer than `groups` rows, fitted by all
    fit = [
        np.concatenate([*(dealt[other] for other in range(groups) if other != group), rest])
        for group in range(groups)
    ]
    return Folds(np.stack(fit), dealt)


def encode_for_fit(
    target: npt.NDArray[np.generic],
    task: Task,
    classes: int,
    fitted: Indices,
    *,
    balanced: bool,
    units: tuple[float, float] | None = None,
) -> TargetCode:
    """Choose units and class weights from the fitted rows alone, or keep a regression's `units`."""
    if task == "regression" and units is not None:
        return TargetCode(task, 1, 0, *units, ())
    if task == "regression":
        values = target[fitted].astype(np.float64)
        scale = float(values.std())
        return TargetCode(task, 1, 0, float(values.mean()), scale if scale > 0 else 1.0, ())
    counts = np.bincount(target[fitted].astype(np.int64), minlength=classes)
    weights = np.ones(classes)
    if balanced:
        weights = len(fitted) / (classes * np.maximum(counts, 1))
    outputs = 1 if classes == 2 else classes
    return TargetCode(task, outputs, classes, 0.0, 1.0, tuple(weights.tolist()))


def training_data(
    tensors: Tensors, target: npt.NDArray[np.generic], code: TargetCode, device: torch.device
) -> TrainingData:
    """Put all rows on the device, once."""
    if code.task == "regression":
        scaled = (target.astype(np.float64) - code.center) / code.scale
        coded = torch.from_numpy(scaled.astype(np.float32))
    else:
        coded = torch.from_numpy(target.astype(np.int64))
    return TrainingData(
        torch.from_numpy(tensors.numbers).to(device),
        torch.from_numpy(tensors.categories).to(device),
        coded.to(device),
        code,
    )
