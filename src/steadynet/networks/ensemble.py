"""The default network: a linear path plus a parameter-efficient ensemble of perceptrons.

Numbers enter as they are and piecewise-linearly encoded, categories as embeddings. The members of
a group share their matrices and own scales, biases and heads, as in BatchEnsemble (Wen et al.
2020, arXiv:2002.06715) and TabM (Gorishniy et al. 2024, arXiv:2410.24210). Here the members part
*after* the first product, through random signs of the first layer's scale: that product, which
is the widest, is then made once for all members, and measured no worse than parting before it.

The linear path starts as a fitted linear model and the heads at zero: the network begins as that
model and learns what it misses.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from steadynet.networks.base import NetworkSize, ParameterGroup, TabularNetwork, seeded
from steadynet.networks.dropping import drop_units
from steadynet.networks.encoding import GroupedTable, LinearPath, PiecewiseLinear, silence_constants
from steadynet.networks.growth import NEW, Growth, grown_rows, rows_of
from steadynet.table.layout import FeatureLayout

EMBEDDING = 8
"""Numbers per category vector; the linear path adds the one-hot."""


class Ensemble(TabularNetwork):
    """See the module's docstring. G groups, M members, H width, F encoded features, C outputs."""

    starts_linear = True

    def __init__(
        self,
        layout: FeatureLayout,
        outputs: int,
        size: NetworkSize,
        numbers: npt.NDArray[np.float32],
        seed: int,
    ) -> None:
        super().__init__(layout, outputs, size.groups, size.members)
        generator = seeded(seed)
        cardinalities = layout.cardinalities
        groups, members, width = size.groups, size.members, size.width
        self.dropout = size.dropout
        self.bins = PiecewiseLinear(numbers)
        self.linear = LinearPath(len(layout.numbers), cardinalities, outputs, groups)
        vectors = torch.randn(groups, sum(cardinalities), EMBEDDING, generator=generator)
        self.embedding = GroupedTable(cardinalities, vectors / math.sqrt(EMBEDDING))
        features = len(layout.numbers) + self.bins.size + EMBEDDING * len(cardinalities)
        fans = [max(1, features)] + [width] * (size.depth - 1)
        inputs = [features] + [width] * (size.depth - 1)

        def uniform(*shape: int, fan: int) -> nn.Parameter:
            spread = torch.rand(*shape, generator=generator) * 2 - 1
            return nn.Parameter(spread / math.sqrt(fan))

        signs = torch.randint(0, 2, (groups, members, width), generator=generator) * 2.0 - 1
        self.matrices = nn.ParameterList(
            uniform(groups, entering, width, fan=fan)
            for entering, fan in zip(inputs, fans, strict=True)
        )
        silence_constants(self.matrices[0], numbers)
        self.scales = nn.ParameterList(
            nn.Parameter(signs if layer == 0 else torch.ones(groups, members, width))
            for layer in range(size.depth)
        )
        self.biases = nn.ParameterList(uniform(groups, members, width, fan=fan) for fan in fans)
        self.heads = nn.Parameter(torch.zeros(groups, members, width, outputs))
        self.head_biases = nn.Parameter(torch.zeros(groups, members, outputs))

    def grouped(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map (G, B, D) and (G, B, K) to (G, B, M, C)."""
        rows = numbers.shape[1]
        encoded = [numbers, self.bins(numbers), self.embedding(categories).flatten(2)]
        hidden = torch.bmm(torch.cat(encoded, dim=2), self.matrices[0]).unsqueeze(2)  # (G,B,1,H)
        for layer, matrix in enumerate(self.matrices):
            if layer > 0:
                product = torch.bmm(hidden.flatten(1, 2), matrix)  # (G, B * M, H)
                hidden = product.view(self.groups, rows, self.members, -1)
            scale, bias = self.scales[layer], self.biases[layer]
            hidden = torch.relu(torch.addcmul(bias[:, None], hidden, scale[:, None]))
            hidden = drop_units(hidden, self.dropout, self.training)  # (G, B, M, H)
        deep = torch.matmul(hidden.transpose(1, 2), self.heads).transpose(1, 2)  # (G, B, M, C)
        linear: Tensor = self.linear(numbers, categories)
        return deep + self.head_biases[:, None] + linear[:, :, None]

    def grow(self, growth: Growth, fresh: TabularNetwork) -> None:
        """See `TabularNetwork.grow`."""
        if not isinstance(fresh, Ensemble):
            raise TypeError("an Ensemble grows by an Ensemble")
        self._grow_inputs(growth, fresh)

    def _grow_inputs(self, growth: Growth, fresh: Ensemble) -> Tensor:
        """Take in new inputs; return per encoded feature of now its place before, or `NEW`."""
        numbers, size = growth.numbers_before, self.bins.size
        bins = self.bins.grow(growth.numbers, fresh.bins)
        found = [*growth.numbers]
        found += [numbers + place if place >= 0 else NEW for place in bins]
        places = rows_of((*found, *growth.embedded(numbers + size, EMBEDDING)))
        self.matrices[0] = nn.Parameter(grown_rows(self.matrices[0], places))
        self.embedding.grow(growth, fresh.embedding)
        self.linear.grow(growth, fresh.linear)
        return places

    def set_linear(self, group: int, weight: Tensor, bias: Tensor) -> None:
        """See `TabularNetwork.set_linear`."""
        self.linear.start(group, weight, bias)

    def parameter_groups(self) -> list[ParameterGroup]:
        """See `TabularNetwork.parameter_groups`."""
        return self._groups_of(list(self.matrices), [self.embedding.vectors])
