"""Estimators with y (N, K): labels that come together, and several numbers."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.multioutput import ClassifierChain

from steadynet.estimators import NetClassifier, NetRegressor

QUICK: dict[str, Any] = {
    "max_epochs": 3,
    "width": 16,
    "settings": {"training.folds": 1, "training.trees": "never"},
}


def data(rows: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Return X (N, 4) and three scores (N, 3) that share a column."""
    x = np.random.default_rng(0).normal(size=(rows, 4))
    return x, x[:, :1] + 0.5 * x[:, 1:4]


def test_several_labels_a_row_keep_their_shape_and_type() -> None:
    x, scores = data()
    y = (scores > 0).astype(np.int64)
    classifier = NetClassifier(**QUICK).fit(x, y)
    assert [classes.tolist() for classes in classifier.classes_] == [[0, 1]] * 3
    predicted = classifier.predict(x)
    assert predicted.shape == y.shape
    assert predicted.dtype == y.dtype
    assert (predicted == y).mean(axis=0).min() > 0.85
    probabilities = classifier.predict_proba(x)
    assert [each.shape for each in probabilities] == [(240, 2)] * 3
    for place, each in enumerate(probabilities):
        likelier = each[:, 1] > 0.5
        np.testing.assert_array_equal(predicted[:, place] == 1, likelier)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict(x), predicted)


def test_columns_of_other_classes_stand_side_by_side() -> None:
    x, scores = data()
    y = np.stack([np.digitize(scores[:, 0], [-0.5, 0.5]), 5 + (scores[:, 1] > 0)], axis=1)
    classifier = NetClassifier(**QUICK).fit(x, y)
    assert [classes.tolist() for classes in classifier.classes_] == [[0, 1, 2], [5, 6]]
    assert [each.shape[1] for each in classifier.predict_proba(x)] == [3, 2]
    assert set(classifier.predict(x)[:, 1].tolist()) <= {5, 6}


def test_several_numbers_have_an_interval_each() -> None:
    x, scores = data()
    regressor = NetRegressor(**QUICK).fit(x, 100 * scores)
    assert regressor.predict(x).shape == (240, 3)
    assert regressor.score(x, 100 * scores) > 0.8
    bounds = regressor.predict_interval(x)
    assert len(bounds) == 3
    for place, each in enumerate(bounds):
        inside = (each[:, 0] <= 100 * scores[:, place]) & (100 * scores[:, place] <= each[:, 1])
        assert inside.mean() > 0.8


def test_a_column_of_one_class_is_refused() -> None:
    x, scores = data()
    y = np.stack([scores[:, 0] > 0, np.zeros(240, bool)], axis=1).astype(np.int64)
    with pytest.raises(ValueError, match="y holds one class"):
        NetClassifier(**QUICK).fit(x, y)


def test_scikit_learns_own_tools_take_it() -> None:
    x, scores = data(120)
    y = (scores[:, :2] > 0).astype(np.int64)
    chain = ClassifierChain(NetClassifier(**QUICK)).fit(x, y)
    assert chain.predict(x).shape == (120, 2)
