"""What labelled rows say should be done: nothing, recalibrate, or retrain.

A network can lose quality in two ways. Its scores may stand for other probabilities than they
used to while they still put rows in the right order (prior shift, a changed scale): a few numbers
in its head mend that. Or it no longer knows which rows are which: only new weights mend that.

- `recalibrate`: the ranking is intact (not shown to be below the test part's), and recalibrating,
  measured on rows that it was not fitted on, is shown to make the loss smaller by what matters; or
  the loss is shown to have risen and recalibrating brings it back.
- `retrain`: the loss is shown to have risen by what matters, or it could be recalibrated, and the
  ranking has fallen: recalibrating is not enough.
- `sound`: neither is shown. `not_yet`: too few labelled rows to say.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.bundle.profile import Profile
from steadynet.monitoring.quality import (
    LabelledRows,
    calibration_of,
    loss_rise_bounds,
    moments_of_values,
)
from steadynet.monitoring.recalibration import (
    recalibrated_numbers,
    recalibrated_probabilities,
)
from steadynet.runtime.loss_metrics import pinball
from steadynet.runtime.metrics import per_row_loss
from steadynet.runtime.ranking import ranking_of
from steadynet.spec.operating import MonitoringSpec
from steadynet.statistics.sequential import FEWEST_VALUES, mean_bounds

RANKING_TOLERANCE = 0.02
"""Fall of AUC or rank correlation that does not matter."""
GAIN_SHARE = 0.02
"""Gain of recalibration, as a share of the loss, that is worth doing it."""
RESAMPLES = 200
RANKED_ROWS = 2000
"""Labelled rows that the ranking's interval is drawn from at most, the newest."""

Cause = Literal["sound", "recalibrate", "retrain", "not_yet"]
Floats = npt.NDArray[np.float64]


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What labelled rows say should be done, with the numbers that say it."""

    cause: Cause
    rows: int
    ranking: float | None = None
    """AUC, or Spearman's correlation, on the labelled rows."""
    ranking_high: float | None = None
    """Upper end of its 99 % bootstrap interval."""
    ranking_reference: float | None = None
    """The same on the test part."""
    ranking_intact: bool = True
    """Whether it is not shown to be below the test part's by more than `RANKING_TOLERANCE`."""
    miscalibrated: bool = False
    calibration_error: float | None = None
    loss: float | None = None
    """Mean log-loss, absolute error, or, of a quantile, pinball loss."""
    loss_recalibrated: float | None = None
    """The same after recalibration, cross-fitted over the labelled rows."""
    gain_low: float | None = None
    """Lower confidence bound of what recalibration takes off the loss."""
    loss_reference: float
    sentence: str


def diagnose(profile: Profile, labelled: LabelledRows, plan: MonitoringSpec) -> Diagnosis:
    """Say what labelled rows of one version, oldest first, call for.

    Needs `FEWEST_VALUES` rows. Bundles without `profile.checked` have no ranking to compare with;
    theirs counts as intact where recalibration brings the loss back to the test part's.
    """
    rows = len(labelled.target)
    if rows < FEWEST_VALUES:
        return Diagnosis(
            cause="not_yet",
            rows=rows,
            loss_reference=profile.loss_mean,
            sentence=f"{rows} labelled rows so far, {FEWEST_VALUES} needed",
        )
    checked = profile.checked
    quantile = None if checked is None else checked.quantile
    before, after = _losses(labelled, quantile)
    gain = moments_of_values(before - after)
    unit = max(float(before.std()), 1e-12)
    gain_low, _ = mean_bounds(gain, alpha_low=plan.alpha, alpha_high=plan.alpha, unit=unit)
    error, miscalibrated = calibration_of(profile, labelled, plan.alpha)
    reference = None if checked is None else checked.ranking
    ranking, high = _ranking(labelled)
    intact = reference is None or high is None or high >= reference - RANKING_TOLERANCE
    worth = gain_low > 0 and gain.mean >= GAIN_SHARE * max(float(before.mean()), 1e-12)
    own = per_row_loss(labelled.target, labelled.answers)
    lost = _is_lost(profile, own, plan)
    restored = float(after.mean()) <= float(before.mean()) - max(
        0.0, float(own.mean()) - float(_limit(profile, plan))
    )
    if reference is None and quantile is None:
        intact = restored
    cause: Cause = "sound"
    if intact and (worth or (lost and restored)):
        cause = "recalibrate"
    elif lost or worth:
        cause = "retrain"
    return Diagnosis(
        cause=cause,
        rows=rows,
        ranking=ranking,
        ranking_high=high,
        ranking_reference=reference,
        ranking_intact=bool(intact),
        miscalibrated=bool(miscalibrated),
        calibration_error=error,
        loss=float(before.mean()),
        loss_recalibrated=float(after.mean()),
        gain_low=gain_low,
        loss_reference=profile.loss_mean,
        sentence=_sentence(cause, rows, before, after, (ranking, reference)),
    )


def _losses(labelled: LabelledRows, quantile: float | None) -> tuple[Floats, Floats]:
    """Return each row's loss as it is answered, and after cross-fitted recalibration."""
    if labelled.classes:
        classes = np.asarray(labelled.target, np.int64)
        answers = np.asarray(labelled.answers, np.float64)
        better = recalibrated_probabilities(classes, answers)
        return per_row_loss(classes, answers), per_row_loss(classes, better)
    truth = np.asarray(labelled.target, np.float64)
    answers = np.asarray(labelled.answers, np.float64)
    better = recalibrated_numbers(truth, answers, quantile)
    if quantile is not None:
        return pinball(truth, answers, quantile), pinball(truth, better, quantile)
    return per_row_loss(truth, answers), per_row_loss(truth, better)


def _ranking(labelled: LabelledRows) -> tuple[float | None, float | None]:
    """Return the ranking and the upper end of its bootstrap interval (Efron 1979)."""
    target, answers = labelled.target[-RANKED_ROWS:], labelled.answers[-RANKED_ROWS:]
    random = np.random.default_rng(0)  # the same rows always get the same answer
    drawn = []
    for _ in range(RESAMPLES):
        rows = random.integers(0, len(target), len(target))
        found = ranking_of(target[rows], answers[rows])
        if found is not None:
            drawn.append(found)
    high = float(np.quantile(drawn, 0.995)) if drawn else None
    return ranking_of(labelled.target, labelled.answers), high


def _limit(profile: Profile, plan: MonitoringSpec) -> float:
    """Return the mean loss from which quality is lost."""
    return (1 + plan.quality_loss_share) * profile.loss_mean


def _is_lost(profile: Profile, losses: Floats, plan: MonitoringSpec) -> bool:
    """Tell whether a rise of the loss is shown and matters."""
    low, _ = loss_rise_bounds(profile, moments_of_values(losses), plan.alpha)
    return low > 0 and float(losses.mean()) >= _limit(profile, plan)


def _sentence(
    cause: Cause, rows: int, before: Floats, after: Floats, ranking: tuple[float | None, ...]
) -> str:
    now, reference = ranking
    told = (
        f"recalibrating would change the loss on {rows} labelled rows from {before.mean():.4g} "
        f"to {after.mean():.4g}"
    )
    if now is not None and reference is not None:
        told = f"{told}; ranking {now:.3f} against {reference:.3f} on the test part"
    head = {
        "sound": "nothing to mend",
        "recalibrate": "rows are still put in order, recalibrating is enough",
        "retrain": "recalibrating is not enough, the network has to learn anew",
        "not_yet": "not decided",
    }[cause]
    return f"{head}: {told}"
