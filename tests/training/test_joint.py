"""Several targets in one fit: what each row counts for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from steadynet.features.run import Tensors
from steadynet.networks import build_network
from steadynet.table.convert import Truth
from steadynet.training.comparing import held_losses
from steadynet.training.data import TrainingData, encode_for_fit
from steadynet.training.holding import predict_grouped
from steadynet.training.joint import (
    FitTarget,
    fit_targets,
    joint_data,
    joint_fit_loss,
    joint_held_loss,
    joint_held_losses,
    trivial_loss,
)
from steadynet.training.linear import start_as_linear
from steadynet.training.loop import Fit
from steadynet.training.objective import average, fit_loss, held_loss

if TYPE_CHECKING:
    from tests.training.conftest import Problem

    Make = Callable[..., Problem]

DEVICE = torch.device("cpu")


def several(made: Problem, *, known_share: float = 0.6) -> tuple[FitTarget, ...]:
    """Return a binary main target, a number and classes that are made of the same score."""
    random = np.random.default_rng(1)
    rows = len(made.raw_target)
    score = made.data.numbers.numpy()[:, 0] + 0.3 * random.normal(size=rows)
    truths = [
        Truth(made.raw_target, np.ones(rows, bool)),
        Truth(50 + 7 * score, random.random(rows) < known_share),
        Truth(np.digitize(score, [-0.5, 0.5]).astype(np.int64), np.ones(rows, bool)),
    ]
    tasks = (("binary", 2), ("regression", 0), ("multiclass", 3))
    codes = [
        encode_for_fit(truth.values, task, classes, truth.among(made.folds.fitted))  # type: ignore[arg-type]
        for truth, (task, classes) in zip(truths, tasks, strict=True)
    ]
    return fit_targets(["a", "b", "c"], truths, codes, made.folds.fitted)


def data_of(made: Problem, targets: tuple[FitTarget, ...]) -> TrainingData:
    """Put the problem's rows beside the targets."""
    tensors = Tensors(made.data.numbers.numpy(), made.data.categories.numpy())
    return joint_data(tensors, targets, DEVICE)


def outputs_for(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Return random outputs (G, B, M, C) that want a gradient."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn((*rows.shape, 2, count), generator=generator).requires_grad_()


def test_one_target_alone_is_fitted_as_ever(problem: Make) -> None:
    made = problem()
    (alone,) = fit_targets(
        ["answer"],
        [Truth(made.raw_target, np.ones(len(made.raw_target), bool))],
        [made.data.code],
        made.folds.fitted,
    )
    assert alone.unit == 1.0
    data = data_of(made, (alone,))
    rows = torch.arange(40).view(2, 20)
    outputs = outputs_for(rows, 1)
    assert torch.equal(
        joint_fit_loss(outputs, data, rows), fit_loss(outputs, data.target[rows], data.code)
    )
    assert torch.equal(
        joint_held_loss(outputs, data, rows),
        held_loss(average(outputs, data.code), data.target[rows], data.code),
    )


def test_the_loss_is_the_mean_over_targets_of_shares_of_the_trivial_loss(problem: Make) -> None:
    made = problem()
    targets = several(made, known_share=1.0)
    data = data_of(made, targets)
    rows = torch.arange(40).view(2, 20)
    outputs = outputs_for(rows, 5)
    each = [
        fit_loss(outputs[..., 0:1], data.target[rows], targets[0].code) / targets[0].unit,
        fit_loss(outputs[..., 1:2], data.more[0].target[rows], targets[1].code) / targets[1].unit,
        fit_loss(outputs[..., 2:5], data.more[1].target[rows], targets[2].code) / targets[2].unit,
    ]
    torch.testing.assert_close(joint_fit_loss(outputs, data, rows), torch.stack(each).mean(0))


def test_the_answer_that_ignores_the_row_has_a_loss_of_one(problem: Make) -> None:
    made = problem()
    targets = several(made)
    fitted = made.folds.fitted
    for target in targets:
        values = target.truth.values[target.truth.among(fitted)]
        constant = np.zeros((len(values), 1))
        if target.code.classes:
            shares = np.bincount(values.astype(np.int64)) / len(values)
            constant = np.tile(shares, (len(values), 1))
        loss = held_losses(constant, values, target.code).mean()
        assert loss / target.unit == pytest.approx(1.0)
    assert targets[1].unit == pytest.approx(1.0)
    assert trivial_loss(Truth(np.array([0, 1] * 50), np.ones(100, bool)), targets[0].code,
                        np.arange(100)) == pytest.approx(np.log(2))  # fmt: skip


def test_a_row_without_a_target_moves_nothing_of_it(problem: Make) -> None:
    made = problem()
    targets = several(made)
    data = data_of(made, targets)
    rows = torch.arange(60).view(1, 60)
    outputs = outputs_for(rows, 5)
    joint_fit_loss(outputs, data, rows).sum().backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    unknown = ~targets[1].truth.known[:60]
    assert unknown.any()
    moved = outputs.grad[0].abs().sum(1)  # (60, 5)
    assert torch.all(moved[torch.from_numpy(unknown), 1] == 0)
    assert torch.all(moved[torch.from_numpy(~unknown), 1] > 0)
    assert torch.all(moved[:, 0] > 0)


def test_what_stands_where_nothing_is_known_does_not_matter(problem: Make) -> None:
    made = problem()
    targets = several(made)
    garbage = targets[1].truth.values.copy()
    garbage[~targets[1].truth.known] = 1e6
    other = (targets[0], replace(targets[1], truth=Truth(garbage, targets[1].truth.known)),
             targets[2])  # fmt: skip
    rows = torch.arange(60).view(1, 60)
    outputs = outputs_for(rows, 5).detach()
    first, second = data_of(made, targets), data_of(made, other)
    assert torch.equal(joint_fit_loss(outputs, first, rows), joint_fit_loss(outputs, second, rows))
    assert torch.equal(
        joint_held_loss(outputs, first, rows), joint_held_loss(outputs, second, rows)
    )


def test_a_batch_that_knows_nothing_of_a_target_is_finite(problem: Make) -> None:
    made = problem()
    targets = several(made)
    nothing = Truth(targets[1].truth.values, np.zeros(len(made.raw_target), bool))
    data = data_of(made, (targets[0], replace(targets[1], truth=nothing), targets[2]))
    rows = torch.arange(8).view(2, 4)
    loss = joint_fit_loss(outputs_for(rows, 5), data, rows)
    assert torch.isfinite(loss).all()


@pytest.mark.parametrize("groups", [1, 3])
def test_losses_per_row_agree_with_those_of_the_fit(problem: Make, groups: int) -> None:
    made = problem(groups=groups)
    targets = several(made, known_share=1.0)
    data = data_of(made, targets)
    held = torch.from_numpy(made.folds.held)
    outputs = outputs_for(held, 5).detach()
    by_row = joint_held_losses(outputs.flatten(0, 1).numpy(), targets, made.folds.held.ravel())
    assert by_row.shape == (made.folds.held.size,)
    wanted = joint_held_loss(outputs, data, held).mean().item()
    assert by_row.mean() == pytest.approx(wanted, rel=1e-4)


def test_the_linear_start_answers_each_target_as_its_own_linear_model(problem: Make) -> None:
    made = problem(linear_strengths=(1.0,))
    targets = several(made)
    data = data_of(made, targets)

    def linear_answers(data: TrainingData, outputs: int) -> np.ndarray:
        network = build_network("ensemble", made.layout, outputs, made.plan.size,
                                numbers=data.numbers.numpy(), seed=0)  # fmt: skip
        start_as_linear(network, data, made.folds, (1.0,))
        found = predict_grouped(network, data, torch.from_numpy(made.folds.held))
        return found.numpy()

    together = linear_answers(data, 5)
    alone = linear_answers(data_of(made, targets[:1]), 1)
    np.testing.assert_allclose(together[..., 0:1], alone, atol=2e-5)
    third = FitTarget("c", targets[2].truth, targets[2].code, 0, 1.0)
    np.testing.assert_allclose(
        together[..., 2:5], linear_answers(data_of(made, (third,)), 3), atol=2e-5
    )


def test_a_fit_makes_the_joint_loss_smaller_and_ends_the_same_twice(problem: Make) -> None:
    made = problem(epochs=6)
    targets = several(made)
    data = data_of(made, targets)
    held = torch.from_numpy(made.folds.held)

    def fitted() -> tuple[float, float, torch.Tensor]:
        network = build_network("ensemble", made.layout, 5, made.plan.size,
                                numbers=data.numbers.numpy(), seed=0)  # fmt: skip
        start_as_linear(network, data, made.folds, made.plan.linear_strengths)
        before = joint_held_loss(predict_grouped(network, data, held), data, held)
        Fit(network, data, made.folds, made.plan).run()
        outputs = predict_grouped(network, data, held)
        after = joint_held_loss(outputs, data, held)
        return before.item(), after.item(), outputs

    before, after, outputs = fitted()
    assert after < before < 1.0
    assert torch.equal(outputs, fitted()[2])
