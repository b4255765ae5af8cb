"""Losses per group, and the answer of all members together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steadynet.export.blend import average_members
from steadynet.export.head import ClassificationHead, apply_head
from steadynet.spec.kinds import Task
from steadynet.training.data import TargetCode
from steadynet.training.objective import average, fit_loss, held_loss


def code_of(task: Task, classes: int, weights: tuple[float, ...] = ()) -> TargetCode:
    """Return a target's code."""
    outputs = classes if classes > 2 else 1
    return TargetCode(task, outputs, classes, 0.0, 1.0, weights or (1.0,) * classes)


def outputs_of(groups: int, rows: int, members: int, count: int) -> torch.Tensor:
    """Return random member outputs (G, B, M, C)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(groups, rows, members, count, generator=generator)


def test_a_binary_loss_is_the_mean_of_the_members_log_losses() -> None:
    outputs = outputs_of(2, 5, 3, 1)
    target = torch.tensor([[0, 1, 1, 0, 1], [1, 1, 0, 0, 0]])
    found = fit_loss(outputs, target, code_of("binary", 2))
    probabilities = torch.sigmoid(outputs[..., 0])
    wanted = target[:, :, None].expand_as(probabilities)
    chosen = torch.where(wanted == 1, probabilities, 1 - probabilities)
    torch.testing.assert_close(found, -chosen.log().mean((1, 2)))


def test_two_logits_and_one_logit_lose_the_same() -> None:
    one = outputs_of(1, 6, 2, 1)
    two = torch.cat([torch.zeros_like(one), one], dim=3)
    target = torch.tensor([[0, 1, 0, 1, 1, 0]])
    pair = TargetCode("multiclass", 2, 2, 0.0, 1.0, (1.0, 1.0))
    torch.testing.assert_close(
        fit_loss(one, target, code_of("binary", 2)), fit_loss(two, target, pair)
    )


def test_a_regression_loses_squares_per_group() -> None:
    outputs = torch.zeros(2, 3, 2, 1)
    target = torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    assert fit_loss(outputs, target, code_of("regression", 0)).tolist() == [1.0, 4.0]


@pytest.mark.parametrize("classes", [2, 4])
def test_the_loss_of_a_group_has_no_gradient_in_another(classes: int) -> None:
    code = code_of("binary" if classes == 2 else "multiclass", classes)
    outputs = outputs_of(2, 4, 2, code.outputs).requires_grad_()
    losses = fit_loss(outputs, torch.zeros(2, 4, dtype=torch.int64), code)
    torch.autograd.backward(losses[0])
    assert outputs.grad is not None
    assert bool((outputs.grad[0] != 0).any())
    assert not bool((outputs.grad[1] != 0).any())


def test_weights_multiply_the_loss_of_their_class() -> None:
    outputs = outputs_of(1, 2, 1, 1)
    plain = code_of("binary", 2)
    weighted = code_of("binary", 2, (0.5, 3.0))
    for target, weight in ((0, 0.5), (1, 3.0)):
        wanted = torch.full((1, 2), target)
        torch.testing.assert_close(
            fit_loss(outputs, wanted, weighted), fit_loss(outputs, wanted, plain) * weight
        )


@pytest.mark.parametrize("classes", [2, 3])
def test_averaging_in_training_is_what_the_head_does(classes: int) -> None:
    weights = (0.4, 2.0, 5.0)[:classes]
    code = code_of("binary" if classes == 2 else "multiclass", classes, weights)
    outputs = outputs_of(1, 8, 3, code.outputs)[0]
    head = ClassificationHead(
        classes=tuple("abc"[:classes]),
        class_weights=weights,
        scales=(1.0,) * classes,
        shifts=(0.0,) * classes,
        threshold=None,
    )
    answer = average_members(outputs.numpy(), classes=True)
    expected = apply_head(answer, head)["probabilities"]
    np.testing.assert_allclose(average(outputs, code).numpy(), expected, atol=1e-6)


def test_the_held_loss_is_the_log_loss_of_the_average() -> None:
    code = code_of("multiclass", 3)
    answers = torch.tensor([[[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]])
    found = held_loss(answers, torch.tensor([[2, 0]]), code)
    assert found.item() == pytest.approx(-np.log(0.5) / 2)
    wrong = held_loss(answers, torch.tensor([[2, 1]]), code)
    assert np.isfinite(wrong.item())
