"""Two models that the network is held against, on the same rows and columns: `linear` and
`boosted_trees`, both from scikit-learn with its defaults, printed also when they win.

Both are fitted on the rows that the network's weights were fitted on. The linear model gets the
feature graph's scaled numbers and one-hot categories; the trees get the raw numbers with their
missing values, and categories as categories.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from steadynet.features.run import Tensors
from steadynet.runtime.metrics import classification_metrics, regression_metrics
from steadynet.spec.losses import Loss
from steadynet.table.cells import Cells
from steadynet.table.layout import FeatureLayout
from steadynet.table.schema import Schema
from steadynet.training.data import TargetCode
from steadynet.training.linear import design_matrix, fit_numbers
from steadynet.training.samples import REFERENCE_ROWS, thinned

Indices = npt.NDArray[np.int64]

MOST_ENTRIES = 255
"""Categories that scikit-learn's trees take; the rarer ones count as unknown."""
ITERATIONS = 1000


@dataclass(frozen=True, kw_only=True)
class ReferenceRows:
    """Which rows the references are fitted and tested on."""

    fitted: Indices
    test: Indices
    weights: npt.NDArray[np.float64] | None = None
    """Of all rows of the table (N,)."""

    def weights_of(self, rows: Indices) -> npt.NDArray[np.float64] | None:
        """Return the weights of some rows."""
        return None if self.weights is None else self.weights[rows]


def fit_references(
    tensors: Tensors,
    columns: Mapping[str, Cells],
    target: npt.NDArray[Any],
    *,
    schema: Schema,
    layout: FeatureLayout,
    rows: ReferenceRows,
    code: TargetCode | None = None,
) -> dict[str, dict[str, float]]:
    """Return reference → metric → value on the test rows; numbers are fitted by `code`'s loss.

    At most `REFERENCE_ROWS` of the fitted rows are taken.
    """
    fitted, test = thinned(rows.fitted, REFERENCE_ROWS), rows.test
    own, test_weights = rows.weights_of(fitted), rows.weights_of(test)
    taken = np.concatenate([fitted, test])
    tensors, target = tensors.rows(taken), target[taken]
    columns = {name: cells[taken] for name, cells in columns.items()}
    fitted, test = np.arange(len(fitted)), np.arange(len(fitted), len(taken))
    design, _, _ = design_matrix(tensors.numbers, tensors.categories, layout.cardinalities, fitted)
    cells, is_category = tree_cells(tensors, columns, schema, layout)
    data = _Data(design, cells, is_category, target, fitted, test, own)
    classes = schema.target.classes
    if not classes:
        loss = None if code is None else code.loss
        return {
            name: regression_metrics(target[test], answer, loss=loss, weights=test_weights)
            for name, answer in _of_numbers(data, code).items()
        }
    return {
        name: classification_metrics(
            target[test],
            probabilities,
            classes,
            ordered=schema.target.ordered,
            weights=test_weights,
        )
        for name, probabilities in _of_classes(data, len(classes)).items()
    }


class _Data(NamedTuple):
    """What the references are fitted on."""

    design: sparse.csr_matrix
    """For the linear model (N, F)."""
    cells: npt.NDArray[np.float32]
    """For the trees (N, K)."""
    is_category: list[bool]
    target: npt.NDArray[Any]
    fitted: Indices
    test: Indices
    weights: npt.NDArray[np.float64] | None
    """Of the fitted rows."""


def _of_numbers(data: _Data, code: TargetCode | None) -> dict[str, npt.NDArray[np.float64]]:
    """Return each reference's predictions of the test rows."""
    design, target, fitted, test = data.design, data.target, data.fitted, data.test
    if code is None or code.loss.name == "squared":
        ridge = Ridge().fit(design[fitted], target[fitted], sample_weight=data.weights)
        linear = ridge.predict(design[test])
    else:
        coded = code.encode(target[fitted])
        weight, bias = fit_numbers(design[fitted], coded, code, 1.0, data.weights)
        linear = code.decode((design[test] @ weight + bias)[:, 0])
    trees = HistGradientBoostingRegressor(
        categorical_features=data.is_category,
        random_state=0,
        **_tree_loss(None if code is None else code.loss),
    )
    trees.fit(data.cells[fitted], target[fitted], sample_weight=data.weights)
    return {"linear": linear, "boosted_trees": trees.predict(data.cells[test])}


def _of_classes(data: _Data, count: int) -> dict[str, npt.NDArray[np.float64]]:
    """Return each reference's probabilities (n, C) of the test rows."""
    design, target, fitted, test = data.design, data.target, data.fitted, data.test
    logistic = LogisticRegression(max_iter=ITERATIONS)
    with warnings.catch_warnings():
        # After so many steps the metrics no longer move; the reference stands as it is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        logistic.fit(design[fitted], target[fitted], sample_weight=data.weights)
    forest = HistGradientBoostingClassifier(categorical_features=data.is_category, random_state=0)
    forest.fit(data.cells[fitted], target[fitted], sample_weight=data.weights)
    return {
        "linear": _all_classes(logistic.predict_proba(design[test]), logistic.classes_, count),
        "boosted_trees": _all_classes(
            forest.predict_proba(data.cells[test]), forest.classes_, count
        ),
    }


def _tree_loss(loss: Loss | None) -> dict[str, Any]:
    """Return scikit-learn's arguments for a loss; it has none for Huber's."""
    names = {"absolute": "absolute_error", "huber": "absolute_error", "poisson": "poisson"}
    if loss is None or loss.name == "squared":
        return {}
    if loss.name == "quantile":
        return {"loss": "quantile", "quantile": loss.parameter}
    return {"loss": names[loss.name]}


def tree_cells(
    tensors: Tensors, columns: Mapping[str, Cells], schema: Schema, layout: FeatureLayout
) -> tuple[npt.NDArray[np.float32], list[bool]]:
    """Return what trees are fitted on (N, F), and which of the F columns are categories.

    Dates come as the parts that the feature graph makes of them.
    """
    moments = {column.name for column in schema.features if column.kind == "datetime"}
    parts: list[npt.NDArray[np.float32]] = []
    is_category: list[bool] = []
    for column in schema.features:
        if column.kind in ("number", "boolean"):
            raw = columns[column.name][:][:, 0].astype(np.float32)
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
