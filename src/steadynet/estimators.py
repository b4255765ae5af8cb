"""scikit-learn estimators over the same training as `steadynet train`.

They take pandas and Polars frames with columns of any kind (texts, dates, missing values), and
arrays; there is nothing to impute, encode or scale before. `X` and `y` are scikit-learn's names.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    assert_all_finite,
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from steadynet.bundle.read import open_bundle
from steadynet.estimator_data import (
    Classes,
    TargetKeys,
    as_frame,
    as_value_errors,
    checked_features,
    columns_of,
    counted_rows,
    free_name,
    table_keys,
)
from steadynet.files import safe_join
from steadynet.home import Home
from steadynet.model import Model, OneOrList, train

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

    def _fit(
        self,
        table: pd.DataFrame,
        targets: list[np.ndarray],
        more: list[TargetKeys],
        weights: np.ndarray | None,
        fit: dict[str, Any],
    ) -> None:
        """Train on the features with targets and weights beside them.

        `more` says what each target is, `fit` holds further settings.
        """
        names: list[str] = []
        for number in range(len(targets)):
            names.append(free_name(f"target_{number}" if number else "target", table))
        beside = dict(zip(names, targets, strict=True))
        if weights is not None:
            counted = free_name("weight", table)
            beside[counted] = weights
            fit = fit | {"table.weight_column": counted}
        if len(table) < FEWEST_ROWS:
            raise ValueError(f"n_samples={len(table)} is too few; expected {FEWEST_ROWS} or more")
        home = Home(self._own_folder() if self.home is None else Path(self.home).absolute())
        with as_value_errors():
            self.model_ = train(
                table.assign(**beside),
                target=names,
                settings=self._settings() | table_keys(names, more) | fit,
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
            bundle = model.bundle
            state["_bundle"] = {name: (bundle.path / name).read_bytes() for name in bundle.files}
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
            path = safe_join(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        bundle = open_bundle(folder, manifest_sha256=digest)
        self.model_ = Model(bundle, name=bundle.manifest.name, version=digest[:12])

    def __sklearn_tags__(self) -> Tags:
        """Say that texts, categories and missing values are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.target_tags.multi_output = True
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
            "training.pictures": False,
            "split.seed": seed,
            "split.min_rows": FEWEST_ROWS,
        }
        chosen = {key: value for key, value in given.items() if value is not None}
        return chosen | (self.settings or {})

    def _features(self, features: Any, *, reset: bool) -> pd.DataFrame:
        """Return X as a frame; with `reset` its columns become those that the estimator knows."""
        if not reset:
            check_is_fitted(self)
        checked = checked_features(features)
        validate_data(self, checked, reset=reset, skip_check_array=True)
        return as_frame(checked)

    def _target(self, y: Any) -> np.ndarray:
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None."
            )
        shape = np.asarray(y).shape
        if len(shape) == 2 and shape[1] > 1:
            matrix: np.ndarray = check_array(y, dtype=None, ensure_all_finite=False)
            return matrix
        column: np.ndarray = column_or_1d(y, warn=True)
        return column


class NetClassifier(ClassifierMixin, _NetEstimator):  # type: ignore[misc]
    """A calibrated neural network for two or more classes, of one target or of several.

    `class_weight` (class → weight, or "balanced") moves what `predict` decides; `predict_proba`
    stays calibrated.

    After `fit`: `model_` (the verified `steadynet.Model`), `classes_`, `n_features_in_`,
    `feature_names_in_`. With y (N, K) all K columns are fitted by one network, and `classes_` is a
    list of K arrays: several labels a row are K columns of 0 and 1.
    """

    def __init__(
        self,
        *,
        class_weight: Literal["balanced"] | dict[Any, float] | None = None,
        loss: Literal["auto", "log_loss", "focal", "ordinal"] = "auto",
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
        super().__init__(
            max_epochs=max_epochs,
            width=width,
            depth=depth,
            dropout=dropout,
            preset=preset,
            time_limit_s=time_limit_s,
            random_state=random_state,
            settings=settings,
            home=home,
        )
        self.class_weight = class_weight
        self.loss = loss

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train on rows X (N, D) with classes y (N,) or (N, K). The last in order is positive.

        `sample_weight` (N,) says how much each row counts, in calibration and metrics too. `loss`
        and `class_weight` are those of the first column of y.
        """
        table, target = self._features(X, reset=True), self._target(y)
        check_consistent_length(table, target)
        table, target, weights = counted_rows(table, target, sample_weight)
        if target.dtype.kind == "f":
            assert_all_finite(target, input_name="y")
        check_classification_targets(target)
        columns = [Classes(column) for column in columns_of(target)]
        given = columns[0].weights(self.class_weight)
        self._label_weights = columns[0].label_weights(given)
        self._fit(
            table,
            [column.texts for column in columns],
            [column.keys() for column in columns],
            weights,
            {"training.loss": self.loss, "training.class_weights": given},
        )
        classes = [column.classes for column in columns]
        self.classes_: OneOrList = classes if target.ndim == 2 else classes[0]
        # The bundle may order its classes otherwise.
        self._orders = [
            [described.classes.index(name) for name in column.names]
            for described, column in zip(self.model_.schema.targets, columns, strict=True)
        ]
        return self

    def predict_proba(self, X: Any) -> OneOrList:  # noqa: N803
        """Return the probabilities (N, C) of `classes_`, in their order; for y (N, K) a list."""
        table = self._features(X, reset=False)
        with as_value_errors():
            found = self.model_.predict_proba(table)
        several = isinstance(self.classes_, list)
        ordered = [
            probabilities[:, order]
            for probabilities, order in zip(
                found if several else [found], self._orders, strict=True
            )
        ]
        return ordered if several else ordered[0]

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the classes (N,) or (N, K), of y's own type: those of most weight times chance."""
        if self.class_weight is not None and not isinstance(self.classes_, list):
            weighed = self.predict_proba(X) * self._label_weights
            likeliest: np.ndarray = self.classes_[weighed.argmax(axis=1)]
            return likeliest
        table = self._features(X, reset=False)
        several = isinstance(self.classes_, list)
        with as_value_errors():
            labels = self.model_.predict(table)
        columns = []
        for place, (described, order) in enumerate(
            zip(self.model_.schema.targets, self._orders, strict=True)
        ):
            classes = self.classes_[place] if several else self.classes_
            position = {described.classes[at]: index for index, at in enumerate(order)}
            own = labels[:, place] if several else labels
            columns.append(classes[[position[label] for label in own]])
        found: np.ndarray = np.stack(columns, axis=1) if several else columns[0]
        return found

    def __sklearn_tags__(self) -> Tags:
        """Say that several labels a row are welcome."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class NetRegressor(RegressorMixin, _NetEstimator):  # type: ignore[misc]
    """A neural network for a number, or for several, with intervals of promised coverage.

    `loss` says what of the number is predicted: "squared" its mean, "absolute" its median, "huber"
    its mean without outliers, "quantile" the given `quantile`, "poisson" the mean of a count.

    After `fit`: `model_` (the verified `steadynet.Model`), `n_features_in_`, `feature_names_in_`.
    With y (N, K) all K columns are fitted by one network.
    """

    def __init__(
        self,
        *,
        loss: Literal["auto", "squared", "absolute", "huber", "quantile", "poisson"] = "auto",
        quantile: float | None = None,
        target_transform: Literal["auto", "none", "log", "quantile"] = "none",
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
        super().__init__(
            max_epochs=max_epochs,
            width=width,
            depth=depth,
            dropout=dropout,
            preset=preset,
            time_limit_s=time_limit_s,
            random_state=random_state,
            settings=settings,
            home=home,
        )
        self.loss = loss
        self.quantile = quantile
        self.target_transform = target_transform

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train on rows X (N, D) with numbers y (N,) or (N, K).

        `sample_weight` (N,) says how much each row counts, in calibration and metrics too. `loss`
        is that of the first column of y.
        """
        table, target = self._features(X, reset=True), self._target(y)
        check_consistent_length(table, target)
        table, target, weights = counted_rows(table, target, sample_weight)
        numbers = target.astype(np.float64)
        assert_all_finite(numbers, input_name="y")
        columns = columns_of(numbers)
        fit: dict[str, Any] = {
            "training.loss": self.loss,
            "training.target_transform": self.target_transform,
        }
        if self.quantile is not None:
            fit["training.quantile"] = self.quantile
        keys = [TargetKeys("regression", None)] * len(columns)
        self._fit(table, columns, keys, weights, fit)
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the predictions, float32 (N,) or, as scikit-learn asks for, float64 (N, K)."""
        table = self._features(X, reset=False)
        with as_value_errors():
            found: np.ndarray = self.model_.predict(table)
        return found.astype(np.float64) if found.ndim == 2 else found

    def predict_interval(self, X: Any) -> OneOrList:  # noqa: N803
        """Return lower and upper bounds, float32 (N, 2); for y (N, K) a list of K."""
        table = self._features(X, reset=False)
        with as_value_errors():
            return self.model_.predict_interval(table)
