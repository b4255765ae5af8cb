"""The optimizer: Muon for the matrices between layers, AdamW for everything else.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces a matrix's momentum by the
nearest matrix whose singular values are alike, so that rare directions are stepped as far as
common ones. A fit on a table then needs a quarter of the passes that AdamW needs (measured, see
`docs/adr`). Its steps are scaled to the size of AdamW's (Liu et al. 2025, arXiv:2502.16982), so
that one learning rate serves both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from steadynet.networks import ParameterGroup, TabularNetwork

MOMENTUM = 0.95
ROUNDS = 5
"""Newton-Schulz rounds; after five all singular values lie between about 0.7 and 1.2."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Jordan's quintic, steepest at zero."""
STEP = 0.2
"""The root mean square of an AdamW step, as a share of the learning rate."""


class Muon(torch.optim.Optimizer):
    """Muon on parameters (G, A, B): every one of the G matrices is stepped on its own."""

    def __init__(self, groups: Sequence[dict[str, object]], *, lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "rate": 1.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None or parameter.numel() == 0:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum: Tensor = state["momentum"]
                momentum.lerp_(parameter.grad, 1 - MOMENTUM)
                ahead = torch.lerp(parameter.grad, momentum, MOMENTUM)  # Nesterov
                size = STEP * math.sqrt(max(parameter.shape[1:]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(orthogonalised(ahead), alpha=-group["lr"] * size)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Return (G, A, B) with the singular vectors of `matrices` and singular values of about 1."""
    first, second, third = COEFFICIENTS
    sizes = torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True)
    found: Tensor = matrices / (sizes + 1e-12)
    wide = found.shape[1] > found.shape[2]
    if wide:
        found = found.mT
    for _ in range(ROUNDS):
        product = torch.bmm(found, found.mT)
        powers = torch.baddbmm(product, product, product, beta=second, alpha=third)
        found = torch.baddbmm(found, powers, found, beta=first)
    return found.mT if wide else found


class FitOptimizer:
    """Both optimizers of a network, stepped together.

    Law: `restore(tensors())` on the optimizer of an equal network makes its steps the same.
    """

    def __init__(self, network: TabularNetwork, learning_rate: float, weight_decay: float) -> None:
        groups = network.parameter_groups()
        matrices = [group for group in groups if group.matrices]
        others = [group for group in groups if not group.matrices]
        self._parts: dict[str, torch.optim.Optimizer] = {}
        if matrices:
            self._parts["muon"] = Muon(_settings(matrices, weight_decay), lr=learning_rate)
        if others:
            self._parts["adamw"] = torch.optim.AdamW(
                _settings(others, weight_decay), lr=learning_rate, fused=True
            )

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self._parts.values():
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Take one step along the gradients."""
        for part in self._parts.values():
            part.step()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate; parameters with a factor of their own get their part of it."""
        for part in self._parts.values():
            for group in part.param_groups:
                group["lr"] = rate * group["rate"]

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of the moments by `<optimizer>/<parameter number>/<moment>`."""
        return {
            f"{name}/{number}/{moment}": value.clone()
            for name, part in self._parts.items()
            for number, moments in part.state_dict()["state"].items()
            for moment, value in moments.items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put the moments back; rates and decays stay as they are."""
        state: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in self._parts}
        for key, value in tensors.items():
            name, number, moment = key.split("/")
            state[name].setdefault(int(number), {})[moment] = value.clone()
        for name, part in self._parts.items():
            groups = part.state_dict()["param_groups"]
            part.load_state_dict({"state": state[name], "param_groups": groups})


def _settings(groups: Sequence[ParameterGroup], weight_decay: float) -> list[dict[str, object]]:
    return [
        {
            "params": group.parameters,
            "weight_decay": weight_decay if group.decays else 0.0,
            "rate": group.rate,
        }
        for group in groups
    ]
