"""The weights of a blend, found on held-out rows.

Weights are at least 0 and sum to 1 (Breiman 1996, stacked regressions); the loss of a weighted
mean is convex in them, so that there is one best choice. A component stays only where the blend
without it is worse beyond the noise of the paired difference: each one costs time in every answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from scipy import optimize

from steadynet.export.blend import blend_answers
from steadynet.training.data import TargetCode
from steadynet.training.objective import row_losses

Floats = npt.NDArray[np.float64]

SMALLEST = 1e-7
NOISE = 1.0
"""Standard errors of the paired difference by which a component must help to stay."""
SMALLEST_WEIGHT = 0.03


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A component's part in a blend."""

    name: str
    weight: float
    """0 where it was left out."""
    loss: float
    """Its own held-out loss, as `training.objective` defines it."""
    gain: float
    """How much the held-out loss rises without it."""


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """What a network was taught by, and what it keeps; losses are of the validation rows."""

    teacher: tuple[Share, ...]
    """The blend's components with their weights."""
    teacher_loss: float
    """Of the blend, the mean of all its groups."""
    untaught_loss: float
    """Of the same network without a teacher."""
    taught_loss: float

    @property
    def student_loss(self) -> float:
        """Of the network that was kept: the better one."""
        return min(self.taught_loss, self.untaught_loss)


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


def choose_weights(
    names: Sequence[str],
    answers: Sequence[Floats],
    target: npt.NDArray[np.generic],
    code: TargetCode,
    own: Floats | None = None,
) -> tuple[Share, ...]:
    """Return every component's share, in the order of `names`.

    `answers` are each component's (n, C) for held-out rows that it was not fitted on; `own` their
    weights (n,), 1 on average.
    """
    kept = list(range(len(names)))
    weights = best_weights(answers, target, code, own)
    while len(kept) > 1:
        whole = held_losses(blend_answers([answers[k] for k in kept], weights), target, code, own)
        least, without = _least_needed(kept, answers, target, code, own, whole)
        apart = without.loss - whole
        noise = NOISE * float(apart.std()) / math.sqrt(len(apart))
        if float(apart.mean()) > noise and weights[kept.index(least)] >= SMALLEST_WEIGHT:
            break
        kept.remove(least)
        weights = without.weights
    blended = held_losses(blend_answers([answers[k] for k in kept], weights), target, code, own)
    shares = dict(zip(kept, weights, strict=True))
    found = []
    for place, name in enumerate(names):
        alone = held_losses(answers[place], target, code, own)
        gain = 0.0
        if place in shares and len(kept) > 1:
            rest = _without(kept, place, answers, target, code, own)
            gain = float(rest.loss.mean() - blended.mean())
        weight = float(shares.get(place, 0.0))
        found.append(Share(name=name, weight=weight, loss=float(alone.mean()), gain=gain))
    return tuple(found)


def best_weights(
    answers: Sequence[Floats],
    target: npt.NDArray[np.generic],
    code: TargetCode,
    own: Floats | None = None,
) -> Floats:
    """Return the weights (K,) of least held-out loss."""
    count = len(answers)
    if count == 1:
        return np.ones(1)

    def loss(raw: Floats) -> float:
        return float(held_losses(blend_answers(answers, raw / raw.sum()), target, code, own).mean())

    found = optimize.minimize(
        loss,
        np.full(count, 1 / count),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * count,
        constraints={"type": "eq", "fun": lambda raw: raw.sum() - 1},
        options={"ftol": 1e-9, "maxiter": 200},
    )
    weights: Floats = np.clip(found.x, 0, 1)
    even: Floats = weights / weights.sum()
    return even


class _Without(msgspec.Struct, frozen=True, kw_only=True):
    """A blend that leaves one component out."""

    weights: Floats
    loss: Floats


def _without(
    kept: list[int],
    place: int,
    answers: Sequence[Floats],
    target: npt.NDArray[np.generic],
    code: TargetCode,
    own: Floats | None,
) -> _Without:
    rest = [answers[other] for other in kept if other != place]
    weights = best_weights(rest, target, code, own)
    return _Without(
        weights=weights, loss=held_losses(blend_answers(rest, weights), target, code, own)
    )


def _least_needed(
    kept: list[int],
    answers: Sequence[Floats],
    target: npt.NDArray[np.generic],
    code: TargetCode,
    own: Floats | None,
    whole: Floats,
) -> tuple[int, _Without]:
    """Return the component whose absence costs least, and the blend without it."""
    found = {place: _without(kept, place, answers, target, code, own) for place in kept}
    least = min(found, key=lambda place: float((found[place].loss - whole).mean()))
    return least, found[least]
