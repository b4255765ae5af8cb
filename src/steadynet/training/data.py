"""What the fit loop works on: tensors of all rows, and the rows that each group is given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from steadynet.errors import SpecError
from steadynet.export.inverse import IDENTITY, Inverse
from steadynet.features.run import Tensors
from steadynet.spec.kinds import Task
from steadynet.spec.losses import Loss, MetricChoice, TransformName, choose_loss
from steadynet.table.split import Split
from steadynet.training.grouped import deal_together
from steadynet.training.samples import JUDGED_ROWS, thinned
from steadynet.training.transforms import MOST_BEYOND, inverse_of

ROWS_PER_FOLD = 10
"""Fewer rows to a fold say nothing about a fit."""

ROBUST = ("absolute", "huber", "quantile")
"""Losses whose units outliers must not decide: median and quartiles instead of mean and
deviation."""
NORMAL_QUARTILES = 1.349
"""Between the quartiles of a normal distribution, in deviations."""
LEAST_RATE = 12.0
"""Logarithm of how far below the mean count a prediction goes at most."""

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
ClassWeights = Literal["balanced"] | tuple[float, ...] | None
Units = tuple[float, float, Inverse]
"""Center, scale and inverse of a regression's target."""


@dataclass(frozen=True)
class Folds:
    """Row numbers per group, as many for every group.

    Invariant: no row that a group is held to is among those that it fits.
    """

    fit: Indices
    """(G, n)."""
    held: Indices
    """(G, m)."""

    @cached_property
    def fitted(self) -> Indices:
        """Every row that some group fits, once."""
        return np.unique(self.fit)

    def thinned(self, most: int) -> Folds:
        """Return folds of at most `most` rows to fit and to hold in each group."""
        return Folds(
            np.stack([thinned(rows, most) for rows in self.fit]),
            np.stack([thinned(rows, most) for rows in self.held]),
        )


@dataclass(frozen=True)
class TargetCode:
    """How the target becomes what is fitted, and an answer becomes a prediction."""

    task: Task
    outputs: int
    """The network's outputs: 1 for binary and regression, else the number of classes."""
    classes: int
    """0 for regression."""
    center: float
    scale: float
    """Regression: a prediction is `inverse(center + scale * answer)`."""
    class_weights: tuple[float, ...]
    """Weight of each class in the loss, 1 on average over rows; empty for regression."""
    own_loss: Loss | None = None
    """None: the task's default."""
    inverse: Inverse = IDENTITY
    """Regression: from the fitted scale to the target's unit."""
    metric: MetricChoice = "auto"
    """What a fit stops by on held-out rows; `auto` is the loss."""

    @property
    def loss(self) -> Loss:
        """What is made small."""
        return choose_loss("auto", self.task) if self.own_loss is None else self.own_loss

    def encode(self, target: npt.NDArray[np.generic]) -> Floats:
        """Return numbers (N,) as the loss compares them with answers.

        A count's answer is the logarithm of its mean beside the overall mean, its code the count
        itself in units of the overall mean.
        """
        values = target.astype(np.float64)
        if self.loss.name == "poisson":
            return values / math.exp(self.center)
        return (self.inverse.undo(values) - self.center) / self.scale

    def decode_target(self, coded: Floats) -> Floats:
        """Return the targets (N,) that `encode` was given."""
        if self.loss.name == "poisson":
            return coded * math.exp(self.center)
        return self.decode(coded)

    def decode(self, answer: Floats) -> Floats:
        """Return predictions (N,) in the target's unit of answers (N,)."""
        return self.inverse.apply(answer * self.scale + self.center)


@dataclass(frozen=True)
class FurtherTarget:
    """A target beside the main one, on the device. See `training.joint`."""

    code: TargetCode
    target: Tensor
    """As `TrainingData.target`; 0 where a row has no value."""
    known: Tensor
    """bool (N,): whether a row has a value."""
    first: int
    """Place of its first output among the network's."""
    unit: float
    """What the answer that ignores the row loses."""

    @property
    def outputs(self) -> slice:
        """Its outputs among the network's."""
        return slice(self.first, self.first + self.code.outputs)


@dataclass(frozen=True)
class TrainingData:
    """All rows on the device, indexed by the folds."""

    numbers: Tensor
    """float32 (N, D)."""
    categories: Tensor
    """int64 (N, K)."""
    target: Tensor
    """int64 class index, or the float32 standardised target (N,); the main target's."""
    code: TargetCode
    more: tuple[FurtherTarget, ...] = ()
    unit: float = 1.0
    """What the answer that ignores the row loses of the main target; 1 where it is alone."""
    taught: Tensor | None = None
    """float32 (N, C): a teacher's answers, for the rows that are fitted."""
    weights: Tensor | None = None
    """float32 (N,), what each row counts, 1 on average; None: all the same."""


def make_folds(
    split: Split,
    target: npt.NDArray[np.generic],
    groups: int,
    seed: int,
    *,
    together: Indices | None = None,
) -> Folds:
    """Return the split's own two parts for one group, else `groups` folds of both together.

    Folds are dealt in the order of the target, so that each holds its share of every class and of
    the whole range. With `together` (N,), rows of one of its values are in one fold.
    """
    if groups == 1:
        return Folds(split.train[None], thinned(split.validation, JUDGED_ROWS)[None])
    pool = np.concatenate([split.train, split.validation])
    if together is not None:
        return Folds(*deal_together(pool, together[pool], groups, seed))
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
    class_weights: ClassWeights = None,
    loss: Loss | None = None,
    units: Units | None = None,
    transform: TransformName = "none",
) -> TargetCode:
    """Choose units and class weights from the fitted rows alone, or keep a regression's `units`.

    `class_weights` is "balanced", or a weight per class. Raises `SpecError` where a loss cannot
    have such a target.
    """
    if task == "regression":
        if loss is not None and loss.name == "poisson":
            _check_counts(target)
        values = target.astype(np.float64)
        inverse = inverse_of(transform, values, values[fitted])
        return _encode_numbers(values[fitted], loss, units, inverse)
    counts = np.bincount(target[fitted].astype(np.int64), minlength=classes)
    weights = np.ones(classes)
    if class_weights == "balanced":
        weights = 1 / np.maximum(counts, 1)
    elif class_weights is not None:
        weights = np.asarray(class_weights, np.float64)
    weights = weights * len(fitted) / max(float(weights @ counts), 1e-12)
    outputs = 1 if classes == 2 else classes
    return TargetCode(task, outputs, classes, 0.0, 1.0, tuple(weights.tolist()), loss)


def _check_counts(target: npt.NDArray[np.generic]) -> None:
    below = int((target.astype(np.float64) < 0).sum())
    if below:
        raise SpecError(
            "training.loss is 'poisson', but the target is no count",
            expected="no value below 0",
            got=f"{below} of {len(target)} rows below 0",
            do='Take training.loss = "squared" or "huber".',
        )


def _encode_numbers(
    values: Floats, loss: Loss | None, units: Units | None, inverse: Inverse
) -> TargetCode:
    name = "squared" if loss is None else loss.name
    if name == "poisson":
        center = math.log(float(values.mean()) or 1.0)
        top = math.log(float(values.max()) or 1.0) + MOST_BEYOND
        inverse = Inverse(kind="exp", low=center - LEAST_RATE, high=top)
        if units is not None:
            center, _, inverse = units
        return TargetCode("regression", 1, 0, center, 1.0, (), loss, inverse)
    if units is not None:
        return TargetCode("regression", 1, 0, units[0], units[1], (), loss, units[2])
    values = inverse.undo(values)
    center, scale = float(values.mean()), float(values.std())
    if name in ROBUST:
        low, center, high = (float(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
        scale = (high - low) / NORMAL_QUARTILES or scale
    scale = scale if scale > 0 else 1.0
    return TargetCode("regression", 1, 0, center, scale, (), loss, inverse)


def training_data(
    tensors: Tensors,
    target: npt.NDArray[np.generic],
    code: TargetCode,
    device: torch.device,
    weights: Floats | None = None,
) -> TrainingData:
    """Put all rows on the device, once."""
    return TrainingData(
        torch.from_numpy(tensors.numbers).to(device),
        torch.from_numpy(tensors.categories).to(device),
        coded_target(target, code).to(device),
        code,
        weights=None
        if weights is None
        else torch.from_numpy(weights.astype(np.float32)).to(device),
    )


def coded_target(target: npt.NDArray[np.generic], code: TargetCode) -> Tensor:
    """Return what the network is fitted to (N,): int64 class indices, or coded float32."""
    if code.task == "regression":
        return torch.from_numpy(code.encode(target).astype(np.float32))
    return torch.from_numpy(target.astype(np.int64))
