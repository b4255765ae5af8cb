"""Sizes chosen from rows, folds, and what the target becomes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.features.run import Tensors
from steadynet.spec.kinds import Task
from steadynet.spec.model import TrainingSpec
from steadynet.table.split import Split
from steadynet.training.data import encode_for_fit, make_folds, training_data
from steadynet.training.grouped import MOST_FOLDS, deal_together, most_folds
from steadynet.training.loop import schedule
from steadynet.training.plan import (
    CROSS_FIT_ROWS,
    FEWEST_EPOCHS,
    FEWEST_PASSES,
    ROW_BUDGET,
    FitPlan,
    plan_fit,
)


def split_of(rows: int, seed: int = 0) -> Split:
    """Cut rows at random."""
    order = np.random.default_rng(seed).permutation(rows).astype(np.int64)
    return Split(*np.split(order, [int(rows * 0.7), int(rows * 0.85)]))


def planned(
    train: int,
    validation: int,
    *,
    spec: TrainingSpec | None = None,
    task: Task = "binary",
    most_folds: int = MOST_FOLDS,
) -> FitPlan:
    """Return the plan for as many rows."""
    return plan_fit(
        spec or TrainingSpec(),
        task=task,
        train_rows=train,
        validation_rows=validation,
        most_folds=most_folds,
    )


@settings(deadline=None, max_examples=60)
@given(rows=st.integers(60, 400), groups=st.integers(2, 8), seed=st.integers(0, 99))
def test_every_row_of_training_and_validation_is_held_out_once_and_never_fitted_there(
    rows: int, groups: int, seed: int
) -> None:
    split = split_of(rows, seed)
    target = np.random.default_rng(seed).integers(0, 2, rows)
    folds = make_folds(split, target, groups, seed)
    pool = set(split.train.tolist()) | set(split.validation.tolist())
    held = folds.held.ravel().tolist()
    assert len(set(held)) == len(held)
    assert len(pool) - len(held) < groups
    for fit, own in zip(folds.fit, folds.held, strict=True):
        assert not set(fit.tolist()) & set(own.tolist())
        assert set(fit.tolist()) | set(own.tolist()) == pool
    assert not pool & set(split.test.tolist())
    assert set(folds.fitted.tolist()) == pool


def test_folds_hold_their_share_of_a_rare_class() -> None:
    target = np.zeros(400, np.int64)
    target[:40] = 1
    folds = make_folds(split_of(400), target, 8, 0)
    per_fold = target[folds.held].sum(axis=1)
    assert per_fold.max() - per_fold.min() <= 1


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 40), min_size=4, max_size=60), st.integers(2, 8), st.integers(0, 99))
def test_no_group_is_both_fitted_and_held_by_one_fold(
    sizes: list[int], wanted: int, seed: int
) -> None:
    together = np.repeat(np.arange(len(sizes)), sizes)
    together = np.random.default_rng(seed).permutation(together)
    folds = min(wanted, most_folds(together))
    if folds == 1:
        return
    rows = np.arange(1000, 1000 + len(together))
    fit, held = deal_together(rows, together, folds, seed)
    group = dict(zip(rows.tolist(), together.tolist(), strict=True))
    assert fit.shape[0] == held.shape[0] == folds
    assert held.shape[1] >= 1
    for fitted, own in zip(fit, held, strict=True):
        assert not {group[row] for row in fitted} & {group[row] for row in own}
        assert len(set(own.tolist())) == len(own)
    everything = held.ravel().tolist()
    assert len(set(everything)) == len(everything)
    assert set(fit.ravel().tolist()) == set(rows.tolist())


def test_even_groups_are_held_out_evenly() -> None:
    together = np.arange(800) // 4
    _, held = deal_together(np.arange(800), together, 8, 0)
    assert held.shape == (8, 100)


@pytest.mark.parametrize(
    ("sizes", "most"), [([1] * 100, 50), ([50, 25, 25], 1), ([40, 20, 20, 20, 20], 2), ([9], 1)]
)
def test_a_large_group_leaves_few_folds(sizes: list[int], most: int) -> None:
    assert most_folds(np.repeat(np.arange(len(sizes)), sizes)) == most


def test_one_group_fits_training_and_is_held_to_validation() -> None:
    split = split_of(100)
    folds = make_folds(split, np.zeros(100), 1, 0)
    assert folds.fit.tolist() == [split.train.tolist()]
    assert folds.held.tolist() == [split.validation.tolist()]


def test_small_tables_are_cross_fitted_and_large_ones_not() -> None:
    small = planned(700, 150)
    large = planned(CROSS_FIT_ROWS, 900)
    assert small.size.groups > 1
    assert large.size.groups == 1
    assert large.size.width > small.size.width


def test_rows_split_by_time_are_not_cross_fitted() -> None:
    assert planned(700, 150, most_folds=1).size.groups == 1
    assert planned(700, 150, most_folds=3).size.groups == 3


def test_very_few_rows_get_as_many_folds_as_make_sense() -> None:
    plan = planned(21, 5)
    assert plan.size.groups == 2
    assert plan.batch_rows <= 21


@pytest.mark.parametrize("rows", [100, 5_000, 100_000, 10_000_000])
def test_the_budget_bounds_the_work(rows: int) -> None:
    plan = plan_fit(TrainingSpec(), task="binary", train_rows=rows, validation_rows=rows // 5)
    in_an_epoch = min(rows, plan.epoch_rows)
    least = max(FEWEST_EPOCHS * in_an_epoch, FEWEST_PASSES * rows)
    assert plan.epochs * in_an_epoch <= max(ROW_BUDGET, least)
    assert plan.epochs >= FEWEST_EPOCHS


def test_what_the_spec_sets_is_kept() -> None:
    spec = TrainingSpec(
        width=7, depth=3, members=5, folds=3, batch_rows=11, max_epochs=2, dropout=0.4, seed=9
    )
    plan = planned(700, 150, spec=spec)
    size = plan.size
    assert (size.width, size.depth, size.members, size.groups) == (7, 3, 5, 3)
    assert (plan.batch_rows, plan.epochs, size.dropout, plan.seed) == (11, 2, 0.4, 9)


def test_large_tables_get_fewer_epochs_and_larger_steps() -> None:
    small, middle, large = (planned(rows, rows // 5) for rows in (5_000, 20_000, 200_000))
    assert small.epochs > middle.epochs >= large.epochs
    assert small.batch_rows <= middle.batch_rows < large.batch_rows


def test_the_schedule_warms_up_and_falls_to_nearly_zero() -> None:
    rates = [schedule(step, 100, 10) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(1.0, abs=0.05)
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert 0 < rates[-1] < 1e-4
    assert schedule(5000, 100, 10) == 0.0


def test_a_regressions_units_come_from_the_fitted_rows_alone() -> None:
    target = np.array([1.0, 2.0, 3.0, 1e9])
    code = encode_for_fit(target, "regression", 0, np.array([0, 1, 2]))
    assert code.center == pytest.approx(2.0)
    assert code.scale == pytest.approx(np.std([1.0, 2.0, 3.0]))
    data = training_data(
        Tensors(np.zeros((4, 0), np.float32), np.zeros((4, 0), np.int64)),
        target,
        code,
        torch.device("cpu"),
    )
    assert data.target[:3].mean().item() == pytest.approx(0.0, abs=1e-6)


def test_a_constant_regression_target_has_a_unit_of_one() -> None:
    code = encode_for_fit(np.full(5, 7.0), "regression", 0, np.arange(5))
    assert (code.center, code.scale) == (7.0, 1.0)


def test_balanced_weights_give_every_class_the_same_say() -> None:
    target = np.array([0] * 90 + [1] * 10)
    code = encode_for_fit(target, "binary", 2, np.arange(100), class_weights="balanced")
    weights = np.array(code.class_weights)
    assert weights[0] * 90 == pytest.approx(weights[1] * 10)
    assert weights[target].mean() == pytest.approx(1.0)
    plain = encode_for_fit(target, "binary", 2, np.arange(100))
    assert plain.class_weights == (1.0, 1.0)
