"""What users hand to the scikit-learn estimators, as training takes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import _check_sample_weight, check_array

from steadynet.errors import InputError, UserError
from steadynet.spec.kinds import Task
from steadynet.table.values import category

if TYPE_CHECKING:
    import pandas as pd


class TargetKeys(NamedTuple):
    """What the spec says of a target."""

    task: Task
    positive_class: str | None


class Classes:
    """A column of y, as classes and as the texts that training reads."""

    def __init__(self, column: np.ndarray) -> None:
        self.classes: np.ndarray = unique_labels(column)
        if len(self.classes) < 2:
            raise ValueError("y holds one class; expected at least two classes")
        self.names = [category(label) for label in self.classes.tolist()]
        if len(set(self.names)) < len(self.names):
            raise ValueError("two classes have the same name; rename them in y")
        self._codes = np.searchsorted(self.classes, column)
        self.texts = np.array(self.names, dtype=object)[self._codes]

    def weights(self, wanted: Any) -> str | dict[str, float]:
        """Return `training.class_weights` of `class_weight`, whose keys are classes of y."""
        if not isinstance(wanted, dict):
            return "none" if wanted is None else str(wanted)
        known = dict(zip(self.classes.tolist(), self.names, strict=True))
        return {known.get(key, str(key)): float(weight) for key, weight in wanted.items()}

    def label_weights(self, given: str | dict[str, float]) -> np.ndarray:
        """Return what each class weighs where a label is decided (C,)."""
        if isinstance(given, dict):
            return np.array([given.get(name, 1.0) for name in self.names])
        return 1 / np.maximum(np.bincount(self._codes), 1)

    def keys(self) -> TargetKeys:
        """Return what the spec says of it: the last class in order is positive."""
        if len(self.names) == 2:
            return TargetKeys("binary", self.names[-1])
        return TargetKeys("multiclass", None)


def columns_of(target: np.ndarray) -> list[np.ndarray]:
    """Return the columns of y (N,) or (N, K)."""
    return [target] if target.ndim == 1 else list(target.T)


def table_keys(names: list[str], given: list[TargetKeys]) -> dict[str, Any]:
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


def counted_rows(
    table: pd.DataFrame, target: np.ndarray, sample_weight: Any
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray | None]:
    """Return the rows that count, and their weights; a weight of 0 is no row."""
    if sample_weight is None:
        return table, target, None
    weights = _check_sample_weight(sample_weight, table, ensure_non_negative=True)
    kept = weights > 0
    return table[kept], target[kept], weights[kept]


def free_name(name: str, table: pd.DataFrame) -> str:
    while name in table.columns:
        name += "_"
    return name


@contextmanager
def as_value_errors() -> Iterator[None]:
    """Raise our errors as the ValueError that scikit-learn's callers expect."""
    try:
        yield
    except (UserError, InputError) as error:
        raise ValueError(str(error)) from error


def checked_features(features: Any) -> Any:
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


def as_frame(features: Any) -> pd.DataFrame:
    """Return rows as a pandas frame with text names; arrays get x0, x1 …"""
    import pandas as pd

    if isinstance(features, pd.DataFrame):
        return features.set_axis([str(name) for name in features.columns], axis=1)
    if type(features).__module__.partition(".")[0] == "polars":
        frame: pd.DataFrame = features.to_pandas()
        return frame
    return pd.DataFrame(features, columns=[f"x{place}" for place in range(features.shape[1])])
