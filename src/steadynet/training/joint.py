"""Several targets fitted by one network: each has its own outputs, all of them share the body.

The loss is the mean over targets of each one's loss as a share of what the answer that ignores the
row would lose, so that a rare class and a number in another unit count alike. A row that lacks a
value of a further target is fitted to the others alone (Caruana 1997, multitask learning). With
one target nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from steadynet.export.blend import average_members
from steadynet.features.run import Tensors
from steadynet.table.convert import Truth
from steadynet.training.comparing import held_losses
from steadynet.training.data import (
    FurtherTarget,
    TargetCode,
    TrainingData,
    coded_target,
    training_data,
)
from steadynet.training.objective import average, fit_loss, held_loss

Floats = npt.NDArray[np.float64]
SMALLEST_UNIT = 0.02
"""A target whose trivial loss is less (a class of one row in three hundred) is scaled no further:
its few rows would rule the fit."""


@dataclass(frozen=True)
class FitTarget:
    """One target of a fit, beside what the network answers of it."""

    name: str
    truth: Truth
    code: TargetCode
    first: int
    """Place of its first output among the network's."""
    unit: float
    """What the answer that ignores the row loses; 1 where it is the only target."""

    @property
    def outputs(self) -> slice:
        """Its outputs among the network's."""
        return slice(self.first, self.first + self.code.outputs)

    def answer(self, members: npt.NDArray[np.float32]) -> Floats:
        """Return its answer (N, C) of members' outputs (N, M, all outputs)."""
        return average_members(members[..., self.outputs], classes=self.code.classes > 0)


def fit_targets(
    names: Sequence[str],
    truths: Sequence[Truth],
    codes: Sequence[TargetCode],
    fitted: npt.NDArray[np.int64],
) -> tuple[FitTarget, ...]:
    """Put the targets' outputs one behind the other and choose the units of their losses."""
    made: list[FitTarget] = []
    first = 0
    for name, truth, code in zip(names, truths, codes, strict=True):
        unit = trivial_loss(truth, code, fitted) if len(names) > 1 else 1.0
        made.append(FitTarget(name, truth, code, first, unit))
        first += code.outputs
    return tuple(made)


def joint_data(
    tensors: Tensors,
    targets: Sequence[FitTarget],
    device: torch.device,
    weights: Floats | None = None,
) -> TrainingData:
    """Put all rows on the device, once, with every target."""
    main = targets[0]
    data = training_data(tensors, main.truth.values, main.code, device, weights)
    more = tuple(
        FurtherTarget(
            target.code,
            coded_target(target.truth.values, target.code).to(device),
            torch.from_numpy(target.truth.known).to(device),
            target.first,
            target.unit,
        )
        for target in targets[1:]
    )
    return replace(data, more=more, unit=main.unit)


def trivial_loss(truth: Truth, code: TargetCode, fitted: npt.NDArray[np.int64]) -> float:
    """Return the loss of the answer that ignores the row: an entropy, or 1 for a number's square.

    A number's is its center; classes' are their shares, as the weights of the loss make them.
    """
    known = truth.values[truth.among(fitted)]
    answer = np.zeros((len(known), 1))
    if code.classes:
        counts = np.bincount(known.astype(np.int64), minlength=code.classes)
        shares = counts * np.array(code.class_weights)
        answer = np.tile(shares / shares.sum(), (len(known), 1))
    return max(SMALLEST_UNIT, float(held_losses(answer, known, code).mean()))


def joint_fit_loss(outputs: Tensor, data: TrainingData, rows: Tensor) -> Tensor:
    """Return each group's loss (G,) of outputs (G, B, M, all outputs) for rows (G, B)."""
    weights = None if data.weights is None else data.weights[rows]
    if not data.more:
        return fit_loss(outputs, data.target[rows], data.code, weights)
    main = data.code.outputs
    losses = [fit_loss(outputs[..., :main], data.target[rows], data.code, weights) / data.unit]
    for further in data.more:
        own = outputs[..., further.outputs]

        def of_rows(own: Tensor, target: Tensor, code: TargetCode) -> Tensor:
            # Every row as a group of its own, so that the loss is one number a row.
            return fit_loss(own[:, None], target[:, None], code)

        losses.append(_over_known(own, further, rows, of_rows, weights))
    return torch.stack(losses).mean(0)


def joint_held_loss(outputs: Tensor, data: TrainingData, rows: Tensor) -> Tensor:
    """Return each group's loss (G,) of its members' averaged answers, for rows (G, m)."""
    main = average(outputs[..., : data.code.outputs], data.code)
    weights = None if data.weights is None else data.weights[rows]
    loss = held_loss(main, data.target[rows], data.code, weights)
    if not data.more:
        return loss
    losses = [loss / data.unit]
    for further in data.more:
        answers = average(outputs[..., further.outputs], further.code)

        def of_rows(own: Tensor, target: Tensor, code: TargetCode) -> Tensor:
            return held_loss(own[:, None], target[:, None], code)

        losses.append(_over_known(answers, further, rows, of_rows, weights))
    return torch.stack(losses).mean(0)


def joint_held_losses(
    members: npt.NDArray[np.float32],
    targets: Sequence[FitTarget],
    rows: npt.NDArray[np.int64],
    weights: Floats | None = None,
) -> Floats:
    """Return each held row's loss (n,) of members' outputs (n, M, all outputs).

    What rows lack is weighed by those that have it, so that the mean is the mean over targets.
    """
    total = np.zeros(len(rows))
    for target in targets:
        known = target.truth.known[rows]
        losses = held_losses(
            target.answer(members)[known],
            target.truth.values[rows][known],
            target.code,
            None if weights is None else weights[known],
        )
        total[known] += losses / target.unit / max(known.mean(), 1 / len(rows))
    return total / len(targets)


def _over_known(
    outputs: Tensor,
    further: FurtherTarget,
    rows: Tensor,
    of_rows: Callable[[Tensor, Tensor, TargetCode], Tensor],
    weights: Tensor | None,
) -> Tensor:
    """Return each group's mean loss (G,) over the rows that have a value, in its unit."""
    flat = of_rows(outputs.flatten(0, 1), further.target[rows].flatten(), further.code)
    known = further.known[rows].to(flat.dtype)
    counted = known.sum(1).clamp_min(1)
    if weights is not None:
        known = known * weights
    return (flat.view_as(known) * known).sum(1) / counted / further.unit
