"""How far answers are off from row to row: boosted trees on the held-out residuals, by LightGBM.

The trees tell the logarithm of the expected absolute residual from what the networks read; the
gamma deviance is the loss of a scale. They stop where rows apart from theirs are told no better,
so that a table of even noise gets a flat spread.
"""

from __future__ import annotations

import lightgbm
import numpy as np
import numpy.typing as npt

from steadynet.export.interval import SPREAD_COMPONENT
from steadynet.export.nodes import Graph
from steadynet.export.trees import Forest, export_trees
from steadynet.features.run import Tensors
from steadynet.table.layout import FeatureLayout
from steadynet.training.trees import tree_cells, trees_of

MOST_ROUNDS = 100
PATIENCE = 10
STOP_SHARE = 0.25
"""Share of the rows that only tell when to stop."""
SMALLEST_SHARE = 1e-3
"""Residuals are raised to this share of their mean; a gamma variable is above 0."""

Floats = npt.NDArray[np.float64]


class FittedSpread:
    """Trees from the feature graph's tensors to the logarithm of the spread."""

    def __init__(self, booster: lightgbm.Booster, layout: FeatureLayout) -> None:
        self._booster = booster
        self._layout = layout

    def logarithm(self, tensors: Tensors) -> Floats:
        """Return the logarithm of the spread (N,)."""
        return self.of_cells(tree_cells(tensors))

    def of_cells(self, cells: npt.NDArray[np.float32]) -> Floats:
        """Return the logarithm of the spread (N,) from the trees' input (N, D + K)."""
        raw = self._booster.predict(
            cells, raw_score=True, num_iteration=self._booster.best_iteration
        )
        return np.asarray(raw, np.float32).astype(np.float64)

    def export(self) -> Graph:
        """Return the graph to `steadynet/spread/members`."""
        return export_trees(Forest([trees_of(self._booster, 1)]), self._layout, SPREAD_COMPONENT)


def fit_spread(
    cells: npt.NDArray[np.float32], residuals: Floats, layout: FeatureLayout, *, seed: int
) -> FittedSpread:
    """Fit the spread on rows (n, D + K) with their absolute residuals (n,), in their order."""
    raised = np.maximum(residuals, SMALLEST_SHARE * max(float(residuals.mean()), 1e-12))
    stop = np.random.default_rng(seed).permutation(len(raised)) < STOP_SHARE * len(raised)
    data = lightgbm.Dataset(cells[~stop], raised[~stop])
    held = lightgbm.Dataset(cells[stop], raised[stop], reference=data)
    settings = {
        "objective": "gamma",
        "metric": "gamma_deviance",
        "learning_rate": 0.1,
        "num_leaves": 8,
        "min_data_in_leaf": max(10, len(raised) // 50),
        "lambda_l2": 1.0,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbosity": -1,
    }
    quiet = lightgbm.early_stopping(PATIENCE, verbose=False)
    booster = lightgbm.train(settings, data, MOST_ROUNDS, valid_sets=[held], callbacks=[quiet])
    return FittedSpread(booster, layout)
