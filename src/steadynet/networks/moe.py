"""A mixture of experts: a router weighs small perceptrons row by row.

After Shazeer et al. 2017 (arXiv:1701.06538), with a softmax over all experts, not the best few.

All experts answer every row, since on a table they are small and one product; the router's weights
are a softmax. A loss on how evenly the experts are used keeps the router from leaning on one (the
squared coefficient of variation of their shares in a batch).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from steadynet.networks.base import NetworkSize, ParameterGroup, TabularNetwork, seeded
from steadynet.networks.dropping import drop
from steadynet.networks.encoding import silence_constants
from steadynet.networks.growth import Growth, grown_rows, rows_of
from steadynet.networks.parts import Draw, EncodedInput
from steadynet.table.layout import FeatureLayout

BALANCE = 0.01
"""Weight of the load-balance loss."""


class MixtureOfExperts(TabularNetwork):
    """`members` experts of `width` with one hidden layer each; one answer per group."""

    def __init__(
        self,
        layout: FeatureLayout,
        outputs: int,
        size: NetworkSize,
        numbers: npt.NDArray[np.float32],
        seed: int,
    ) -> None:
        super().__init__(layout, outputs, size.groups, 1)
        draw = Draw(size.groups, seeded(seed))
        self.experts, self.width = max(2, size.members), size.width
        self.dropout = size.dropout
        self.encoded = EncodedInput(layout, numbers, draw)
        features = self.encoded.size
        self.router = draw.uniform(features, self.experts, fan=features)
        self.router_bias = draw.constant(1, self.experts)
        self.rise = draw.uniform(features, self.experts * size.width, fan=features)
        self.rise_bias = draw.constant(1, self.experts * size.width)
        self.fall = draw.uniform(self.experts * size.width, outputs, fan=size.width)
        self.fall_bias = draw.constant(self.experts, outputs)
        for matrix in (self.router, self.rise):
            silence_constants(matrix, numbers)
        self._shares: Tensor | None = None

    def grouped(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map (G, B, D) and (G, B, K) to (G, B, 1, C)."""
        features = self.encoded(numbers, categories)
        shares = torch.softmax(torch.baddbmm(self.router_bias, features, self.router), dim=2)
        self._shares = shares if self.training else None
        hidden = torch.relu(torch.baddbmm(self.rise_bias, features, self.rise))
        hidden = drop(hidden, self.dropout, self.training)
        weighed = hidden.view(*shares.shape, self.width) * shares[..., None]
        answer = torch.bmm(weighed.flatten(2), self.fall)  # (G, B, C)
        return (answer + torch.bmm(shares, self.fall_bias)).unsqueeze(2)

    def extra_loss(self) -> Tensor | None:
        """Return the load-balance loss (G,) of the last training batch."""
        if self._shares is None:
            return None
        used = self._shares.mean(1)  # (G, E)
        return BALANCE * used.var(1, unbiased=False) / used.mean(1).square()

    def grow(self, growth: Growth, fresh: TabularNetwork) -> None:
        """See `TabularNetwork.grow`."""
        if not isinstance(fresh, MixtureOfExperts):
            raise TypeError("a MixtureOfExperts grows by a MixtureOfExperts")
        places = rows_of(self.encoded.grow(growth, fresh.encoded))
        self.router = nn.Parameter(grown_rows(self.router, places))
        self.rise = nn.Parameter(grown_rows(self.rise, places))

    def set_linear(self, group: int, weight: Tensor, bias: Tensor) -> None:
        """Do nothing: there is no linear path."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """See `TabularNetwork.parameter_groups`."""
        return self._groups_of(
            [self.rise], [self.router, self.fall, self.encoded.embedding.vectors]
        )
