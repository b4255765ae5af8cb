"""Metrics of answers against the truth, with bootstrap intervals. NumPy alone.

Every metric is computed for a matrix of row weights (R, N) at once: all ones give the value, rows
of multinomial counts give the bootstrap (Efron 1979), so value and interval cannot differ in
definition. A metric that is not defined on the rows, as AUC with one class, is NaN and has no
interval.

For a binary target precision, recall and F1 are the positive (last) class's and AUC is its
ranking; for a multiclass target they are means over the classes (one against the rest). ECE is
the expected calibration error in `ECE_BINS` bins of equal mass, of the positive class's
probability (binary) or of the highest probability (multiclass; Guo et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from steadynet.bundle.manifest import Interval
from steadynet.runtime.loss_metrics import (
    Measure,
    MetricOptions,
    number_measure,
    order_measure,
)
from steadynet.spec.losses import Loss

ECE_BINS = 15
RESAMPLES = 200
_CHUNK_CELLS = 2_000_000
_SMALLEST = 1e-12

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.floating | np.integer]
Classes = npt.NDArray[np.integer]


def classification_metrics(
    target: Classes,
    probabilities: Numbers,
    classes: Sequence[str],
    *,
    decision_threshold: float = 0.5,
    ordered: bool = False,
    weights: Floats | None = None,
) -> dict[str, float]:
    """Return `auc, log_loss, accuracy, f1, precision, recall, ece`, and more where `ordered`.

    `target` int64 (N,) indexes `classes`; `probabilities` is (N, C). Natural logarithm. Ordered
    classes have `class_mae`, the mean number of classes between truth and decision, and `kappa`,
    with quadratic weights (Cohen 1968). Rows count by `weights` (N,), above or at 0.
    """
    measure = _classification(target, probabilities, len(classes), decision_threshold)
    if ordered:
        measure = _with_order(measure, target, probabilities, decision_threshold)
    return _values(measure, len(target), weights)


def regression_metrics(
    target: Numbers,
    prediction: Numbers,
    *,
    loss: Loss | None = None,
    weights: Floats | None = None,
) -> dict[str, float]:
    """Return `rmse, mae, r2` of (N,) predictions, in the target's unit, and what `loss` is for.

    A loss but the squared one has `d2`, the share of it that is less than the best constant's. A
    quantile has `pinball` and `share_below`, the share of rows at or below the prediction; a count
    has `poisson_deviance`.
    """
    return _values(_regression(target, prediction, loss), len(target), weights)


def with_intervals(
    target: Numbers,
    answers: Numbers,
    classes: Sequence[str] = (),
    *,
    decision_threshold: float = 0.5,
    resamples: int = RESAMPLES,
    options: MetricOptions | None = None,
    weights: Floats | None = None,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the metrics with 95 % percentile bootstrap intervals; undefined metrics are left out.

    With `classes`, `answers` are probabilities (N, C), else predictions (N,). Classification
    metrics are biased upward on resamples where they measure a distance (ECE): its interval is
    widened to hold the value.
    """
    if classes:
        whole = target.astype(np.int64)
        measure = _classification(whole, answers, len(classes), decision_threshold)
        if options is not None and options.ordered:
            measure = _with_order(measure, whole, answers, decision_threshold)
    else:
        measure = _regression(target, answers, None if options is None else options.loss)
    rows = len(target)
    values = _values(measure, rows, weights)
    drawn = _resample(measure, rows, resamples, np.random.default_rng(seed), weights)
    intervals = {}
    for name, value in values.items():
        known = drawn[name][np.isfinite(drawn[name])]
        if np.isfinite(value) and len(known):
            low, high = np.quantile(known, [0.025, 0.975])
            intervals[name] = Interval(
                value=value, low=min(float(low), value), high=max(float(high), value)
            )
    return intervals


def per_row_loss(target: Numbers, answers: Numbers) -> Floats:
    """Return each row's loss (N,): log-loss of probabilities (N, C), or absolute error of (N,)."""
    if answers.ndim == 1:
        return np.abs(np.asarray(target, np.float64) - answers)
    chosen = np.asarray(answers, np.float64)[np.arange(len(target)), target.astype(np.int64)]
    losses: Floats = -np.log(np.maximum(chosen, _SMALLEST))
    return losses


def confusion_matrix(
    target: Classes, probabilities: Numbers, *, decision_threshold: float = 0.5
) -> npt.NDArray[np.int64]:
    """Return counts (C, C): rows are true classes, columns decided ones."""
    count = probabilities.shape[1]
    cell = target * count + decide(probabilities, decision_threshold)
    counts: npt.NDArray[np.int64] = np.bincount(cell, minlength=count * count)
    return counts.reshape(count, count)


def decide(probabilities: Numbers, decision_threshold: float = 0.5) -> npt.NDArray[np.int64]:
    """Return each row's decided class (N,): by threshold for two classes, else the likeliest."""
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] >= decision_threshold).astype(np.int64)
    likeliest: npt.NDArray[np.int64] = probabilities.argmax(axis=1)
    return likeliest


def confidence_of(probabilities: Floats) -> Floats:
    """Return the probability (N,) that ECE looks at: the positive class's, or the highest."""
    if probabilities.shape[1] == 2:
        return probabilities[:, 1]
    highest: Floats = probabilities.max(axis=1)
    return highest


def mass_bins(scores: Numbers, bins: int) -> npt.NDArray[np.int64]:
    """Return the bin (N,) of every score among at most `bins` of about equal mass.

    Equal scores share a bin, so that the number of bins falls where scores repeat.
    """
    if len(scores) == 0:
        return np.zeros(0, np.int64)
    inner = np.quantile(scores, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(np.unique(inner), scores, side="left")


def _values(measure: Measure, rows: int, weights: Floats | None = None) -> dict[str, float]:
    if rows == 0:
        raise ValueError("metrics need at least one row")
    whole = np.ones((1, rows)) if weights is None else weights[None].astype(np.float64)
    return {name: float(found[0]) for name, found in measure(whole).items()}


def _resample(
    measure: Measure,
    rows: int,
    resamples: int,
    random: np.random.Generator,
    own: Floats | None = None,
) -> dict[str, Floats]:
    """Return each metric on `resamples` draws of as many rows with replacement."""
    found: dict[str, list[Floats]] = {}
    chunk = max(1, _CHUNK_CELLS // rows)
    for start in range(0, resamples, chunk):
        draws = min(chunk, resamples - start)
        picked = random.integers(0, rows, (draws, rows)) + np.arange(draws)[:, None] * rows
        weights = np.bincount(picked.ravel(), minlength=draws * rows).reshape(draws, rows)
        counted = weights.astype(np.float64) if own is None else weights * own
        for name, values in measure(counted).items():
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _regression(target: Numbers, prediction: Numbers, loss: Loss | None) -> Measure:
    truth = np.asarray(target, np.float64)
    answer = np.asarray(prediction, np.float64)
    error = answer - truth
    of_loss = number_measure(truth, answer, loss)

    def measure(weights: Floats) -> dict[str, Floats]:
        total = weights.sum(axis=1)
        squared = weights @ error**2
        mean = weights @ truth / total
        spread = weights @ (truth - truth.mean()) ** 2 - total * (mean - truth.mean()) ** 2
        return {
            "rmse": np.sqrt(squared / total),
            "mae": weights @ np.abs(error) / total,
            "r2": 1 - _divide(squared, spread, np.nan),
        } | of_loss(weights)

    return measure


def _classification(
    target: Classes, probabilities: Numbers, count: int, threshold: float
) -> Measure:
    scores = np.asarray(probabilities, np.float64)
    truth = np.asarray(target, np.int64)
    decided = decide(scores, threshold)
    losses = per_row_loss(truth, scores)
    is_true = np.equal.outer(np.arange(count), truth).astype(np.float64)  # (C, N)
    is_decided = np.equal.outer(np.arange(count), decided).astype(np.float64)
    counted = [1] if count == 2 else list(range(count))
    rankings = [_ranking(scores[:, index], is_true[index]) for index in counted]
    calibration = _calibration(scores, truth, is_true)

    def measure(weights: Floats) -> dict[str, Floats]:
        total = weights.sum(axis=1)
        hits = weights @ (is_true * is_decided)[counted].T  # (R, counted)
        recall = _divide(hits, weights @ is_true[counted].T, 0.0)
        precision = _divide(hits, weights @ is_decided[counted].T, 0.0)
        f1 = _divide(2 * precision * recall, precision + recall, 0.0)
        return {
            "auc": np.mean([ranking(weights) for ranking in rankings], axis=0),
            "log_loss": weights @ losses / total,
            "accuracy": weights @ (truth == decided) / total,
            "f1": f1.mean(axis=1),
            "precision": precision.mean(axis=1),
            "recall": recall.mean(axis=1),
            "ece": calibration(weights),
        }

    return measure


def _with_order(
    measure: Measure, target: Classes, probabilities: Numbers, threshold: float
) -> Measure:
    """Return the measure with the metrics of ordered classes."""
    of_order = order_measure(target.astype(np.int64), decide(probabilities, threshold))
    return lambda weights: measure(weights) | of_order(weights)


def _ranking(score: Floats, positive: Floats) -> Callable[[Floats], Floats]:
    """Return the area under the ROC curve as a function of row weights; ties count half."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    is_positive = positive[order]

    def area(weights: Floats) -> Floats:
        sorted_weights = weights[:, order]
        above = np.add.reduceat(sorted_weights * is_positive, starts, axis=1)
        below = np.add.reduceat(sorted_weights * (1 - is_positive), starts, axis=1)
        beaten = np.cumsum(below, axis=1) - below / 2
        pairs = above.sum(axis=1) * below.sum(axis=1)
        return _divide((above * beaten).sum(axis=1), pairs, np.nan)

    return area


def _calibration(scores: Floats, truth: Classes, is_true: Floats) -> Callable[[Floats], Floats]:
    """Return the expected calibration error as a function of row weights."""
    confidence = confidence_of(scores)
    if scores.shape[1] == 2:
        outcome = is_true[1]
    else:
        outcome = (scores.argmax(axis=1) == truth).astype(np.float64)
    index = mass_bins(confidence, ECE_BINS)
    gap = np.zeros((len(confidence), ECE_BINS))
    gap[np.arange(len(confidence)), index] = confidence - outcome

    def error(weights: Floats) -> Floats:
        errors: Floats = np.abs(weights @ gap).sum(axis=1) / weights.sum(axis=1)
        return errors

    return error


def _divide(above: Floats, below: Floats, otherwise: float) -> Floats:
    """Return `above / below`, and `otherwise` where `below` is not above zero."""
    safe = np.where(below > 0, below, 1.0)
    return np.where(below > 0, above / safe, otherwise)
