"""Losses of member outputs, per group. A group's loss touches no other group's weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from steadynet.training.data import TargetCode

SMALLEST = 1e-12


def fit_loss(outputs: Tensor, target: Tensor, code: TargetCode) -> Tensor:
    """Return the mean of the members' own losses (G,) for outputs (G, B, M, C), target (G, B).

    Every member is fitted by its own loss, not by the average's, so that they stay different
    (Gorishniy et al. 2024, arXiv:2410.24210).
    """
    groups, rows, members, count = outputs.shape
    wanted = target[:, :, None].expand(groups, rows, members)
    if code.task == "regression":
        return functional.mse_loss(outputs[..., 0], wanted, reduction="none").mean((1, 2))
    if count == 1:
        losses = functional.binary_cross_entropy_with_logits(
            outputs[..., 0], wanted.to(outputs.dtype), reduction="none"
        )
    else:
        flat = functional.cross_entropy(outputs.flatten(0, 2), wanted.flatten(), reduction="none")
        losses = flat.view(groups, rows, members)
    if any(weight != 1 for weight in code.class_weights):
        losses = losses * _class_weights(code, outputs)[wanted]
    return losses.mean((1, 2))


def average(outputs: Tensor, code: TargetCode) -> Tensor:
    """Return the answer of the members (..., M, C) together.

    (..., 1) for a regression; (..., classes) probabilities with the class weights divided out.
    """
    if code.task == "regression":
        return outputs.mean(-2)
    if outputs.shape[-1] == 1:
        positive = torch.sigmoid(outputs).mean(-2)
        probabilities = torch.cat([1 - positive, positive], dim=-1)
    else:
        probabilities = torch.softmax(outputs, dim=-1).mean(-2)
    unweighted = probabilities / _class_weights(code, outputs)
    return unweighted / unweighted.sum(-1, keepdim=True)


def held_loss(answers: Tensor, target: Tensor, code: TargetCode) -> Tensor:
    """Return each group's loss (G,) of averaged answers (G, m, ·): what early stopping watches."""
    if code.task == "regression":
        return (answers[..., 0] - target).square().mean(1)
    chosen = answers.gather(2, target[..., None])[..., 0]
    return -chosen.clamp_min(SMALLEST).log().mean(1)


def _class_weights(code: TargetCode, like: Tensor) -> Tensor:
    return torch.tensor(code.class_weights, dtype=like.dtype, device=like.device)
