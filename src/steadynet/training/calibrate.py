"""Calibration on held-out rows: the head that is welded behind the blend.

The method is a choice made on data. Each is cross-validated on the held-out rows by log-loss, and
the simplest one that is not worse than the best beyond the noise of the paired difference is
taken, "none" being the simplest. The held-out rows also chose the epoch at which the fit stopped,
so calibration is a little optimistic; the test part, which nothing is chosen on, tells by how much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import optimize
from sklearn.isotonic import IsotonicRegression

from steadynet.errors import SpecError, TrainingError
from steadynet.export.head import (
    SMALLEST,
    ClassificationHead,
    Head,
    Knots,
    RegressionHead,
    calibrated,
    in_unit,
)
from steadynet.spec.model import CalibrationSpec
from steadynet.training.conformal import HeldRows, WidthScore, fit_interval, fit_sets
from steadynet.training.data import TargetCode
from steadynet.training.spread import FittedSpread

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]

Fit = Callable[[Floats, Classes, ClassificationHead], ClassificationHead]

LOG_SCALE_BOUNDS = (math.log(0.1), math.log(5.0))
SHIFT_BOUNDS = (-5.0, 5.0)
SHRINK = 1e-3
"""Pull of scales and shifts towards no change, so that perfect separation stays finite."""
ISOTONIC_ROWS = 1000
"""Held-out rows from which isotonic regression is tried; it overfits fewer."""
MOST_KNOTS = 32
CHOICE_FOLDS = 5


class MethodScore(msgspec.Struct, frozen=True, kw_only=True):
    """How a method did on held-out rows that it was not fitted on."""

    method: str
    log_loss: float
    worse_by: float
    """Mean log-loss above the best method's."""
    worse_by_error: float
    """Standard error of that paired difference, over rows."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The head, and how its method was chosen."""

    head: Head
    scores: tuple[MethodScore, ...] = ()
    """Every method that was tried; none where the spec named one."""
    spread: FittedSpread | None = None
    """Regression: what the adaptive width needs in the graph."""
    widths: tuple[WidthScore, ...] = ()
    """Regression: every width that was tried; none where there was no choice."""


def calibrate(
    answer: Floats,
    target: npt.NDArray[np.generic],
    code: TargetCode,
    classes: tuple[str, ...],
    spec: CalibrationSpec,
    held: HeldRows | None = None,
) -> Calibration:
    """Fit the head on held-out rows.

    `answer` (N, C) is the blend's answer to rows that its members were not fitted on; `target`
    (N,) the class index or the number itself; `held` what else an interval is fitted on. Raises
    `TrainingError` where there are no rows.
    """
    if len(target) == 0:
        raise TrainingError(
            "there are no held-out rows to calibrate on",
            do="Raise split.validation_share.",
        )
    if code.task == "regression":
        plain_head = RegressionHead(
            center=code.center, scale=code.scale, half_width=0.0, inverse=code.inverse
        )
        fitted = fit_interval(
            in_unit(answer[:, 0], plain_head), target.astype(np.float64), held, spec
        )
        head = msgspec.structs.replace(
            plain_head,
            half_width=fitted.shape.half_width,
            adaptive=fitted.shape.adaptive,
            crossed=fitted.shape.crossed,
        )
        return Calibration(head=head, spread=fitted.spread, widths=fitted.scores)
    count = len(classes)
    plain = ClassificationHead(
        classes=classes,
        class_weights=code.class_weights,
        scales=(1.0,) * count,
        shifts=(0.0,) * count,
        threshold=code.class_weights[0] / sum(code.class_weights) if count == 2 else None,
    )
    wanted = target.astype(np.int64)
    methods = methods_for(count)
    if spec.method not in ("auto", *methods):
        raise SpecError(
            f"calibration.method {spec.method!r} does not fit {count} classes",
            expected="auto, " + ", ".join(methods),
        )
    scores: tuple[MethodScore, ...] = ()
    method: str = spec.method
    if method == "auto":
        scores = score_methods(answer, wanted, plain)
        method = next(score.method for score in scores if score.worse_by <= score.worse_by_error)
    made = methods[method](answer, wanted, plain)
    if spec.prediction_sets:
        apart = _cross_calibrated(answer, wanted, plain, methods[method])
        sets = fit_sets(apart, wanted, spec.set_method, spec.coverage)
        made = msgspec.structs.replace(made, sets=sets)
    return Calibration(head=made, scores=scores)


def score_methods(
    answer: Floats, target: Classes, plain: ClassificationHead
) -> tuple[MethodScore, ...]:
    """Return every method's cross-validated log-loss, the simplest method first."""
    rows = np.arange(len(target))
    losses: dict[str, Floats] = {}
    for method, fit in methods_for(len(plain.classes)).items():
        if method == "isotonic" and len(target) < ISOTONIC_ROWS:
            continue
        chosen = _cross_calibrated(answer, target, plain, fit)[rows, target]
        losses[method] = -np.log(np.maximum(chosen, SMALLEST))
    best = min(losses.values(), key=lambda loss: float(loss.mean()))
    scores = []
    for method, loss in losses.items():
        apart = loss - best
        scores.append(
            MethodScore(
                method=method,
                log_loss=float(loss.mean()),
                worse_by=float(apart.mean()),
                worse_by_error=float(apart.std() / math.sqrt(len(apart))),
            )
        )
    return tuple(scores)


def _cross_calibrated(
    answer: Floats, target: Classes, plain: ClassificationHead, fit: Fit
) -> Floats:
    """Return probabilities (n, C) of which each row's are by a head that was fitted without it."""
    found = np.empty((len(target), len(plain.classes)))
    folds = np.arange(len(target)) % CHOICE_FOLDS
    for fold in range(CHOICE_FOLDS):
        out = folds == fold
        head = fit(answer[~out], target[~out], plain) if (~out).any() else plain
        found[out] = calibrated(answer[out], head)
    return found


def fit_none(_: Floats, __: Classes, plain: ClassificationHead) -> ClassificationHead:
    """Change nothing."""
    return plain


def fit_temperature(
    answer: Floats, target: Classes, plain: ClassificationHead
) -> ClassificationHead:
    """Return the head with the one scale that has the least log-loss (Guo et al. 2017)."""
    count = len(plain.classes)

    def at(log_scale: float) -> ClassificationHead:
        scales = (math.exp(log_scale),) * count
        return msgspec.structs.replace(plain, method="temperature", scales=scales)

    def loss(log_scale: float) -> float:
        return _log_loss(calibrated(answer, at(log_scale)), target) + SHRINK * log_scale**2

    found = optimize.minimize_scalar(loss, bounds=LOG_SCALE_BOUNDS, method="bounded")
    return at(float(found.x)) if found.fun < loss(0.0) else at(0.0)


def fit_vector(answer: Floats, target: Classes, plain: ClassificationHead) -> ClassificationHead:
    """Return the head with a scale and a shift per class (Guo et al. 2017)."""
    count = len(plain.classes)

    def at(values: Floats) -> ClassificationHead:
        return msgspec.structs.replace(
            plain,
            method="vector",
            scales=tuple(np.exp(values[:count]).tolist()),
            shifts=(0.0, *values[count:].tolist()),
        )

    def loss(values: Floats) -> float:
        return _log_loss(calibrated(answer, at(values)), target) + SHRINK * float(values @ values)

    bounds = [LOG_SCALE_BOUNDS] * count + [SHIFT_BOUNDS] * (count - 1)
    found = optimize.minimize(loss, np.zeros(2 * count - 1), method="L-BFGS-B", bounds=bounds)
    return at(found.x)


def fit_beta(answer: Floats, target: Classes, plain: ClassificationHead) -> ClassificationHead:
    """Return the head of beta calibration, for two classes (Kull, Silva Filho and Flach 2017).

    The logit of the answer becomes a log p - b log(1 - p) + c with a and b above 0. That is vector
    scaling of the two log-probabilities, of which only one shift counts.
    """
    return msgspec.structs.replace(fit_vector(answer, target, plain), method="beta")


def fit_isotonic(answer: Floats, target: Classes, plain: ClassificationHead) -> ClassificationHead:
    """Return the head with a monotone line per class (Zadrozny and Elkan 2002).

    The steps of isotonic regression become a line through the middles of its flat parts, so that
    no two rows that were apart become equal between them; classes are one against the rest.
    """
    even = calibrated(answer, plain)
    lines = [_isotonic_line(even[:, c], target == c) for c in range(len(plain.classes))]
    if len(lines) == 2:  # the two must sum to 1
        at = tuple(1 - x for x in reversed(lines[1].at))
        lines[0] = Knots(at=at, value=tuple(1 - y for y in reversed(lines[1].value)))
    return msgspec.structs.replace(plain, method="isotonic", knots=tuple(lines))


_FOR_TWO: Mapping[str, Fit] = MappingProxyType(
    {"none": fit_none, "temperature": fit_temperature, "beta": fit_beta, "isotonic": fit_isotonic}
)
_FOR_MORE: Mapping[str, Fit] = MappingProxyType(
    {
        "none": fit_none,
        "temperature": fit_temperature,
        "vector": fit_vector,
        "isotonic": fit_isotonic,
    }
)


def methods_for(classes: int) -> Mapping[str, Fit]:
    """Return the methods for so many classes, the simplest first."""
    return _FOR_TWO if classes == 2 else _FOR_MORE


def _isotonic_line(probability: Floats, hit: npt.NDArray[np.bool_]) -> Knots:
    order = np.argsort(probability, kind="stable")
    ascending = probability[order]
    steps = IsotonicRegression(y_min=0.0, y_max=1.0).fit_transform(ascending, hit[order])
    starts = np.flatnonzero(np.r_[True, np.diff(steps) > 0])
    ends = np.r_[starts[1:], len(steps)]
    # One hit and one miss more in each flat part, so that none is certain.
    at = [float(ascending[a:b].mean()) for a, b in zip(starts, ends, strict=True)]
    rough = [
        (float(hit[order][a:b].sum()) + steps[a:b].mean()) / (b - a + 1)
        for a, b in zip(starts, ends, strict=True)
    ]
    value = np.clip(np.maximum.accumulate(rough), 1 / (2 * len(steps)), 1 - 1 / (2 * len(steps)))
    kept = _spread_out(np.array(at), MOST_KNOTS)
    xs = np.r_[0.0, np.array(at)[kept], 1.0]
    ys = np.r_[value[kept][0], value[kept], value[kept][-1]]
    apart = np.r_[True, np.diff(xs) > 1e-4]
    apart[-1] = True
    xs, ys = xs[apart], ys[apart]
    if len(xs) > 2 and xs[-1] - xs[-2] <= 1e-4:
        xs, ys = np.delete(xs, -2), np.delete(ys, -2)
    return Knots(at=tuple(xs.tolist()), value=tuple(ys.tolist()))


def _spread_out(values: Floats, most: int) -> Classes:
    """Return the places of at most so many of the values, evenly over their order."""
    if len(values) <= most:
        return np.arange(len(values))
    return np.unique(np.linspace(0, len(values) - 1, most).round().astype(np.int64))


def _log_loss(probabilities: Floats, target: Classes) -> float:
    chosen = probabilities[np.arange(len(target)), target]
    return float(-np.log(np.maximum(chosen, SMALLEST)).mean())
