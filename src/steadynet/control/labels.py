"""What labels say of answered rows: truths, losses, biases. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from steadynet.control.store import LabelledRow
from steadynet.monitoring.poisoning import Suspicion, check_labels
from steadynet.monitoring.quality import LabelledRows
from steadynet.runtime.metrics import per_row_loss
from steadynet.statistics.moments import Moments
from steadynet.table.schema import LabelColumn, Target
from steadynet.table.values import labels_in, number


def row_losses(target: Target, rows: Sequence[LabelledRow]) -> list[float | None]:
    """Return each row's log-loss or absolute error; None where label or answer do not fit."""
    usable = [position for position, row in enumerate(rows) if _truth(target, row) is not None]
    losses: list[float | None] = [None] * len(rows)
    if not usable:
        return losses
    truth = [_truth(target, rows[position]) for position in usable]
    if target.task == "regression":
        answers = np.array([rows[position].row.prediction for position in usable], dtype=np.float64)
        values = per_row_loss(np.array(truth, dtype=np.float64), answers)
    else:
        answers = np.array([rows[position].row.probabilities for position in usable])
        values = per_row_loss(np.array(truth, dtype=np.int64), answers)
    for position, value in zip(usable, values.tolist(), strict=True):
        losses[position] = value
    return losses


def row_biases(target: Target, rows: Sequence[LabelledRow]) -> list[float | None]:
    """Return each row's score minus what happened; None where label or answer do not fit.

    What happened is 1 or 0: the positive class (binary), or whether the likeliest class was the
    true one (multiclass). A regression's score and what happened are numbers.
    """
    found: list[float | None] = []
    for item in rows:
        truth, row = _truth(target, item), item.row
        if truth is None:
            found.append(None)
        elif target.task == "regression":
            found.append(None if row.prediction is None else row.prediction - truth)
        elif target.task == "binary":
            found.append(row.probabilities[-1] - truth)
        else:
            score = max(row.probabilities)
            found.append(score - float(row.probabilities.index(score) == truth))
    return found


def _truth(target: Target, item: LabelledRow) -> float | None:
    """Return the row's truth, where the row has an answer to hold against it."""
    answered = (
        item.row.prediction is not None
        if target.task == "regression"
        else len(item.row.probabilities) == len(target.classes)
    )
    return truth_of(target, item.label) if answered else None


def truth_of(target: Target, label: str | float) -> float | None:
    """Return a label as class index or number; None where it is neither of the target's.

    A class may come as a number: 1.0 from JSON means the class "1". Where the target is a label of
    a column, what comes is a cell of it, as "red|blue"; one of labels of which none was in the
    training table is no such cell.
    """
    if target.labels is not None:
        return _label_truth(target.name, target.labels, label)
    if target.task != "regression":
        places = _places(target.classes)
        place = places.get(str(label))
        if place is None and isinstance(label, float) and label.is_integer():
            place = places.get(str(int(label)))
        return place
    try:
        value = number(label, written=target.number_format)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _label_truth(name: str, column: LabelColumn, cell: str | float) -> float | None:
    whole = isinstance(cell, float) and cell.is_integer()
    found = labels_in(str(int(cell)) if whole else str(cell), column.separator)
    if found and not set(found) & set(column.known):
        return None
    return float(name in found)


@lru_cache(maxsize=16)
def _places(classes: tuple[str, ...]) -> dict[str, float]:
    """Return class → its index. Thousands of labels a look are looked up here."""
    return {name: float(place) for place, name in reversed(list(enumerate(classes)))}


def suspicions_of(
    target: Target, rows: Sequence[LabelledRow], source: str | None
) -> tuple[Suspicion, ...]:
    """Return what is odd about labelled rows before anything is trained on them."""
    fitting = [
        item
        for item in sorted(rows, key=lambda item: item.row.at)
        if _truth(target, item) is not None
    ]
    features = [item.row.row for item in fitting]
    return check_labels(labelled_rows(target, fitting), features, source)


def moments_of(values: Iterable[float]) -> Moments:
    """Return the moments of some values."""
    kept = list(values)
    return Moments(len(kept), sum(kept), sum(value * value for value in kept))


def labelled_rows(target: Target, rows: Iterable[LabelledRow]) -> LabelledRows:
    """Return answers and truths as arrays; rows whose label or answer do not fit are left out."""
    truths: list[float] = []
    answers: list[float | tuple[float, ...]] = []
    at: list[float] = []
    for item in sorted(rows, key=lambda item: item.row.at):
        truth = truth_of(target, item.label)
        answer = item.row.prediction if target.task == "regression" else item.row.probabilities
        if truth is None or answer is None:
            continue
        if isinstance(answer, tuple) and len(answer) != len(target.classes):
            continue
        truths.append(truth)
        answers.append(answer)
        at.append(item.row.at)
    shape = (len(at),) if target.task == "regression" else (len(at), len(target.classes))
    floats = np.array(truths, np.float64)
    return LabelledRows(
        target=floats if target.task == "regression" else floats.astype(np.int64),
        answers=np.array(answers, np.float64).reshape(shape),
        at=np.array(at, np.float64),
        classes=target.classes,
    )
