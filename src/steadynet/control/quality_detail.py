"""What labelled rows say beside the one verdict: slices, calibration curve, what would mend it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from steadynet.bundle.profile import CalibrationBin, Profile
from steadynet.control.labels import labelled_rows, moments_of, row_losses
from steadynet.control.slices import make_slicer
from steadynet.control.store import LabelledRow
from steadynet.monitoring.diagnosis import Diagnosis, diagnose
from steadynet.monitoring.quality import LabelledRows
from steadynet.runtime.metrics import confidence_of, mass_bins
from steadynet.spec.operating import MonitoringSpec
from steadynet.statistics.moments import Moments
from steadynet.table.schema import Target

FEWEST_ROWS = 30
"""Labelled rows that a slice needs to be told of."""
CURVE_BINS = 10
MOST_COLUMNS = 3
"""Columns that are sliced by where the spec names none: the most important ones."""
SHOWN_Z = 3.0
"""How many standard errors above all rows' loss a slice's must be to be called worse."""


class SliceQuality(msgspec.Struct, frozen=True, kw_only=True):
    """One slice's loss on the labelled rows."""

    rows: int
    loss: float
    """Mean log-loss or absolute error."""
    worse: bool
    """Whether it is shown to be above that of the other rows."""


class QualityDetail(msgspec.Struct, frozen=True, kw_only=True):
    """What the labelled rows of the last look say of one version."""

    version: str
    at: float
    """Seconds UTC."""
    diagnosis: Diagnosis
    slices: dict[str, SliceQuality] = msgspec.field(default_factory=dict)
    curve: tuple[CalibrationBin, ...] = ()
    """The reliability diagram on the labelled rows; none for a regression."""


def quality_detail(
    version: str,
    at: float,
    profile: Profile,
    target: Target,
    rows: Sequence[LabelledRow],
    plan: MonitoringSpec,
    slices: Sequence[str] = (),
) -> QualityDetail:
    """Return the detail of labelled rows; `slices` names the columns to slice by."""
    labelled = labelled_rows(target, rows)
    return QualityDetail(
        version=version,
        at=at,
        diagnosis=diagnose(profile, labelled, plan),
        slices=_slices(profile, target, rows, slices or _important(profile)),
        curve=calibration_curve(labelled),
    )


def _important(profile: Profile) -> list[str]:
    """Return the columns that the network needs most, dates left out."""
    known = [item for item in profile.features if item.importance > 0 and item.kind != "datetime"]
    known.sort(key=lambda item: -item.importance)
    return [item.name for item in known[:MOST_COLUMNS]]


def _slices(
    profile: Profile, target: Target, rows: Sequence[LabelledRow], names: Sequence[str]
) -> dict[str, SliceQuality]:
    slicer = make_slicer(names, profile)
    losses: dict[str, list[float]] = {}
    every: list[float] = []
    for item, loss in zip(rows, row_losses(target, rows), strict=True):
        if loss is None:
            continue
        every.append(loss)
        for name in slicer.slices_of(item.row.row):
            losses.setdefault(name, []).append(loss)
    whole = moments_of(every)
    found = {name: moments_of(values) for name, values in losses.items()}
    return {
        name: SliceQuality(rows=own.n, loss=own.mean, worse=_is_worse(own, whole))
        for name, own in sorted(found.items(), key=lambda entry: -entry[1].mean)
        if own.n >= FEWEST_ROWS
    }


def _is_worse(own: Moments, whole: Moments) -> bool:
    """Tell whether a slice's mean is above that of the rows outside it, beyond chance (Welch)."""
    rest = Moments(whole.n - own.n, whole.total - own.total, whole.squares - own.squares)
    if rest.n < FEWEST_ROWS:
        return False
    error = math.sqrt(own.variance / own.n + rest.variance / rest.n)
    return own.mean - rest.mean > SHOWN_Z * error


def calibration_curve(labelled: LabelledRows) -> tuple[CalibrationBin, ...]:
    """Return the reliability diagram of labelled rows, in bins of about equal mass."""
    if not labelled.classes or not len(labelled.target):
        return ()
    answers = np.asarray(labelled.answers, np.float64)
    score = confidence_of(answers)
    if len(labelled.classes) == 2:
        outcome = labelled.target == 1
    else:
        outcome = answers.argmax(axis=1) == labelled.target
    index = mass_bins(score, CURVE_BINS)
    return tuple(
        CalibrationBin(
            low=float(score[index == number].min()),
            high=float(score[index == number].max()),
            rows=int((index == number).sum()),
            mean_score=float(score[index == number].mean()),
            observed=float(outcome[index == number].mean()),
        )
        for number in np.unique(index)
    )
