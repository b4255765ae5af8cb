"""The plain network: embeddings and scaled numbers into one multilayer perceptron.

It is what most people would write first: one member per group, no bins, no linear path. It is
kept as the measure of what the ensemble gains, and for those who want the smallest graph.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from steadynet.networks.base import NetworkSize, ParameterGroup, TabularNetwork, seeded
from steadynet.networks.dropping import drop
from steadynet.networks.encoding import GroupedTable, silence_constants
from steadynet.networks.growth import Growth, grown_rows, rows_of
from steadynet.table.layout import FeatureLayout

EMBEDDING = 8


class Perceptron(TabularNetwork):
    """Embeddings, then `depth` layers of `width` with ReLU and dropout, then one linear head."""

    def __init__(
        self,
        layout: FeatureLayout,
        outputs: int,
        size: NetworkSize,
        numbers: npt.NDArray[np.float32],
        seed: int,
    ) -> None:
        super().__init__(layout, outputs, size.groups, 1)
        generator = seeded(seed)
        groups = size.groups
        vectors = torch.randn(groups, sum(layout.cardinalities), EMBEDDING, generator=generator)
        self.dropout = size.dropout
        self.embedding = GroupedTable(layout.cardinalities, vectors / math.sqrt(EMBEDDING))
        features = len(layout.numbers) + EMBEDDING * len(layout.cardinalities)
        sizes = [features, *[size.width] * size.depth, outputs]
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        for entering, leaving in itertools.pairwise(sizes):
            spread = torch.rand(groups, entering, leaving, generator=generator) * 2 - 1
            self.matrices.append(nn.Parameter(spread * math.sqrt(3 / max(1, entering))))
            self.biases.append(nn.Parameter(torch.zeros(groups, 1, leaving)))

        silence_constants(self.matrices[0], numbers)

    def grouped(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map (G, B, D) and (G, B, K) to (G, B, 1, C)."""
        hidden = torch.cat([numbers, self.embedding(categories).flatten(2)], dim=2)
        last = len(self.matrices) - 1
        for layer, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, matrix)  # (G, B, H)
            if layer < last:
                hidden = drop(torch.relu(hidden), self.dropout, self.training)
        return hidden.unsqueeze(2)

    def grow(self, growth: Growth, fresh: TabularNetwork) -> None:
        """See `TabularNetwork.grow`."""
        if not isinstance(fresh, Perceptron):
            raise TypeError("a Perceptron grows by a Perceptron")
        places = rows_of((*growth.numbers, *growth.embedded(growth.numbers_before, EMBEDDING)))
        self.matrices[0] = nn.Parameter(grown_rows(self.matrices[0], places))
        self.embedding.grow(growth, fresh.embedding)

    def set_linear(self, group: int, weight: Tensor, bias: Tensor) -> None:
        """Do nothing: there is no linear path."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """See `TabularNetwork.parameter_groups`."""
        *inner, head = self.matrices
        return self._groups_of(inner, [head, self.embedding.vectors])
