"""What several networks are made of: grouped weights, encoded inputs, normalisation."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from steadynet.networks.encoding import GroupedTable, PiecewiseLinear
from steadynet.networks.growth import NEW, Growth
from steadynet.table.layout import FeatureLayout

EMBEDDING = 8
"""Numbers per category vector."""
SMALLEST_SPREAD = 1e-5


class Draw:
    """Draws initial weights for all groups from one generator."""

    def __init__(self, groups: int, generator: torch.Generator) -> None:
        self.groups = groups
        self.generator = generator

    def uniform(self, *shape: int, fan: int) -> nn.Parameter:
        """Return (G, *shape) between ±1/√fan."""
        spread = torch.rand(self.groups, *shape, generator=self.generator) * 2 - 1
        return nn.Parameter(spread / math.sqrt(max(1, fan)))

    def normal(self, *shape: int, deviation: float = 1.0) -> nn.Parameter:
        """Return normal numbers (G, *shape)."""
        drawn = torch.randn(self.groups, *shape, generator=self.generator)
        return nn.Parameter(drawn * deviation)

    def constant(self, *shape: int, value: float = 0.0) -> nn.Parameter:
        """Return (G, *shape) of one value."""
        return nn.Parameter(torch.full((self.groups, *shape), value))


class EncodedInput(nn.Module):
    """Numbers as they are and piecewise-linearly encoded, categories as embeddings: F features."""

    def __init__(self, layout: FeatureLayout, numbers: npt.NDArray[np.float32], draw: Draw) -> None:
        super().__init__()
        self.bins = PiecewiseLinear(numbers)
        entries = sum(layout.cardinalities)
        vectors = draw.normal(entries, EMBEDDING, deviation=1 / math.sqrt(EMBEDDING)).detach()
        self.embedding = GroupedTable(layout.cardinalities, vectors)
        self.numbers = len(layout.numbers)
        self.columns = len(layout.categories)

    @property
    def size(self) -> int:
        """F."""
        return self.numbers + self.bins.size + EMBEDDING * self.columns

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map (G, B, D) and (G, B, K) to (G, B, F)."""
        parts = [numbers, self.bins(numbers), self.embedding(categories).flatten(2)]
        return torch.cat(parts, dim=2)

    def grow(self, growth: Growth, fresh: EncodedInput) -> tuple[int, ...]:
        """Take in new inputs; return per feature of now its place before, `NEW` for new ones."""
        before, size = growth.numbers_before, self.bins.size
        bins = self.bins.grow(growth.numbers, fresh.bins)
        self.embedding.grow(growth, fresh.embedding)
        self.numbers, self.columns = fresh.numbers, fresh.columns
        places = [*growth.numbers]
        places += [before + place if place >= 0 else NEW for place in bins]
        return (*places, *growth.embedded(before + size, EMBEDDING))


class LayerNorm(nn.Module):
    """Normalise the last dimension of (G, B, H), with a gain and a shift per group."""

    def __init__(self, width: int, draw: Draw) -> None:
        super().__init__()
        self.gain = draw.constant(1, width, value=1.0)
        self.shift = draw.constant(1, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the normalised (G, B, H)."""
        centred = hidden - hidden.mean(-1, keepdim=True)
        spread = centred.square().mean(-1, keepdim=True)
        shape = (len(self.gain), *[1] * (hidden.dim() - 2), -1)
        even = centred * torch.rsqrt(spread + SMALLEST_SPREAD)
        return even * self.gain.view(shape) + self.shift.view(shape)
