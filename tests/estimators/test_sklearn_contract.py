"""scikit-learn's own checks, and the tools of scikit-learn that users put estimators into."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from steadynet.estimators import FEWEST_ROWS, NetClassifier, NetRegressor

QUICK: dict[str, Any] = {"max_epochs": 2, "width": 8, "depth": 1}


EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "rows are dealt at random to training, validation and test, so that a row twice is not a "
        "row of weight 2; on average over deals it is"
    )
}


@pytest.mark.slow
@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [NetClassifier(max_epochs=2), NetRegressor(max_epochs=2)],
    expected_failed_checks=lambda _: EXPECTED_FAILURES,
)
def test_scikit_learns_checks_pass(
    estimator: BaseEstimator, check: Callable[[BaseEstimator], None]
) -> None:
    """Each expected failure has its reason."""
    check(estimator)


def rows(count: int = 120) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a frame with a number and a text, and two classes."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"size": random.normal(size=count), "color": random.choice(["red", "blue"], count)}
    )
    score = frame["size"] + (frame["color"] == "red") + 0.3 * random.normal(size=count)
    return frame, np.where(score > 0.5, "yes", "no")


def test_it_works_in_pipelines_searches_and_cross_validation() -> None:
    features, target = rows()
    scale = ColumnTransformer([("scale", StandardScaler(), ["size"])], remainder="passthrough")
    pipeline = make_pipeline(scale, NetClassifier(**QUICK))
    scores = cross_val_score(pipeline, features, target, cv=2, scoring="roc_auc")
    assert (scores > 0.5).all()
    search = GridSearchCV(NetClassifier(**QUICK), {"width": [4, 8]}, cv=2)
    search.fit(features, target)
    assert search.best_params_["width"] in (4, 8)
    predicted = cross_val_predict(NetClassifier(**QUICK), features, target, cv=2)
    assert set(predicted) <= {"yes", "no"}


def test_it_can_be_calibrated_by_scikit_learn() -> None:
    features, target = rows()
    calibrated = CalibratedClassifierCV(NetClassifier(**QUICK), cv=2).fit(features, target)
    assert calibrated.predict_proba(features).shape == (120, 2)


def test_every_kind_of_table_gives_the_same_answers() -> None:
    features, target = rows()
    classifier = NetClassifier(**QUICK).fit(features, target)
    expected = classifier.predict_proba(features)
    for table in (pl.from_pandas(features), pa.Table.from_pandas(features)):
        np.testing.assert_array_equal(classifier.predict_proba(table), expected)
    assert classifier.feature_names_in_.tolist() == ["size", "color"]
    assert classifier.n_features_in_ == 2


def test_a_fitted_estimator_survives_pickling_and_its_bundle_is_checked() -> None:
    features, target = rows()
    classifier = NetClassifier(**QUICK).fit(features, target)
    expected = classifier.predict_proba(features)
    copied = pickle.loads(pickle.dumps(classifier))
    del classifier
    np.testing.assert_array_equal(copied.predict_proba(features), expected)
    state = copied.__getstate__()
    state["_bundle"]["model.onnx"] = state["_bundle"]["model.onnx"][:-1] + b"x"
    with pytest.raises(Exception, match="changed"):
        NetClassifier().__setstate__(state)


def test_what_cannot_be_fitted_is_refused_as_scikit_learn_does() -> None:
    features, target = rows()
    with pytest.raises(TypeError, match="sparse"):
        NetClassifier(**QUICK).fit(sparse.eye(120), target)
    with pytest.raises(ValueError, match="one class"):
        NetClassifier(**QUICK).fit(features, np.zeros(120))
    few = FEWEST_ROWS - 1
    with pytest.raises(ValueError, match="n_samples"):
        NetClassifier(**QUICK).fit(features[:few], ["a", "b"] * (few // 2) + ["a"])
    with pytest.raises(ValueError, match="infinity"):
        NetRegressor(**QUICK).fit(features, np.r_[np.inf, np.zeros(119)])
    with pytest.raises(ValueError, match="empty"):
        NetClassifier(**QUICK).fit(features.iloc[:0], [])
