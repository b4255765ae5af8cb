"""How well answers put rows in order, whatever the answers' scale is. NumPy alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.floating | np.integer]


def ranking_of(target: Numbers, answers: Numbers) -> float | None:
    """Return the AUC of probabilities (N, C), or Spearman's rank correlation of (N,) predictions.

    Several classes: the mean over them, one against the rest. None where it is not defined: one
    class only, or equal values.
    """
    if answers.ndim == 1:
        return _spearman(np.asarray(target, np.float64), np.asarray(answers, np.float64))
    truth = np.asarray(target, np.int64)
    counted = [1] if answers.shape[1] == 2 else range(answers.shape[1])
    areas = [area_under_roc(np.asarray(answers[:, c], np.float64), truth == c) for c in counted]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else None


def area_under_roc(score: Floats, positive: npt.NDArray[np.bool_]) -> float | None:
    """Return the chance that a positive row's score is above a negative one's; ties count half.

    The Mann-Whitney statistic (Hanley and McNeil 1982). None where one side has no rows.
    """
    above, below = int(positive.sum()), int((~positive).sum())
    if not above or not below:
        return None
    ranks = average_ranks(score)[positive].sum()
    return float((ranks - above * (above + 1) / 2) / (above * below))


def average_ranks(values: Floats) -> Floats:
    """Return the ranks (N,) from 1, equal values sharing the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[place]
    return ranks


def _spearman(target: Floats, answers: Floats) -> float | None:
    if len(target) < 2:
        return None
    one, other = average_ranks(target), average_ranks(answers)
    spread = float(one.std() * other.std())
    if spread <= 0:
        return None
    return float(((one - one.mean()) * (other - other.mean())).mean() / spread)
