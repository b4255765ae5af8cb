"""Two models that the network is held against, on the same rows and columns: `linear` and
`boosted_trees`, both from scikit-learn with its defaults, printed also when they win.

Both are fitted on the rows that the network's weights were fitted on. The linear model gets the
feature graph's scaled numbers and one-hot categories; the trees get the raw numbers with their
missing values, and categories as categories.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from steadynet.features.run import Tensors
from steadynet.runtime.metrics import classification_metrics, regression_metrics
from steadynet.table.layout import FeatureLayout
from steadynet.table.schema import Schema
from steadynet.training.answers import Columns
from steadynet.training.linear import design_matrix

Indices = npt.NDArray[np.int64]

MOST_ENTRIES = 255
"""Categories that scikit-learn's trees take; the rarer ones count as unknown."""
ITERATIONS = 1000


def fit_references(
    tensors: Tensors,
    columns: Columns,
    target: npt.NDArray[Any],
    *,
    schema: Schema,
    layout: FeatureLayout,
    fitted: Indices,
    test: Indices,
) -> dict[str, dict[str, float]]:
    """Return reference → metric → value on the test rows."""
    design, _, _ = design_matrix(tensors.numbers, tensors.categories, layout.cardinalities, fitted)
    cells, is_category = tree_cells(tensors, columns, schema, layout)
    classes = schema.target.classes
    if not classes:
        ridge = Ridge().fit(design[fitted], target[fitted])
        trees = HistGradientBoostingRegressor(categorical_features=is_category, random_state=0)
        trees.fit(cells[fitted], target[fitted])
        return {
            "linear": regression_metrics(target[test], ridge.predict(design[test])),
            "boosted_trees": regression_metrics(target[test], trees.predict(cells[test])),
        }
    logistic = LogisticRegression(max_iter=ITERATIONS)
    with warnings.catch_warnings():
        # After so many steps the metrics no longer move; the reference stands as it is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        logistic.fit(design[fitted], target[fitted])
    forest = HistGradientBoostingClassifier(categorical_features=is_category, random_state=0)
    forest.fit(cells[fitted], target[fitted])
    count = len(classes)
    answers = {
        "linear": _all_classes(logistic.predict_proba(design[test]), logistic.classes_, count),
        "boosted_trees": _all_classes(forest.predict_proba(cells[test]), forest.classes_, count),
    }
    return {
        name: classification_metrics(target[test], probabilities, classes)
        for name, probabilities in answers.items()
    }


def tree_cells(
    tensors: Tensors, columns: Columns, schema: Schema, layout: FeatureLayout
) -> tuple[npt.NDArray[np.float32], list[bool]]:
    """Return what trees are fitted on (N, F), and which of the F columns are categories.

    Dates come as the parts that the feature graph makes of them.
    """
    moments = {column.name for column in schema.features if column.kind == "datetime"}
    parts: list[npt.NDArray[np.float32]] = []
    is_category: list[bool] = []
    for column in schema.features:
        if column.kind in ("number", "boolean"):
            raw = columns[column.name][:, 0].astype(np.float32)
            finite = np.isfinite(raw)
            # scikit-learn cannot bin a column without any value.
            parts.append(np.where(finite, raw, np.nan if finite.any() else 0).astype(np.float32))
            is_category.append(False)
    for place, source in enumerate(layout.number_sources):
        if source in moments:
            parts.append(tensors.numbers[:, place])
            is_category.append(False)
    for place in range(len(layout.categories)):
        entries = tensors.categories[:, place]
        # Entries stand in the order of frequency, after "missing" (0) and "unknown" (1).
        parts.append(np.where(entries < MOST_ENTRIES, entries, 1).astype(np.float32))
        is_category.append(True)
    return np.stack(parts, axis=1), is_category


def _all_classes(
    probabilities: npt.NDArray[np.float64], present: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.float64]:
    """Give classes that were not among the fitted rows a probability of 0."""
    whole = np.zeros((len(probabilities), count))
    whole[:, present] = probabilities
    return whole
