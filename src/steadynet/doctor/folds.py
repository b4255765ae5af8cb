"""Answers to every row by boosted trees that were not fitted on it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import GroupKFold

Floats = npt.NDArray[np.float64]

FOLDS = 5
ITERATIONS = 80
MOST_ROWS = 20_000
"""A fold's trees are fitted on no more; they answer every row that is held out."""


def out_of_fold(
    cells: npt.NDArray[np.float32],
    target: npt.NDArray[np.generic],
    together: npt.NDArray[np.int64],
    *,
    classes: int,
    seed: int = 0,
) -> Floats:
    """Return probabilities (N, classes), or predictions (N,) where `classes` is 0.

    `cells` (N, F) may hold NaN; rows with the same number in `together` (N,) are in one fold.
    """
    answers = np.zeros((len(target), classes)) if classes else np.zeros(len(target))
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    random = np.random.default_rng(seed)
    for every, held in folds.split(cells, target, together):
        fit = random.permutation(every)[:MOST_ROWS]
        if classes:
            model = HistGradientBoostingClassifier(max_iter=ITERATIONS, random_state=seed)
            model.fit(cells[fit], target[fit])
            answers[np.ix_(held, model.classes_.astype(np.int64))] = model.predict_proba(
                cells[held]
            )
        else:
            trees = HistGradientBoostingRegressor(max_iter=ITERATIONS, random_state=seed)
            answers[held] = trees.fit(cells[fit], target[fit]).predict(cells[held])
    return answers
