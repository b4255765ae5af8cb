"""What every network is to the rest of steadynet.

A network holds *groups* that share nothing, each of *members* that share most weights. Training
feeds every group its own rows; an answer averages over all members of all groups. With one group
the held-out rows are the validation part; with several (small tables) each group leaves out its
own fold, so that every row is held out once (cross-fitting).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steadynet.errors import UserError
from steadynet.networks.encoding import GroupedTable
from steadynet.networks.growth import Growth
from steadynet.table.layout import FeatureLayout


@dataclass(frozen=True)
class NetworkSize:
    """The sizes of a network; every one is at least 1, dropout is in [0, 1)."""

    width: int
    depth: int
    members: int
    groups: int
    dropout: float


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are stepped alike."""

    parameters: list[nn.Parameter]
    decays: bool
    """Whether weight decay shrinks them: matrices, not biases or scales."""
    rate: float = 1.0
    """What the fit's learning rate is multiplied by for them."""
    matrices: bool = False
    """Whether each is (G, A, B), a matrix between layers per group, and stepped as such."""


class TabularNetwork(nn.Module, ABC):
    """A network from the feature graph's tensors to member outputs.

    Outputs are logits (one for a binary target, one per class for a multiclass target) or the
    standardised prediction.
    """

    def __init__(self, layout: FeatureLayout, outputs: int, groups: int, members: int) -> None:
        super().__init__()
        self.layout = layout
        self.outputs = outputs
        self.groups = groups
        self.members = members

    @abstractmethod
    def grouped(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map (G, B, D) and (G, B, K), each group with its own rows, to (G, B, M, C)."""

    starts_linear = False
    """Whether there is a linear path to start from."""

    @abstractmethod
    def set_linear(self, group: int, weight: Tensor, bias: Tensor) -> None:
        """Let a group start as the linear model of `weight` (D + entries, C) and `bias` (C,).

        Rows of `weight` are the D numbers, then the entries of every category column in order. A
        network without a linear path ignores it.
        """

    @abstractmethod
    def parameter_groups(self) -> list[ParameterGroup]:
        """Return every parameter once, with how it is stepped."""

    def progress_to(self, done: float) -> None:
        """Be told before each step which part of the fit is done, 0 to 1.

        A network whose dropout or other noise fades sets it here. It must depend on `done` alone,
        so that a resumed fit goes on as it would have.
        """

    def extra_loss(self) -> Tensor | None:
        """Return a loss per group (G,) of the last `grouped` call to add while fitting, or None.

        A mixture of experts balances its load by it.
        """
        return None

    def _groups_of(
        self, matrices: list[nn.Parameter], decayed: list[nn.Parameter]
    ) -> list[ParameterGroup]:
        """Return three groups: `matrices`, `decayed`, and every other parameter."""
        chosen = {id(parameter) for parameter in (*matrices, *decayed)}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in chosen]
        return [
            ParameterGroup(matrices, decays=True, matrices=True),
            ParameterGroup(decayed, decays=True),
            ParameterGroup(rest, decays=False),
        ]

    def grow(self, growth: Growth, fresh: TabularNetwork) -> None:
        """Take in new inputs without changing any answer; `fresh` is a new network for them.

        The weights are those of the layout before `growth`. Raises `UserError` where the network
        cannot.
        """
        raise UserError(
            f"{type(self).__name__} cannot take new columns, categories or date parts",
            do="Train anew, or leave the new columns out with table.drop.",
        )

    def fill_unseen(self, categories: Tensor) -> None:
        """Give the entries that no fitted row has what the others of their column have on average.

        `categories` (n, K) are the fitted rows. Nothing was learnt about an entry that was never
        seen, "unknown" above all; without this it would answer by its random start.
        """
        for module in self.modules():
            if isinstance(module, GroupedTable):
                module.fill_unseen(categories)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map (N, D) and (N, K), the same rows for all groups, to (N, G * M, C)."""
        grouped = self.grouped(
            numbers.expand(self.groups, -1, -1), categories.expand(self.groups, -1, -1)
        )
        return grouped.permute(1, 0, 2, 3).flatten(1, 2)


def seeded(seed: int) -> torch.Generator:
    """Return a generator for initial weights, apart from torch's global one."""
    return torch.Generator().manual_seed(seed)
