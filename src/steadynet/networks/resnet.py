"""A residual perceptron (Gorishniy et al. 2021, arXiv:2106.11959): each block adds to its input.

Layers are normalised per row (not per batch), so that a row's answer does not depend on others.
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
from steadynet.networks.parts import Draw, EncodedInput, LayerNorm
from steadynet.table.layout import FeatureLayout

HIDDEN_FACTOR = 2
"""Width within a block, in widths of the residual path."""


class ResidualNetwork(TabularNetwork):
    """`depth` blocks of norm, product, ReLU, dropout, product; one member per group."""

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
        width, inner = size.width, size.width * HIDDEN_FACTOR
        self.dropout = size.dropout
        self.encoded = EncodedInput(layout, numbers, draw)
        features = self.encoded.size
        self.first = draw.uniform(features, width, fan=features)
        silence_constants(self.first, numbers)
        self.first_bias = draw.constant(1, width)
        self.norms = nn.ModuleList(LayerNorm(width, draw) for _ in range(size.depth))
        self.rises = nn.ParameterList(
            draw.uniform(width, inner, fan=width) for _ in range(size.depth)
        )
        self.rise_biases = nn.ParameterList(draw.constant(1, inner) for _ in range(size.depth))
        self.falls = nn.ParameterList(
            draw.uniform(inner, width, fan=inner) for _ in range(size.depth)
        )
        self.fall_biases = nn.ParameterList(draw.constant(1, width) for _ in range(size.depth))
        self.last_norm = LayerNorm(width, draw)
        self.head = draw.uniform(width, outputs, fan=width)
        self.head_bias = draw.constant(1, outputs)

    def grouped(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map (G, B, D) and (G, B, K) to (G, B, 1, C)."""
        features = self.encoded(numbers, categories)
        hidden = torch.baddbmm(self.first_bias, features, self.first)  # (G, B, H)
        blocks = zip(
            self.norms, self.rises, self.rise_biases, self.falls, self.fall_biases, strict=True
        )
        for norm, rise, rise_bias, fall, fall_bias in blocks:
            inner = torch.relu(torch.baddbmm(rise_bias, norm(hidden), rise))
            inner = drop(inner, self.dropout, self.training)
            hidden = hidden + torch.baddbmm(fall_bias, inner, fall)
        last = torch.relu(self.last_norm(hidden))
        return torch.baddbmm(self.head_bias, last, self.head).unsqueeze(2)

    def grow(self, growth: Growth, fresh: TabularNetwork) -> None:
        """See `TabularNetwork.grow`."""
        if not isinstance(fresh, ResidualNetwork):
            raise TypeError("a ResidualNetwork grows by a ResidualNetwork")
        places = rows_of(self.encoded.grow(growth, fresh.encoded))
        self.first = nn.Parameter(grown_rows(self.first, places))

    def set_linear(self, group: int, weight: Tensor, bias: Tensor) -> None:
        """Do nothing: there is no linear path."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """See `TabularNetwork.parameter_groups`."""
        matrices = [self.first, *self.rises, *self.falls]
        return self._groups_of(matrices, [self.head, self.encoded.embedding.vectors])
