"""Losses of member outputs, per group. A group's loss touches no other group's weights.

Every loss is proper for what it is said to predict (Gneiting and Raftery 2007), but for focal
loss, whose probabilities are right only once they are calibrated: squared for the mean, absolute
for the median, pinball for a quantile (Koenker and Bassett 1978), Poisson deviance for the mean of
a count, log-loss for probabilities. The ordinal loss is the sum of the log-losses of all "at most
this class" (Frank and Hall 2001), so that a class further off costs more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from steadynet.training.data import TargetCode

SMALLEST = 1e-12
LARGEST_LOG = 30.0
"""A log-rate is held below while fitting, so that its exponential stays finite."""


def fit_loss(
    outputs: Tensor, target: Tensor, code: TargetCode, weights: Tensor | None = None
) -> Tensor:
    """Return the mean of the members' own losses (G,) for outputs (G, B, M, C), target (G, B).

    Rows count by `weights` (G, B), which are 1 on average over the table.

    Every member is fitted by its own loss, not by the average's, so that they stay different
    (Gorishniy et al. 2024, arXiv:2410.24210).
    """
    groups, rows, members, count = outputs.shape
    wanted = target[:, :, None].expand(groups, rows, members)
    if code.task == "regression":
        losses = number_losses(outputs[..., 0], wanted, code)
    elif code.loss.name != "log_loss":
        losses = class_losses(log_probabilities(outputs), wanted, code)
    elif count == 1:
        losses = functional.binary_cross_entropy_with_logits(
            outputs[..., 0], wanted.to(outputs.dtype), reduction="none"
        )
    else:
        flat = functional.cross_entropy(outputs.flatten(0, 2), wanted.flatten(), reduction="none")
        losses = flat.view(groups, rows, members)
    if any(weight != 1 for weight in code.class_weights):
        losses = losses * _class_weights(code, outputs)[wanted]
    if weights is not None:
        losses = losses * weights[:, :, None]
    return losses.mean((1, 2))


def lesson_loss(outputs: Tensor, taught: Tensor, code: TargetCode) -> Tensor:
    """Return how far members (G, B, M, C) are from a teacher's answers (G, B, C), per group (G,).

    Cross-entropy with its probabilities, or squared distance from its predictions (Hinton et al.
    2015, arXiv:1503.02531, at a temperature of 1: the probabilities are those of a blend).
    """
    if code.task == "regression":
        return (outputs - taught[:, :, None]).square().mean((1, 2, 3))
    logs = log_probabilities(outputs)
    return -(taught[:, :, None] * logs).sum(-1).mean((1, 2))


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


def held_loss(
    answers: Tensor, target: Tensor, code: TargetCode, weights: Tensor | None = None
) -> Tensor:
    """Return each group's loss (G,) of averaged answers (G, m, ·): what early stopping watches."""
    losses = row_losses(answers, target, code)
    if weights is None:
        return losses.mean(1)
    return (losses * weights).sum(1) / weights.sum(1).clamp_min(SMALLEST)


def row_losses(answers: Tensor, target: Tensor, code: TargetCode) -> Tensor:
    """Return each row's loss (..., m) of averaged answers (..., m, C), classes unweighted."""
    if code.task == "regression":
        return number_losses(answers[..., 0], target, code)
    return class_losses(answers.clamp_min(SMALLEST).log(), target, code)


def number_losses(answers: Tensor, target: Tensor, code: TargetCode) -> Tensor:
    """Return the losses (...) of answers (...) beside coded targets (...)."""
    return _NUMBERS[code.loss.name](answers, target, code.loss.parameter)


def class_losses(logs: Tensor, target: Tensor, code: TargetCode) -> Tensor:
    """Return the losses (...) of log-probabilities (..., C) for class indices (...)."""
    return _CLASSES[code.loss.name](logs, target, code.loss.parameter)


def log_probabilities(outputs: Tensor) -> Tensor:
    """Return log-probabilities (..., classes) of logits (..., C), C being 1 for two classes."""
    if outputs.shape[-1] == 1:
        return torch.cat([functional.logsigmoid(-outputs), functional.logsigmoid(outputs)], dim=-1)
    return torch.log_softmax(outputs, dim=-1)


def _squared(answers: Tensor, target: Tensor, _: float) -> Tensor:
    return (answers - target).square()


def _absolute(answers: Tensor, target: Tensor, _: float) -> Tensor:
    return (answers - target).abs()


def _huber(answers: Tensor, target: Tensor, delta: float) -> Tensor:
    return functional.huber_loss(answers, target, reduction="none", delta=delta)


def _pinball(answers: Tensor, target: Tensor, level: float) -> Tensor:
    short = target - answers
    return torch.maximum(level * short, (level - 1) * short)


def _poisson(answers: Tensor, target: Tensor, _: float) -> Tensor:
    """Return half the deviance; answers are log-rates."""
    saturated = torch.xlogy(target, target) - target
    return answers.clamp_max(LARGEST_LOG).exp() - target * answers + saturated


def _log_loss(logs: Tensor, target: Tensor, _: float) -> Tensor:
    return -logs.gather(-1, target[..., None])[..., 0]


def _focal(logs: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Weigh each row's log-loss by (1 - p)^gamma (Lin et al. 2017, arXiv:1708.02002)."""
    chosen = logs.gather(-1, target[..., None])[..., 0]
    missed = -torch.expm1(chosen.clamp_max(-SMALLEST))
    return -missed.pow(gamma) * chosen


def _ordinal(logs: Tensor, target: Tensor, _: float) -> Tensor:
    below = torch.logcumsumexp(logs, dim=-1)[..., :-1]  # log P(at most k)
    above = torch.logcumsumexp(logs.flip(-1), dim=-1).flip(-1)[..., 1:]  # log P(more than k)
    cuts = torch.arange(logs.shape[-1] - 1, device=logs.device)
    return -torch.where(target[..., None] <= cuts, below, above).sum(-1)


_Loss = Callable[[Tensor, Tensor, float], Tensor]
_NUMBERS: Mapping[str, _Loss] = MappingProxyType(
    {
        "squared": _squared,
        "absolute": _absolute,
        "huber": _huber,
        "quantile": _pinball,
        "poisson": _poisson,
    }
)
_CLASSES: Mapping[str, _Loss] = MappingProxyType(
    {"log_loss": _log_loss, "focal": _focal, "ordinal": _ordinal}
)


def _class_weights(code: TargetCode, like: Tensor) -> Tensor:
    return torch.tensor(code.class_weights, dtype=like.dtype, device=like.device)
