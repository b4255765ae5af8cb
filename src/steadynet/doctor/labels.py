"""Labels that are likely wrong."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import optimize

from steadynet.doctor.report import MOST_ROWS, Symptom
from steadynet.table.findings import Level

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

SURE = 0.8
"""How far the other class's probability must stand above the given one's."""
FAR = 8.0
"""Robust deviations from which a number is far from what was expected."""
BINS = 10
MANY = 0.03
"""Share of the rows from which contradicting labels are worth a warning."""
MOST_CONFUSIONS = 3
MANY_FAR = 0.005
"""Share of the rows from which far numbers are worth a warning."""


def suspects_of_classes(probabilities: Floats, target: Indices) -> Indices:
    """Return the rows whose label is likely wrong, the surest first.

    Confident learning (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068): a row counts where it
    reaches another class's own confidence (the mean probability of that class over the rows that
    carry it), and the label's probability lies far below. Where classes overlap some right labels
    look so too; nothing in a table can tell noise from errors.
    """
    count = probabilities.shape[1]
    places = np.arange(len(target))
    confidence = np.array(
        [probabilities[target == c, c].mean() if (target == c).any() else 1.0 for c in range(count)]
    )
    others = np.where(probabilities >= confidence, probabilities, -1.0)
    others[places, target] = -1.0
    best = others.max(axis=1)
    margin = np.where(best > 0, best - probabilities[places, target], -1.0)
    rows = np.flatnonzero(margin >= SURE)
    return rows[np.argsort(-margin[rows], kind="stable")]


def tempered(probabilities: Floats, target: Indices) -> Floats:
    """Return probabilities with the one temperature that fits the labels best."""
    logs = np.log(np.maximum(probabilities, 1e-6))

    def at(scale: float) -> Floats:
        made = np.exp(logs * scale - (logs * scale).max(axis=1, keepdims=True))
        even: Floats = made / made.sum(axis=1, keepdims=True)
        return even

    def loss(scale: float) -> float:
        return float(-np.log(at(scale)[np.arange(len(target)), target]).mean())

    return at(float(optimize.minimize_scalar(loss, bounds=(0.05, 3.0), method="bounded").x))


def suspects_of_numbers(predictions: Floats, target: Floats) -> Indices:
    """Return the rows whose number is far from the expected one, the farthest first.

    Residuals are measured in the median absolute deviation of rows with like predictions, since a
    larger number usually errs by more.
    """
    residuals = target - predictions
    usual = 0.5 * float(residuals.std())
    order = np.argsort(predictions, kind="stable")
    scores = np.zeros(len(target))
    for rows in np.array_split(order, min(BINS, max(1, len(target) // 50))):
        centred = np.abs(residuals[rows] - np.median(residuals[rows]))
        # Whole numbers are often hit exactly, so that the median alone may be next to nothing.
        spread = max(1.4826 * float(np.median(centred)), usual)
        scores[rows] = centred / spread if spread > 0 else 0.0
    found = np.flatnonzero(scores > FAR)
    return found[np.argsort(-scores[found], kind="stable")]


def label_symptoms(
    answers: Floats, target: npt.NDArray[np.generic], numbers: Indices, classes: tuple[str, ...]
) -> list[Symptom]:
    """Return what is to be said of labels; `numbers` (N,) are the rows' numbers in the file."""
    if classes:
        labels = target.astype(np.int64)
        likely = tempered(answers, labels)
        rows = suspects_of_classes(likely, labels)
        level: Level = "warning" if len(rows) > MANY * len(labels) else "note"
        what = f"labels ({len(rows) / len(labels):.1%}) contradict rows like them"
        what += _confusions(likely[rows].argmax(axis=1), labels[rows], classes)
        do = "Look at these first: errors stand out here, and so does what is rare but right."
    else:
        rows = suspects_of_numbers(answers, target.astype(np.float64))
        # A few may be rows at the end of their columns, where trees cannot follow.
        level = "warning" if len(rows) > MANY_FAR * len(target) else "note"
        above = int((target[rows].astype(np.float64) > answers[rows]).sum())
        what = f"targets are far from those of like rows: {above} above, {len(rows) - above} below"
        do = "Look for slips of the decimal point, other units, or outliers to drop."
    if len(rows) == 0:
        return []
    return [
        Symptom(
            level=level,
            code="label_error",
            message=f"{len(rows)} {what}",
            rows=tuple(numbers[rows[:MOST_ROWS]].tolist()),
            count=len(rows),
            do=do,
        )
    ]


def _confusions(likely: Indices, labels: Indices, classes: tuple[str, ...]) -> str:
    """Return what the labels say and what rows like them say, the most frequent first."""
    pairs, counts = np.unique(np.stack([labels, likely]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_CONFUSIONS]
    told = [
        f"{counts[at]} say {classes[pairs[0, at]]!r} among {classes[pairs[1, at]]!r}"
        for at in order
    ]
    return f": {', '.join(told)}" if told else ""
