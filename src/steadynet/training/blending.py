"""The weights of a blend, found on held-out rows, by the loss or by the metric the user named.

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
from scipy import optimize

from steadynet.export.blend import blend_answers
from steadynet.spec.losses import own_sense
from steadynet.training.comparing import Apart, HeldTruth

Floats = npt.NDArray[np.float64]

NOISE = 1.0
"""Standard errors of the paired difference by which a component must help to stay."""
SMALLEST_WEIGHT = 0.03
SELECTIONS = 40
"""Steps of a selection: weights are fortieths at the finest."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A component's part in a blend."""

    name: str
    weight: float
    """0 where it was left out."""
    loss: float
    """Its own held-out loss, as `training.objective` defines it."""
    gain: float
    """How much the held-out loss rises without it."""
    metric: str = "loss"
    """What decided: the loss, or the metric that the user named."""
    value: float | None = None
    """Its own held-out metric; None where it is the loss."""
    value_without: float | None = None
    """The blend's without it; None where it is the loss, and for what was left out."""


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


def choose_weights(
    names: Sequence[str], answers: Sequence[Floats], truth: HeldTruth
) -> tuple[Share, ...]:
    """Return every component's share, in the order of `names`.

    `answers` are each component's (n, C) for held-out rows that it was not fitted on.
    """
    kept = list(range(len(names)))
    weights = best_weights(answers, truth)
    while len(kept) > 1:
        whole = blend_answers([answers[k] for k in kept], weights)
        least, without, cost = _least_needed(kept, answers, truth, whole)
        helps = cost.worse_by > NOISE * cost.error
        if helps and weights[kept.index(least)] >= SMALLEST_WEIGHT:
            break
        kept.remove(least)
        weights = without.weights
    blended = truth.losses(blend_answers([answers[k] for k in kept], weights)).mean()
    shares = dict(zip(kept, weights, strict=True))
    found = []
    for place, name in enumerate(names):
        loss = float(truth.losses(answers[place]).mean())
        weight = float(shares.get(place, 0.0))
        share = Share(name=name, weight=weight, loss=loss, gain=0.0)
        rest = None
        if place in shares and len(kept) > 1:
            rest = _without(kept, place, answers, truth).answer
            gain = float(truth.losses(rest).mean() - blended)
            share = msgspec.structs.replace(share, gain=gain)
        found.append(share if truth.by_loss else _by_metric(share, answers[place], rest, truth))
    return tuple(found)


def _by_metric(share: Share, answer: Floats, rest: Floats | None, truth: HeldTruth) -> Share:
    """Return a share with the metric of its own answer, and of the blend without it."""
    metric = truth.code.metric
    return msgspec.structs.replace(
        share,
        metric=metric,
        value=own_sense(metric, truth.score(answer)),
        value_without=None if rest is None else own_sense(metric, truth.score(rest)),
    )


def best_weights(answers: Sequence[Floats], truth: HeldTruth) -> Floats:
    """Return the weights (K,) of the best held-out score, whatever its unit.

    No component alone has a better one.
    """
    count = len(answers)
    if count == 1:
        return np.ones(1)
    if not truth.is_smooth:
        return _selected(answers, truth)

    def score(weights: Floats) -> float:
        found = truth.score(blend_answers(answers, weights))
        return found if math.isfinite(found) else math.inf

    even = np.full(count, 1 / count)
    # The optimizer's steps and tolerance are for scores of about 1, as losses are.
    unit = 1.0 if truth.by_loss else score(even)
    if not 0 < unit < math.inf:
        unit = 1.0
    found = optimize.minimize(
        lambda raw: score(raw / raw.sum()) / unit,
        even,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * count,
        constraints={"type": "eq", "fun": lambda raw: raw.sum() - 1},
        options={"ftol": 1e-9, "maxiter": 200},
    )
    optimum: Floats = np.clip(found.x, 0, 1)
    return min([optimum / optimum.sum(), *np.eye(count)], key=score)


def _selected(answers: Sequence[Floats], truth: HeldTruth) -> Floats:
    """Return weights for a score without a slope: components are added one by one, again and again.

    Each time the one is added that makes the score best (Caruana et al. 2004, ensemble selection);
    the best of the way counts, and the fewest of equals.
    """
    counts, best = np.zeros(len(answers)), (math.inf, np.zeros(len(answers)))
    for _ in range(SELECTIONS):
        tried = [counts + one for one in np.eye(len(answers))]
        scores = [truth.score(blend_answers(answers, each / each.sum())) for each in tried]
        place = int(np.argmin(scores))
        counts = tried[place]
        if scores[place] < best[0]:
            best = scores[place], counts / counts.sum()
    return best[1] if math.isfinite(best[0]) else np.full(len(answers), 1 / len(answers))


class _Without(msgspec.Struct, frozen=True, kw_only=True):
    """A blend that leaves one component out."""

    weights: Floats
    answer: Floats


def _without(kept: list[int], place: int, answers: Sequence[Floats], truth: HeldTruth) -> _Without:
    rest = [answers[other] for other in kept if other != place]
    weights = best_weights(rest, truth)
    return _Without(weights=weights, answer=blend_answers(rest, weights))


def _least_needed(
    kept: list[int], answers: Sequence[Floats], truth: HeldTruth, whole: Floats
) -> tuple[int, _Without, Apart]:
    """Return the component whose absence costs least, the blend without it, and that cost."""
    found = {place: _without(kept, place, answers, truth) for place in kept}
    costs = {place: truth.apart(without.answer, whole) for place, without in found.items()}
    least = min(found, key=lambda place: costs[place].worse_by)
    return least, found[least], costs[least]
