"""The optimizer: Muon for the matrices between layers, AdamW for everything else.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces a matrix's momentum by the
nearest matrix whose singular values are alike, so that rare directions are stepped as far as
common ones. A fit on a table then needs a quarter of the passes that AdamW needs (measured, see
`docs/adr`). Its steps are scaled to the size of AdamW's (Liu et al. 2025, arXiv:2502.16982), so
that one learning rate serves both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from steadynet.networks import ParameterGroup, TabularNetwork

Kind = Literal["muon", "adamw"]

MOMENTUM = 0.95
ROUNDS = 5
"""Newton-Schulz rounds; after five all singular values lie between about 0.7 and 1.2."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Jordan's quintic, steepest at zero."""
LONG = 2
"""From a long side of as many short ones on, rounds on the Gram matrix are faster."""
BETAS = (0.9, 0.999)
EPSILON = 1e-8
STEP = 0.2
"""The root mean square of an AdamW step, as a share of the learning rate."""


Settings = dict[str, Any]
"""Of parameters that are stepped alike: `params`, `lr`, `weight_decay`, `rate`."""
State = dict[int, dict[str, Tensor]]
"""Parameter number → moment → tensor."""


class Muon:
    """Muon on parameters (G, A, B): every one of the G matrices is stepped on its own.

    `coarse` makes the Newton-Schulz products of bfloat16 numbers: the singular values come out
    alike to a hundredth, and a step's direction is noisier than that.
    """

    def __init__(self, groups: Sequence[Settings], *, coarse: bool = False) -> None:
        self.groups = list(groups)
        self.state: State = {}
        self._coarse = coarse

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients."""
        for group, numbers, parameters, gradients in with_gradients(self.groups):
            momenta = [self._momentum(*each) for each in zip(numbers, parameters, strict=True)]
            torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            for shape in dict.fromkeys(matrix.shape for matrix in ahead):
                places = [place for place, matrix in enumerate(ahead) if matrix.shape == shape]
                size = STEP * math.sqrt(max(shape[1:]))
                made = self._directions([ahead[place] for place in places])
                stepped = [parameters[place] for place in places]
                torch._foreach_add_(stepped, made, alpha=-group["lr"] * size)

    def _momentum(self, number: int, parameter: Tensor) -> Tensor:
        if number not in self.state:
            self.state[number] = {"momentum": torch.zeros_like(parameter)}
        return self.state[number]["momentum"]

    def _directions(self, matrices: list[Tensor]) -> list[Tensor]:
        """Orthogonalise matrices (G, A, B) of one shape, in one batch."""
        joined = matrices[0] if len(matrices) == 1 else torch.cat(matrices)
        made = orthogonalised(joined, coarse=self._coarse)
        return list(torch.split(made, len(matrices[0])))


class AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) by torch's fused kernel.

    `torch.optim` is not asked: the first optimizer that it makes loads torch's compiler, which
    takes longer than many a fit, and its own bookkeeping is a twelfth of a small step.
    """

    def __init__(self, groups: Sequence[Settings]) -> None:
        self.groups = list(groups)
        self.state: State = {}

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients."""
        for group, numbers, parameters, gradients in with_gradients(self.groups):
            states = [self._moments(*each) for each in zip(numbers, parameters, strict=True)]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                parameters,
                gradients,
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=group["weight_decay"],
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def _moments(self, number: int, parameter: Tensor) -> dict[str, Tensor]:
        if number not in self.state:
            self.state[number] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.state[number]


def with_gradients(
    groups: Sequence[Settings],
) -> Iterator[tuple[Settings, list[int], list[Tensor], list[Tensor]]]:
    """Yield each group with the numbers, values and gradients of its parameters that have one."""
    number = 0
    for group in groups:
        numbers: list[int] = []
        values: list[Tensor] = []
        gradients: list[Tensor] = []
        for parameter in group["params"]:
            if parameter.grad is not None:
                numbers.append(number)
                values.append(parameter)
                gradients.append(parameter.grad)
            number += 1
        if values:
            yield group, numbers, values, gradients


def orthogonalised(matrices: Tensor, *, coarse: bool = False) -> Tensor:
    """Return (G, A, B) with the singular vectors of `matrices` and singular values of about 1."""
    first, second, third = COEFFICIENTS
    sizes = torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True)
    found: Tensor = matrices / (sizes + 1e-12)
    short, long = sorted(found.shape[1:])
    if long >= LONG * short and not coarse:
        return _by_gram(found)
    if coarse:
        found = found.bfloat16()
    for _ in range(ROUNDS):
        product = _gram(found)
        powers = torch.baddbmm(product, product, product, beta=second, alpha=third)
        left, right = (found, powers) if _is_tall(found) else (powers, found)
        found = torch.baddbmm(found, left, right, beta=first)
    return found.to(matrices.dtype)


def _by_gram(found: Tensor) -> Tensor:
    """Do the rounds with products of the short side alone; the long one enters first and last.

    A round multiplies by a polynomial of the Gram matrix. Those of all rounds are collected, since
    polynomials of one matrix commute. The result is that of the rounds to about 1e-5.
    """
    gram = _gram(found)
    step = made = _polynomial(gram)
    for _ in range(ROUNDS - 1):
        gram = torch.bmm(torch.bmm(step, gram), step)
        step = _polynomial(gram)
        made = torch.bmm(made, step)
    return torch.bmm(found, made) if _is_tall(found) else torch.bmm(made, found)


def _polynomial(gram: Tensor) -> Tensor:
    """Return what a round multiplies by, for a Gram matrix (G, S, S)."""
    first, second, third = COEFFICIENTS
    found = torch.baddbmm(gram, gram, gram, beta=second, alpha=third)
    found.diagonal(dim1=1, dim2=2).add_(first)
    return found


def _gram(found: Tensor) -> Tensor:
    """Return the products (G, S, S) of the shorter side, without a transposed copy."""
    return torch.bmm(found.mT, found) if _is_tall(found) else torch.bmm(found, found.mT)


def _is_tall(found: Tensor) -> bool:
    return found.shape[1] > found.shape[2]


class FitOptimizer:
    """Both optimizers of a network, stepped together.

    Law: `restore(tensors())` on the optimizer of an equal network makes its steps the same.
    """

    def __init__(
        self,
        network: TabularNetwork,
        learning_rate: float,
        weight_decay: float,
        *,
        kind: Kind = "muon",
        coarse: bool = False,
    ) -> None:
        """Take a network's parameters; with `kind` "adamw" the matrices are no exception."""
        groups = network.parameter_groups()
        matrices = [group for group in groups if group.matrices and kind == "muon"]
        others = [group for group in groups if not group.matrices or kind == "adamw"]
        self._parts: dict[str, Muon | AdamW] = {}
        if matrices:
            self._parts["muon"] = Muon(_settings(matrices, weight_decay), coarse=coarse)
        if others:
            self._parts["adamw"] = AdamW(_settings(others, weight_decay))
        self.set_rate(learning_rate)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self._parts.values():
            for group in part.groups:
                for parameter in group["params"]:
                    parameter.grad = None

    def step(self) -> None:
        """Take one step along the gradients."""
        for part in self._parts.values():
            part.step()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate; parameters with a factor of their own get their part of it."""
        for part in self._parts.values():
            for group in part.groups:
                group["lr"] = rate * group["rate"]

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of the moments by `<optimizer>/<parameter number>/<moment>`."""
        return {
            f"{name}/{number}/{moment}": value.clone()
            for name, part in self._parts.items()
            for number, moments in part.state.items()
            for moment, value in moments.items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put the moments back; rates and decays stay as they are."""
        for part in self._parts.values():
            part.state = {}
        for key, value in tensors.items():
            name, number, moment = key.split("/")
            part = self._parts[name]
            device = part.groups[0]["params"][0].device
            part.state.setdefault(int(number), {})[moment] = value.to(device, copy=True)


def _settings(groups: Sequence[ParameterGroup], weight_decay: float) -> list[Settings]:
    return [
        {
            "params": [parameter for parameter in group.parameters if parameter.numel() > 0],
            "lr": 0.0,
            "weight_decay": weight_decay if group.decays else 0.0,
            "rate": group.rate,
        }
        for group in groups
    ]
