"""The linear start is the linear model, and the references are what scikit-learn gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from steadynet.features.run import Tensors
from steadynet.runtime.metrics import classification_metrics
from steadynet.table.layout import FeatureLayout
from steadynet.table.schema import Column, Schema, Target
from steadynet.training.holding import predict_grouped
from steadynet.training.linear import design_matrix, start_as_linear
from steadynet.training.reference import MOST_ENTRIES, ReferenceRows, fit_references, tree_cells

if TYPE_CHECKING:
    from tests.training.conftest import Problem

Make = Callable[..., "Problem"]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_network_starts_as_the_fitted_linear_model(problem: Make, task: str) -> None:
    made = problem(task, groups=2)
    network = made.network()
    start_as_linear(network, made.data, made.folds, (1.0,))
    rows = torch.from_numpy(made.folds.held)
    outputs = predict_grouped(network, made.data, rows).numpy()
    # Every member says the same: the heads are zero.
    np.testing.assert_allclose(outputs[:, :, 0], outputs[:, :, 1], atol=1e-6)
    design, _, _ = design_matrix(
        made.data.numbers.numpy(),
        made.data.categories.numpy(),
        made.layout.cardinalities,
        made.folds.fitted,
    )
    if task == "regression":
        return
    for group, fit in enumerate(made.folds.fit):
        model = LogisticRegression(C=1.0, max_iter=2000, tol=1e-8).fit(
            design[fit], made.raw_target[fit]
        )
        expected = model.decision_function(design[made.folds.held[group]])
        found = outputs[group, :, 0]
        if task == "multiclass":  # logits are defined up to one constant a row
            found = found - found.mean(axis=1, keepdims=True)
            expected = expected - expected.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=2e-3)


def test_a_class_that_a_fold_lacks_is_unlikely_and_not_impossible(problem: Make) -> None:
    made = problem("multiclass", rows=200)
    target = made.data.target
    fit = torch.from_numpy(made.folds.fit[0])
    target[fit] = torch.where(target[fit] == 2, torch.zeros_like(target[fit]), target[fit])
    network = made.network()
    start_as_linear(network, made.data, made.folds, (1.0,))
    outputs = predict_grouped(network, made.data, torch.from_numpy(made.folds.held))
    probabilities = torch.softmax(outputs, dim=-1)
    assert bool(torch.isfinite(outputs).all())
    assert 0 < float(probabilities[..., 2].mean()) < 0.1


def test_the_penalty_is_chosen_on_held_out_rows(problem: Make) -> None:
    """With 60 rows of noise beside the truth a weak penalty overfits."""
    made = problem("binary", rows=90)
    made.data.target[:] = torch.randint(0, 2, (90,), generator=torch.Generator().manual_seed(0))
    chosen = start_as_linear(made.network(), made.data, made.folds, (0.0001, 1000.0))
    assert chosen == 0.0001


def table_of(rows: int = 500) -> tuple[Tensors, dict[str, np.ndarray[Any, Any]], np.ndarray]:
    """Return tensors, raw columns and a target that needs the number's missing values."""
    random = np.random.default_rng(0)
    amount = random.normal(size=(rows, 1)).astype(np.float32)
    amount[::9] = np.nan
    entries = random.integers(0, 400, (rows, 1))
    logit = np.nan_to_num(amount[:, 0]) * 2 + (entries[:, 0] % 2)
    target = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    moments = random.normal(size=(rows, 1)).astype(np.float32)
    tensors = Tensors(
        np.concatenate([np.nan_to_num(amount), np.isnan(amount), moments], axis=1).astype(
            np.float32
        ),
        entries,
    )
    columns: dict[str, np.ndarray[Any, Any]] = {
        "amount": amount,
        "code": entries.astype(str).astype(object),
        "at": np.zeros((rows, 1), np.int64),
    }
    return tensors, columns, target


LAYOUT = FeatureLayout(
    numbers=("amount", "amount is missing", "at hour"),
    number_sources=("amount", "amount", "at"),
    categories=("code",),
    cardinalities=(400,),
)
SCHEMA = Schema(
    columns=(
        Column(name="amount", kind="number", reason=""),
        Column(name="code", kind="category", reason=""),
        Column(name="at", kind="datetime", reason=""),
    ),
    target=Target(name="y", task="binary", reason="", classes=("no", "yes")),
)


def test_trees_get_raw_numbers_date_parts_and_few_enough_categories() -> None:
    tensors, columns, _ = table_of()
    cells, is_category = tree_cells(tensors, columns, SCHEMA, LAYOUT)
    assert is_category == [False, False, True]
    assert np.isnan(cells[::9, 0]).all()
    np.testing.assert_array_equal(cells[:, 1], tensors.numbers[:, 2])
    assert cells[:, 2].max() < MOST_ENTRIES
    rare = tensors.categories[:, 0] >= MOST_ENTRIES
    assert (cells[rare, 2] == 1).all()


def test_references_are_fitted_on_the_fitted_rows_and_judged_on_the_test_rows() -> None:
    tensors, columns, target = table_of()
    fitted, test = np.arange(300), np.arange(300, 500)
    found = fit_references(
        tensors,
        columns,
        target,
        schema=SCHEMA,
        layout=LAYOUT,
        rows=ReferenceRows(fitted=fitted, test=test),
    )
    design, _, _ = design_matrix(tensors.numbers, tensors.categories, (400,), fitted)
    model = LogisticRegression(max_iter=1000).fit(design[fitted], target[fitted])
    expected = classification_metrics(
        target[test], model.predict_proba(design[test]), ("no", "yes")
    )
    assert found["linear"] == pytest.approx(expected)
    assert set(found["boosted_trees"]) == set(expected)
    assert 0.6 < found["boosted_trees"]["auc"] < 1


def test_a_class_that_is_only_tested_costs_the_references_and_does_not_stop_them() -> None:
    tensors, columns, target = table_of()
    target = target.copy()
    target[450:] = 2
    schema = Schema(
        columns=SCHEMA.columns,
        target=Target(name="y", task="multiclass", reason="", classes=("a", "b", "c")),
    )
    found = fit_references(
        tensors,
        columns,
        target,
        schema=schema,
        layout=LAYOUT,
        rows=ReferenceRows(fitted=np.arange(300), test=np.arange(300, 500)),
    )
    assert found["linear"]["accuracy"] <= 0.75


def test_regressions_have_references_too() -> None:
    tensors, columns, target = table_of()
    schema = Schema(columns=SCHEMA.columns, target=Target(name="y", task="regression", reason=""))
    found = fit_references(
        tensors,
        columns,
        target.astype(np.float64),
        schema=schema,
        layout=LAYOUT,
        rows=ReferenceRows(fitted=np.arange(300), test=np.arange(300, 500)),
    )
    assert set(found["linear"]) == set(found["boosted_trees"]) == {"rmse", "mae", "r2"}
    assert found["linear"]["rmse"] < np.std(target)
