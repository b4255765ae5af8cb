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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

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
from steadynet.model import Model, OneOrList, train
from steadynet.spec.kinds import Task
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

    def _fit(self, table: pd.DataFrame, targets: list[np.ndarray], more: list[_TargetKeys]) -> None:
        """Train on the features with the targets beside them, saying of each what it is."""
        names: list[str] = []
        for number in range(len(targets)):
            name = f"target_{number}" if number else "target"
            while name in table.columns:
                name += "_"
            names.append(name)
        if len(table) < FEWEST_ROWS:
            raise ValueError(f"n_samples={len(table)} is too few; expected {FEWEST_ROWS} or more")
        home = Home(self._own_folder() if self.home is None else Path(self.home).absolute())
        with _as_value_errors():
            self.model_ = train(
                table.assign(**dict(zip(names, targets, strict=True))),
                target=names,
                settings=self._settings() | _table_keys(names, more),
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
        if getattr(y, "ndim", 1) == 2 and y.shape[1] > 1:
            matrix: np.ndarray = check_array(y, dtype=None, ensure_all_finite=False)
            return matrix
        column: np.ndarray = column_or_1d(y, warn=True)
        return column


class NetClassifier(ClassifierMixin, _NetEstimator):  # type: ignore[misc]
    """A calibrated neural network for two or more classes, of one target or of several.

    After `fit`: `model_` (the verified `steadynet.Model`), `classes_`, `n_features_in_`,
    `feature_names_in_`. With y (N, K) all K columns are fitted by one network, and `classes_` is a
    list of K arrays: several labels a row are K columns of 0 and 1.
    """

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Train on rows X (N, D) with classes y (N,) or (N, K). The last in order is positive."""
        table, target = self._features(X, reset=True), self._target(y)
        check_consistent_length(table, target)
        if target.dtype.kind == "f":
            assert_all_finite(target, input_name="y")
        check_classification_targets(target)
        columns = [_Classes(column) for column in _columns_of(target)]
        self._fit(
            table, [column.texts for column in columns], [column.keys() for column in columns]
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
        with _as_value_errors():
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
        """Return the classes (N,) or (N, K), of y's own type."""
        table = self._features(X, reset=False)
        several = isinstance(self.classes_, list)
        with _as_value_errors():
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

    After `fit`: `model_` (the verified `steadynet.Model`), `n_features_in_`, `feature_names_in_`.
    With y (N, K) all K columns are fitted by one network.
    """

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Train on rows X (N, D) with numbers y (N,) or (N, K)."""
        table, target = self._features(X, reset=True), self._target(y)
        check_consistent_length(table, target)
        numbers = target.astype(np.float64)
        assert_all_finite(numbers, input_name="y")
        columns = _columns_of(numbers)
        self._fit(table, columns, [_TargetKeys("regression", None)] * len(columns))
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the predictions, float32 (N,) or (N, K)."""
        table = self._features(X, reset=False)
        with _as_value_errors():
            return self.model_.predict(table)

    def predict_interval(self, X: Any) -> OneOrList:  # noqa: N803
        """Return lower and upper bounds, float32 (N, 2); for y (N, K) a list of K."""
        table = self._features(X, reset=False)
        with _as_value_errors():
            return self.model_.predict_interval(table)


class _TargetKeys(NamedTuple):
    """What the spec says of a target."""

    task: Task
    positive_class: str | None


class _Classes:
    """A column of y, as classes and as the texts that training reads."""

    def __init__(self, column: np.ndarray) -> None:
        self.classes: np.ndarray = unique_labels(column)
        if len(self.classes) < 2:
            raise ValueError("y holds one class; expected at least two classes")
        self.names = [category(label) for label in self.classes.tolist()]
        if len(set(self.names)) < len(self.names):
            raise ValueError("two classes have the same name; rename them in y")
        codes = np.searchsorted(self.classes, column)
        self.texts = np.array(self.names, dtype=object)[codes]

    def keys(self) -> _TargetKeys:
        """Return what the spec says of it: the last class in order is positive."""
        if len(self.names) == 2:
            return _TargetKeys("binary", self.names[-1])
        return _TargetKeys("multiclass", None)


def _columns_of(target: np.ndarray) -> list[np.ndarray]:
    """Return the columns of y (N,) or (N, K)."""
    return [target] if target.ndim == 1 else list(target.T)


def _table_keys(names: list[str], given: list[_TargetKeys]) -> dict[str, Any]:
    """Return the keys of the spec that say what the targets are."""
    (main, *more), further = given, names[1:]
    keys: dict[str, Any] = {"table.task": main.task}
    if main.positive_class is not None:
        keys["table.positive_class"] = main.positive_class
    if further:
        keys["table.more_tasks"] = {
            name: item.task for name, item in zip(further, more, strict=True)
        }
        keys["table.more_positive_classes"] = {
            name: item.positive_class
            for name, item in zip(further, more, strict=True)
            if item.positive_class is not None
        }
    return keys


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
