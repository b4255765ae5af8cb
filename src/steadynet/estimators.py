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
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted, column_or_1d

from steadynet.errors import UserError
from steadynet.home import Home
from steadynet.model import Model, train
from steadynet.table.values import category

if TYPE_CHECKING:
    import pandas as pd


class _NetEstimator(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor share.

    `settings` are dotted keys of `steadynet.toml`, as `{"training.width": 128}`. `home` is where
    the bundle and the key that signs it lie; a temporary folder, removed with the estimator,
    where it is None. What else is None is chosen from the table's size.
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
        random_state: int = 0,
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

    def _fit(self, features: Any, target: np.ndarray, more: dict[str, Any]) -> None:
        """Train on the features with the target beside them."""
        table = _as_frame(features)
        if len(table) != len(target):
            raise UserError(
                "X and y have different lengths",
                expected=f"{len(table)} rows in y",
                got=f"{len(target)}",
            )
        name = "target"
        while name in table.columns:
            name += "_"
        self.n_features_in_ = table.shape[1]
        self.feature_names_in_ = np.array([str(column) for column in table.columns], dtype=object)
        if self.home is None:
            # Removed when the estimator is: the model needs its files until then.
            self.folder_ = Path(tempfile.mkdtemp(prefix="steadynet-"))
            weakref.finalize(self, shutil.rmtree, self.folder_, ignore_errors=True)
            home = Home(self.folder_)
        else:
            home = Home(Path(self.home).absolute())
        self.model_ = train(
            table.assign(**{name: target}),
            target=name,
            settings=self._settings() | more,
            home=home,
        )

    def _settings(self) -> dict[str, Any]:
        given = {
            "training.max_epochs": self.max_epochs,
            "training.width": self.width,
            "training.depth": self.depth,
            "training.dropout": self.dropout,
            "training.seed": self.random_state,
            "training.preset": self.preset,
            "training.time_limit_s": self.time_limit_s,
            "split.seed": self.random_state,
        }
        chosen = {key: value for key, value in given.items() if value is not None}
        return chosen | (self.settings or {})

    def _table(self, features: Any) -> pd.DataFrame:
        check_is_fitted(self)
        table = _as_frame(features)
        if table.shape[1] != self.n_features_in_:
            raise UserError(
                "X has another number of columns than in training",
                expected=str(self.n_features_in_),
                got=str(table.shape[1]),
            )
        return table


class NetClassifier(ClassifierMixin, _NetEstimator):  # type: ignore[misc]
    """A calibrated neural network for two or more classes.

    After `fit`: `model_` (the verified `steadynet.Model`), `classes_`, `n_features_in_`,
    `feature_names_in_`.
    """

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Train on rows X (N, D) with classes y (N,). The last class in order is positive."""
        target = column_or_1d(y)
        self.classes_ = unique_labels(target)
        names = [category(label) for label in self.classes_.tolist()]
        if len(set(names)) < len(names):
            raise UserError("two classes have the same name", do="Rename them in y.")
        task = "binary" if len(names) == 2 else "multiclass"
        more = {"table.task": task}
        if task == "binary":
            more["table.positive_class"] = names[-1]
        codes = np.searchsorted(self.classes_, target)
        self._fit(X, np.array(names, dtype=object)[codes], more)
        # The bundle may order its classes otherwise.
        self._order = [self.model_.classes.index(name) for name in names]
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the probabilities (N, C) of `classes_`, in their order."""
        table = self._table(X)
        return self.model_.predict_proba(table)[:, self._order]

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the classes (N,), of y's own type."""
        table = self._table(X)
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
        self._fit(X, column_or_1d(y).astype(np.float64), {"table.task": "regression"})
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the predictions, float32 (N,)."""
        table = self._table(X)
        return self.model_.predict(table)

    def predict_interval(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return lower and upper bounds, float32 (N, 2)."""
        table = self._table(X)
        return self.model_.predict_interval(table)


def _as_frame(features: Any) -> pd.DataFrame:
    """Return rows as a pandas frame with text names; arrays get x0, x1 …"""
    import pandas as pd

    if isinstance(features, pd.DataFrame):
        return features.set_axis([str(name) for name in features.columns], axis=1)
    library = type(features).__module__.partition(".")[0]
    if library == "polars":
        frame: pd.DataFrame = features.to_pandas()
        return frame
    array = np.asarray(features)
    if array.ndim != 2:
        raise UserError("X is no table", expected="(N, D)", got=str(array.shape))
    return pd.DataFrame(array, columns=[f"x{place}" for place in range(array.shape[1])])
