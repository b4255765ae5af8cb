"""The estimators behave as scikit-learn's and give the same signed bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from steadynet.bundle.read import verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.errors import GateFailed
from steadynet.estimators import NetClassifier, NetRegressor
from steadynet.home import Home
from steadynet.model import train
from steadynet.registry.local import LocalRegistry

SMALL: dict[str, Any] = {"max_epochs": 4, "width": 16, "depth": 1}
SETTINGS = {"training.members": 2, "training.threads": 1}


def table(rows: int = 400) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a frame with numbers, texts and missing values, and what decides."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": random.normal(size=rows),
            "color": random.choice(["red", "green", "blue"], rows),
        }
    )
    score = frame["size"].to_numpy() + (frame["color"] == "red").to_numpy()
    frame.loc[frame.index[::19], "color"] = None
    return frame, score


@pytest.mark.slow
def test_a_classifier_keeps_the_classes_and_their_type(tmp_path: Path) -> None:
    features, score = table()
    target = np.where(score > 0.4, 7, 3)
    classifier = NetClassifier(**SMALL, settings=SETTINGS, home=tmp_path / "home")
    classifier.fit(features, target)
    assert classifier.classes_.tolist() == [3, 7]
    predicted = classifier.predict(features)
    assert predicted.dtype == target.dtype
    assert classifier.score(features, target) > 0.8
    probabilities = classifier.predict_proba(features)
    assert probabilities.shape == (400, 2)
    threshold = classifier.model_.manifest.decision_threshold or 0.5
    sure = np.abs(probabilities[:, 1] - threshold) > 1e-3
    np.testing.assert_array_equal((predicted == 7)[sure], (probabilities[:, 1] > threshold)[sure])
    copied = classifier.to_bundle(tmp_path / "bundle")
    key = signing_key(Home(tmp_path / "home")).public
    assert verify_bundle(copied, key).manifest.schema.target.classes[-1] == "7"
    with pytest.raises(ValueError, match="color"):
        classifier.predict(features[["size"]])


@pytest.mark.slow
def test_a_regressor_takes_arrays_and_leaves_nothing_behind() -> None:
    features, score = table()
    numbers = np.stack([features["size"], score], axis=1)
    regressor = NetRegressor(**SMALL, settings=SETTINGS).fit(numbers, 3 * score)
    assert regressor.score(numbers, 3 * score) > 0.3
    interval = regressor.predict_interval(numbers)
    predicted = regressor.predict(numbers)
    assert np.all((interval[:, 0] <= predicted) & (predicted <= interval[:, 1]))
    folder = regressor.folder_
    assert folder.is_dir()
    del regressor
    assert not folder.exists()


def test_an_estimator_can_be_cloned() -> None:
    original = NetClassifier(width=64, settings={"training.members": 4})
    copied = clone(original)
    assert copied.get_params() == original.get_params()
    assert copied.set_params(width=32).width == 32
    assert original.width == 64


def test_what_is_not_fitted_says_so(tmp_path: Path) -> None:
    features, _ = table(10)
    for use in (NetClassifier().predict, NetClassifier().predict_proba, NetRegressor().predict):
        with pytest.raises(NotFittedError):
            use(features)
    with pytest.raises(NotFittedError):
        NetRegressor().to_bundle(tmp_path / "bundle")


def test_input_that_cannot_be_trained_on_is_refused() -> None:
    features, _ = table(10)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        NetRegressor().fit(features, np.zeros(9))
    with pytest.raises(ValueError, match="1D array"):
        NetRegressor().fit(np.zeros(5), np.zeros(5))
    with pytest.raises(ValueError, match="same name"):
        NetClassifier().fit(features, np.array(["a", " a"] * 5))


@pytest.mark.slow
def test_a_registered_version_that_fails_its_gates_is_kept_and_never_champion(
    tmp_path: Path,
) -> None:
    features, score = table()
    frame = features.assign(target=np.where(score > 0.4, "yes", "no"))
    home = Home(tmp_path / "home")
    settings = {**SETTINGS, "training.max_epochs": 2, "training.width": 16}
    strict = {**settings, "gates.minimum": {"auc": 0.9999}}
    with pytest.raises(GateFailed, match=r"version strict/1 is no champion: auc is"):
        train(frame, target="target", name="strict", settings=strict, home=home, register=True)
    registry = LocalRegistry(home)
    assert registry.versions("strict") == ("1",)
    assert registry.aliases("strict") == {}
    assert registry.previous("strict", "champion") is None
    passed = train(
        frame, target="target", name="strict", settings=settings, home=home, register=True
    )
    assert passed.version == "2"
    assert registry.aliases("strict") == {"champion": "2"}
