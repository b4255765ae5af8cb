"""Ranking: the same as scikit-learn's and SciPy's, and blind to the scale of answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from steadynet.runtime.ranking import ranking_of


def both(positive: np.ndarray) -> np.ndarray:
    return np.stack([1 - positive, positive], axis=1)


@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_two_classes_are_ranked_as_scikit_learn_ranks_them(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    target, score = rng.integers(0, 2, rows), rng.integers(0, 8, rows) / 8
    found = ranking_of(target, both(score))
    if 0 < target.sum() < rows:
        assert found == pytest.approx(roc_auc_score(target, score))
        assert ranking_of(target, both(score**3)) == pytest.approx(found)
    else:
        assert found is None


@given(st.integers(0, 2**32 - 1))
def test_numbers_are_ranked_as_scipy_ranks_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 9, 40).astype(float)
    answers = target + rng.normal(0, 3, 40)
    if target.std() > 0:
        assert ranking_of(target, answers) == pytest.approx(spearmanr(target, answers).statistic)


def test_what_cannot_be_ranked_is_none() -> None:
    assert ranking_of(np.zeros(0), np.zeros(0)) is None
    assert ranking_of(np.ones(3), np.arange(3.0)) is None
    assert ranking_of(np.zeros(4, np.int64), np.full((4, 3), 1 / 3)) is None
