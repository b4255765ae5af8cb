"""Quality on labelled rows: is the network still as good as on its test part?

The mean per-row loss (log-loss or absolute error) of the labelled rows of a window is compared
with the profile's, whose own sampling error is taken into account. The bound on the rise is
anytime-valid (`steadynet.statistics.sequential`), so it may be asked each time labels come, and
quality may be found lost long before the window is full. Quality is

- `lost` where a rise is shown (its lower bound is above 0) and matters (the estimate is at least
  `quality_loss_share` of the reference's loss),
- `ok` where a rise that matters is excluded, or where the window is full and none is shown,
- `not_yet` otherwise.

A window is full at `quality_window_rows`; where these leave it open whether a rise that matters is
there, it goes on to `LONGEST_WINDOW` times as many. Windows follow one another without overlap, so
each has its own `alpha`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.bundle.profile import Profile
from steadynet.monitoring.reports import QualityReport, QualityState, QualityVerdict
from steadynet.runtime.metrics import classification_metrics, per_row_loss, regression_metrics
from steadynet.spec.model import MonitoringSpec
from steadynet.statistics.moments import Moments
from steadynet.statistics.sequential import (
    FEWEST_VALUES,
    Bounds,
    mean_bounds,
    mean_difference_bounds,
)

LONGEST_WINDOW = 4
"""Times `quality_window_rows` after which a window ends without having shown anything."""
REFERENCE_SHARE = 0.15
"""Share of the profile's rows that its loss was measured on: the default test part."""
CALIBRATION_TOLERANCE = 0.05
"""Mean probability minus observed share that does not matter."""
BIAS_TOLERANCE = 0.1
"""Mean error of a regression that does not matter, in deviations of the output."""

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledRows:
    """Answers joined with what really happened, oldest first.

    `classes` are the schema's in their order; empty for regression.
    """

    target: npt.NDArray[np.int64] | Floats
    """Index of the true class, or true value, (N,)."""
    answers: Floats
    """Probabilities (N, C), or predictions (N,)."""
    at: Floats
    """When each row was answered, seconds UTC, (N,)."""
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = len(self.target)
        if len(self.answers) != rows or len(self.at) != rows:
            raise ValueError(
                f"targets, answers and times must have one length; got {rows}, "
                f"{len(self.answers)} and {len(self.at)}"
            )


def assess_quality(
    profile: Profile,
    labelled: LabelledRows,
    plan: MonitoringSpec,
    state: QualityState | None = None,
) -> QualityReport:
    """Compare the loss on `labelled` with the profile's.

    Pass all labelled rows of the champion since the last complete verdict. Where `complete` is
    true they are used up: begin the next verdict with later rows and the returned state. A new
    champion begins with no state.
    """
    rows = len(labelled.target)
    if rows < FEWEST_VALUES:
        return _too_few(profile, plan, rows, state or QualityState())
    losses = per_row_loss(labelled.target, labelled.answers)
    window = moments_of_values(losses)
    low, high = loss_rise_bounds(profile, window, plan.alpha)
    reference = max(profile.loss_mean, 1e-12)
    rise = window.mean / reference - 1
    bounds = low / reference, high / reference
    shown, excluded = _shown(rise, bounds, plan), bounds[1] < plan.quality_loss_share
    full = plan.quality_window_rows * (1 if shown or excluded else LONGEST_WINDOW)
    complete = rows >= full
    verdict: QualityVerdict = "lost" if shown else "ok" if excluded or complete else "not_yet"
    error, miscalibrated = calibration_of(profile, labelled, plan.alpha)
    after = _advance(state or QualityState(), verdict, float(labelled.at[0]))
    return QualityReport(
        verdict=verdict,
        complete=complete,
        rows=rows,
        loss=window.mean,
        loss_reference=profile.loss_mean,
        rise=rise,
        rise_low=bounds[0],
        rise_high=bounds[1],
        tolerance=plan.quality_loss_share,
        metrics=_metrics(labelled),
        calibration_error=error,
        miscalibrated=miscalibrated,
        since=after.lost_since,
        state=after,
        sentence=_sentence(
            verdict, rows, window.mean, profile.loss_mean, rise, plan.quality_loss_share
        ),
    )


def _too_few(
    profile: Profile, plan: MonitoringSpec, rows: int, state: QualityState
) -> QualityReport:
    return QualityReport(
        verdict="not_yet",
        complete=False,
        rows=rows,
        loss_reference=profile.loss_mean,
        tolerance=plan.quality_loss_share,
        since=state.lost_since,
        state=state,
        sentence=f"{rows} labelled rows so far, {FEWEST_VALUES} needed",
    )


def moments_of_values(values: Floats) -> Moments:
    """Return count, sum and sum of squares of values (N,)."""
    return Moments(len(values), float(values.sum()), float((values**2).sum()))


def loss_rise_bounds(profile: Profile, window: Moments, alpha: float) -> Bounds:
    """Bound the rise of the mean loss; the reference is a sample, too."""
    size = max(FEWEST_VALUES, round(profile.rows * REFERENCE_SHARE))
    mean, deviation = profile.loss_mean, profile.loss_deviation
    reference = Moments(size, mean * size, (deviation**2 + mean**2) * size)
    return mean_difference_bounds(
        window, reference, alpha_low=alpha, alpha_high=alpha, unit=max(deviation, 1e-12)
    )


def _shown(rise: float, bounds: Bounds, plan: MonitoringSpec) -> bool:
    return bounds[0] > 0 and rise >= plan.quality_loss_share


def _advance(state: QualityState, verdict: QualityVerdict, start: float) -> QualityState:
    """Keep since when quality has been lost; `not_yet` changes nothing."""
    if verdict == "not_yet":
        return state
    if verdict == "ok":
        return QualityState()
    since = start if state.lost_since is None else state.lost_since
    return msgspec.structs.replace(state, lost_since=since)


def calibration_of(profile: Profile, labelled: LabelledRows, alpha: float) -> tuple[float, bool]:
    """Return how much answers are too high on average, and whether that is shown to matter.

    Binary: probability of the positive (last) class less its share. Multiclass: highest
    probability less accuracy. Regression: prediction less target; of a quantile: the share of
    rows below the prediction less the share that shall be.
    """
    answers, target = labelled.answers, labelled.target
    quantile = None if profile.checked is None else profile.checked.quantile
    if quantile is not None:
        errors, unit = (target <= answers) - quantile, 1.0
        tolerance = CALIBRATION_TOLERANCE
    elif not labelled.classes:
        errors, unit = answers - target, max(profile.output.deviation, 1e-12)
        tolerance = BIAS_TOLERANCE * unit
    else:
        binary = len(labelled.classes) == 2
        score = answers[:, -1] if binary else answers.max(axis=1)
        right = target == 1 if binary else answers.argmax(axis=1) == target
        errors, unit, tolerance = score - right, 1.0, CALIBRATION_TOLERANCE
    moments = moments_of_values(np.asarray(errors, np.float64))
    low, high = mean_bounds(moments, alpha_low=alpha / 2, alpha_high=alpha / 2, unit=unit)
    return moments.mean, low > tolerance or high < -tolerance


def _metrics(labelled: LabelledRows) -> dict[str, float]:
    """Return the metrics of the window that are defined on it."""
    if labelled.classes:
        classes = np.asarray(labelled.target, np.int64)
        found = classification_metrics(classes, labelled.answers, labelled.classes)
    else:
        found = regression_metrics(labelled.target, labelled.answers)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _sentence(
    verdict: QualityVerdict, rows: int, loss: float, reference: float, rise: float, tolerance: float
) -> str:
    compared = (
        f"the loss on {rows} labelled rows is {loss:.4g}, {100 * rise:+.1f} % against "
        f"{reference:.4g} in the test part"
    )
    if verdict == "lost":
        return f"quality is lost: {compared}"
    if verdict == "ok" and rise < tolerance:
        return f"quality holds: {compared}"
    if verdict == "ok":
        return f"no loss of quality is shown, chance may explain the rise: {compared}"
    return f"not decided: {compared}"
