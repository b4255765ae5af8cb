"""scikit-learn estimators over the same training as `steadynet train`.

They take pandas and Polars frames with columns of any kind (texts, dates, missing values), and
arrays; there is nothing to impute, encode or scale before. `X` and `y` are scikit-learn's names.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import (
    assert_all_finite,
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from steadynet.bundle.read import open_bundle
from steadynet.errors import InputError, UserError
from steadynet.home import Home
from steadynet.model import Model, train
from steadynet.table.values import category

if TYPE_CHECKING:
    import pandas as pd


FEWEST_ROWS = 8
"""Fewer rows than `steadynet train` takes, since scikit-learn's users fit on folds of folds."""

MOST_SEEDS = 2**31 - 1


class _NetEstimator(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor share.

    `settings` are dotted keys of `steadynet.toml`, as `{"training.width": 128}`. `home` is where
    the bundle and the key that signs it lie; a temporary folder, removed with the estimator,
    where it is None. What else is None is chosen from the table's size. `random_state` decides
    everything random; a generator gives each `fit` another seed.
    """

    def __init__(
        self,
        *,
        max_epochs: int | None = None,
        width: int | None = None,
        depth: int | None = None,
        dropout: float | None = None,
        preset: Literal["fast", "balanced", "best"] = "fast",
        time_limit_s: float | None = None,
        random_state: int | np.random.RandomState = 0,
        settings: dict[str, Any] | None = None,
        home: str | Path | None = None,
    ) -> None:
        self.max_epochs = max_epochs
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.preset = preset
        self.time_limit_s = time_limit_s
        self.random_state = random_state
        self.settings = settings
        self.home = home

    def to_bundle(self, folder: str | Path) -> Path:
        """Copy the signed bundle to `folder`, which must not exist yet, and return its path."""
        check_is_fitted(self)
        model: Model = self.model_
        return Path(shutil.copytree(model.bundle.path, folder))

    def _fit(self, table: pd.DataFrame, target: np.ndarray, more: dict[str, Any]) -> None:
        """Train on the features with the target beside them."""
        name = "target"
        while name in table.columns:
            name += "_"
        if len(table) < FEWEST_ROWS:
            raise ValueError(f"n_samples={len(table)} is too few; expected {FEWEST_ROWS} or more")
        home = Home(self._own_folder() if self.home is None else Path(self.home).absolute())
        with _as_value_errors():
            self.model_ = train(
                table.assign(**{name: target}),
                target=name,
                settings=self._settings() | more,
                home=home,
            )

    def _own_folder(self) -> Path:
        """Make a folder that is removed when the estimator is: the model needs its files."""
        self.folder_ = Path(tempfile.mkdtemp(prefix="steadynet-"))
        weakref.finalize(self, shutil.rmtree, self.folder_, ignore_errors=True)
        return self.folder_

    def __getstate__(self) -> dict[str, Any]:
        """Carry the bundle's files instead of the model, which holds a session."""
        state: dict[str, Any] = dict(super().__getstate__())
        model: Model | None = state.pop("model_", None)
        state.pop("folder_", None)
        if model is not None:
            folder = model.bundle.path
            state["_bundle"] = {path.name: path.read_bytes() for path in folder.iterdir()}
            state["_manifest_sha256"] = model.bundle.manifest_sha256
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Write the bundle to a folder of this estimator's own and check its digests."""
        files: dict[str, bytes] | None = state.pop("_bundle", None)
        digest = state.pop("_manifest_sha256", "")
        super().__setstate__(state)
        if files is None:
            return
        folder = self._own_folder() / "bundle"
        folder.mkdir()
        for name, content in files.items():
            (folder / Path(name).name).write_bytes(content)
        bundle = open_bundle(folder, manifest_sha256=digest)
        self.model_ = Model(bundle, name=bundle.manifest.name, version=digest[:12])

    def __sklearn_tags__(self) -> Tags:
        """Say that texts, categories and missing values are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.non_deterministic = False
        return tags

    def _settings(self) -> dict[str, Any]:
        seed = self.random_state
        if isinstance(seed, np.random.RandomState):
            seed = int(seed.randint(MOST_SEEDS))
        given = {
            "training.max_epochs": self.max_epochs,
            "training.width": self.width,
            "training.depth": self.depth,
            "training.dropout": self.dropout,
            "training.seed": seed,
            "training.preset": self.preset,
            "training.time_limit_s": self.time_limit_s,
            "split.seed": seed,
            "split.min_rows": FEWEST_ROWS,
        }
        chosen = {key: value for key, value in given.items() if value is not None}
        return chosen | (self.settings or {})

    def _features(self, features: Any, *, reset: bool) -> pd.DataFrame:
        """Return X as a frame; with `reset` its columns become those that the estimator knows."""
        if not reset:
            check_is_fitted(self)
        checked = _checked(features)
        validate_data(self, checked, reset=reset, skip_check_array=True)
        return _as_frame(checked)

    def _target(self, y: Any) -> np.ndarray:
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None."
            )
        column: np.ndarray = column_or_1d(y, warn=True)
        return column


class NetClassifier(ClassifierMixin, _NetEstimator):  # type: ignore[misc]
    """A calibrated neural network for two or more classes.

    After `fit`: `model_` (the verified `steadynet.Model`), `classes_`, `n_features_in_`,
    `feature_names_in_`.
    """

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Train on rows X (N, D) with classes y (N,). The last class in order is positive."""
        table, target = self._features(X, reset=True), self._target(y)
        check_consistent_length(table, target)
        if target.dtype.kind == "f":
            assert_all_finite(target, input_name="y")
        check_classification_targets(target)
        classes = unique_labels(target)
        if len(classes) < 2:
            raise ValueError("y holds one class; expected at least two classes")
        names = [category(label) for label in classes.tolist()]
        if len(set(names)) < len(names):
            raise ValueError("two classes have the same name; rename them in y")
        task = "binary" if len(names) == 2 else "multiclass"
        more: dict[str, Any] = {"table.task": task}
        if task == "binary":
            more["table.positive_class"] = names[-1]
        codes = np.searchsorted(classes, target)
        self._fit(table, np.array(names, dtype=object)[codes], more)
        self.classes_ = classes
        # The bundle may order its classes otherwise.
        self._order = [self.model_.classes.index(name) for name in names]
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the probabilities (N, C) of `classes_`, in their order."""
        table = self._features(X, reset=False)
        with _as_value_errors():
            return self.model_.predict_proba(table)[:, self._order]

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the classes (N,), of y's own type."""
        table = self._features(X, reset=False)
        with _as_value_errors():
            labels = self.model_.predict(table)
        position = {self.model_.classes[at]: index for index, at in enumerate(self._order)}
        classes: np.ndarray = self.classes_[[position[label] for label in labels]]
        return classes


class NetRegressor(RegressorMixin, _NetEstimator):  # type: ignore[misc]
    """A neural network for a number, with an interval of promised coverage.

    After `fit`: `model_` (the verified `steadynet.Model`), `n_features_in_`, `feature_names_in_`.
    """

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Train on rows X (N, D) with numbers y (N,)."""
        table, target = self._features(X, reset=True), self._target(y)
        check_consistent_length(table, target)
        numbers = target.astype(np.float64)
        assert_all_finite(numbers, input_name="y")
        self._fit(table, numbers, {"table.task": "regression"})
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the predictions, float32 (N,)."""
        table = self._features(X, reset=False)
        with _as_value_errors():
            return self.model_.predict(table)

    def predict_interval(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return lower and upper bounds, float32 (N, 2)."""
        table = self._features(X, reset=False)
        with _as_value_errors():
            return self.model_.predict_interval(table)


@contextmanager
def _as_value_errors() -> Iterator[None]:
    """Raise our errors as the ValueError that scikit-learn's callers expect."""
    try:
        yield
    except (UserError, InputError) as error:
        raise ValueError(str(error)) from error


def _checked(features: Any) -> Any:
    """Return X, as an array where it is no frame; refuse what is no table."""
    if sparse.issparse(features):
        raise TypeError("sparse input is not supported; convert X with .toarray()")
    library = type(features).__module__.partition(".")[0]
    if library == "pyarrow":
        features = features.to_pandas()
    if library in ("pandas", "polars", "pyarrow"):
        if len(features) == 0 or features.shape[1] == 0:
            raise ValueError(f"X is empty; expected rows and columns, got {features.shape}")
        return features
    return check_array(features, dtype=None, ensure_all_finite=False)


def _as_frame(features: Any) -> pd.DataFrame:
    """Return rows as a pandas frame with text names; arrays get x0, x1 …"""
    import pandas as pd

    if isinstance(features, pd.DataFrame):
        return features.set_axis([str(name) for name in features.columns], axis=1)
    if type(features).__module__.partition(".")[0] == "polars":
        frame: pd.DataFrame = features.to_pandas()
        return frame
    return pd.DataFrame(features, columns=[f"x{place}" for place in range(features.shape[1])])
