"""A tuned perceptron after RealMLP (Holzmüller, Grinsztajn, Steinwart 2024, arXiv:2407.04491).

From there: periodic embeddings of each number with its own frequencies (Gorishniy et al. 2022,
arXiv:2203.05556; here PBLD: cosine, then a small layer, beside the number itself), a learnable
scale per feature with a faster step, weights drawn from a normal distribution and divided by the
square root of the fan (NTK parametrisation), SELU for classes and Mish for numbers alike replaced
by SiLU, dropout that fades in the second half. The robust scaling and smooth clipping stand in the
feature graph. Label smoothing is left out: it worsens log-loss.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from steadynet.networks.base import NetworkSize, ParameterGroup, TabularNetwork, seeded
from steadynet.networks.dropping import drop
from steadynet.networks.encoding import GroupedTable
from steadynet.networks.growth import NEW, Growth, grown_rows, rows_of
from steadynet.networks.parts import EMBEDDING, Draw
from steadynet.table.layout import FeatureLayout

FREQUENCIES = 16
EMBEDDED = 3
"""Values per number beside the number itself."""
FREQUENCY_SPREAD = 0.5
SCALE_RATE = 6.0
"""Of the learning rate, for the scales of features."""
MATRIX_RATE = 8.0
"""Of the learning rate: NTK weights are of size 1, not of 1/√fan."""
FADES_FROM = 0.5
"""Part of the fit after which dropout fades."""


class PeriodicNumbers(nn.Module):
    """Every number as itself and as a small layer of cosines of it: D * (1 + EMBEDDED) values."""

    def __init__(self, numbers: int, draw: Draw) -> None:
        super().__init__()
        self.frequency = draw.normal(numbers, FREQUENCIES, deviation=FREQUENCY_SPREAD)
        phases = (torch.rand(draw.groups, numbers, FREQUENCIES, generator=draw.generator) - 0.5) * 2
        self.phase = nn.Parameter(phases * math.pi)
        self.weight = draw.uniform(numbers, FREQUENCIES, EMBEDDED, fan=FREQUENCIES)
        self.bias = draw.uniform(numbers, EMBEDDED, fan=FREQUENCIES)

    def forward(self, numbers: Tensor) -> Tensor:
        """Map (G, B, D) to (G, B, D * (1 + EMBEDDED))."""
        angle = 2 * math.pi * numbers[..., None] * self.frequency[:, None] + self.phase[:, None]
        waves = torch.cos(angle).transpose(1, 2)  # (G, D, B, F)
        made = (waves @ self.weight + self.bias[:, :, None]).transpose(1, 2)  # (G, B, D, E)
        return torch.cat([numbers[..., None], made], dim=3).flatten(2)

    def grow(self, growth: Growth, fresh: PeriodicNumbers) -> None:
        """Keep the waves of known numbers, take those of new ones from `fresh`."""
        places = rows_of(growth.numbers)
        self.frequency = nn.Parameter(grown_rows(self.frequency, places, fresh.frequency))
        self.phase = nn.Parameter(grown_rows(self.phase, places, fresh.phase))
        self.weight = nn.Parameter(grown_rows(self.weight, places, fresh.weight))
        self.bias = nn.Parameter(grown_rows(self.bias, places, fresh.bias))


class RealMlp(TabularNetwork):
    """See the module's docstring; one member per group."""

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
        self.dropout = self.dropped = size.dropout
        count = len(layout.numbers)
        self.periodic = PeriodicNumbers(count, draw)
        entries = sum(layout.cardinalities)
        vectors = draw.normal(entries, EMBEDDING, deviation=1 / math.sqrt(EMBEDDING)).detach()
        self.embedding = GroupedTable(layout.cardinalities, vectors)
        features = count * (1 + EMBEDDED) + EMBEDDING * len(layout.categories)
        self.scale = draw.constant(1, features, value=1.0)
        sizes = [features, *[size.width] * size.depth]
        self.matrices = nn.ParameterList(
            draw.normal(entering, leaving) for entering, leaving in itertools.pairwise(sizes)
        )
        self.biases = nn.ParameterList(draw.normal(1, b, deviation=0.1) for b in sizes[1:])
        self.head = draw.constant(size.width, outputs)
        self.head_bias = draw.constant(1, outputs)
        self._silence(numbers)

    def _silence(self, numbers: npt.NDArray[np.float32]) -> None:
        """Give numbers that are constant in training no say."""
        if len(numbers) == 0:
            return
        constant = torch.from_numpy(np.ptp(numbers, axis=0) == 0).repeat_interleave(1 + EMBEDDED)
        with torch.no_grad():
            self.matrices[0][:, : len(constant)][:, constant] = 0

    def progress_to(self, done: float) -> None:
        """Let dropout fade in the second part of the fit."""
        left = min(1.0, (1.0 - done) / (1.0 - FADES_FROM))
        self.dropped = self.dropout * left

    def grouped(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map (G, B, D) and (G, B, K) to (G, B, 1, C)."""
        encoded = [self.periodic(numbers), self.embedding(categories).flatten(2)]
        hidden = torch.cat(encoded, dim=2) * self.scale
        for matrix, bias in zip(self.matrices, self.biases, strict=True):
            fan = math.sqrt(max(1, matrix.shape[1]))
            hidden = functional.silu(torch.bmm(hidden, matrix) / fan + bias)
            hidden = drop(hidden, self.dropped, self.training)
        fan = math.sqrt(self.head.shape[1])
        return (torch.bmm(hidden, self.head) / fan + self.head_bias).unsqueeze(2)

    def grow(self, growth: Growth, fresh: TabularNetwork) -> None:
        """See `TabularNetwork.grow`."""
        if not isinstance(fresh, RealMlp):
            raise TypeError("a RealMlp grows by a RealMlp")
        each = 1 + EMBEDDED
        found = [
            place * each + part if place != NEW else NEW
            for place in growth.numbers
            for part in range(each)
        ]
        places = rows_of((*found, *growth.embedded(growth.numbers_before * each, EMBEDDING)))
        matrix = self.matrices[0]
        # Products are divided by the root of the fan, which has grown.
        fans = max(1, len(places)) / max(1, matrix.shape[1])
        self.matrices[0] = nn.Parameter(grown_rows(matrix, places) * math.sqrt(fans))
        self.scale = nn.Parameter(grown_rows(self.scale.mT, places, fresh.scale.mT).mT.contiguous())
        self.periodic.grow(growth, fresh.periodic)
        self.embedding.grow(growth, fresh.embedding)

    def set_linear(self, group: int, weight: Tensor, bias: Tensor) -> None:
        """Do nothing: there is no linear path."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """See `TabularNetwork.parameter_groups`."""
        matrices = list(self.matrices)
        chosen = {id(parameter) for parameter in (*matrices, self.scale, self.embedding.vectors)}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in chosen]
        return [
            ParameterGroup(matrices, decays=True, matrices=True, rate=MATRIX_RATE),
            ParameterGroup([self.embedding.vectors], decays=True),
            ParameterGroup([self.scale], decays=False, rate=SCALE_RATE),
            ParameterGroup(rest, decays=False),
        ]
