"""TabM (Gorishniy et al. 2024, arXiv:2410.24210): members that part before the first product.

Beside `ensemble`, whose members part after it, every member here sees inputs of its own scale. It
costs as many first products as there are members, and sometimes gains by that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from steadynet.networks.base import NetworkSize, ParameterGroup, TabularNetwork, seeded
from steadynet.networks.dropping import drop_units
from steadynet.networks.ensemble import Ensemble
from steadynet.networks.growth import Growth, grown_rows
from steadynet.table.layout import FeatureLayout


class TabM(Ensemble):
    """G groups, M members, F encoded features, H width, C outputs; see the module's docstring."""

    def __init__(
        self,
        layout: FeatureLayout,
        outputs: int,
        size: NetworkSize,
        numbers: npt.NDArray[np.float32],
        seed: int,
    ) -> None:
        super().__init__(layout, outputs, size, numbers, seed)
        features = self.matrices[0].shape[1]
        shape = (size.groups, size.members, features)
        signs = torch.randint(0, 2, shape, generator=seeded(seed + 1)) * 2.0 - 1
        self.entering = nn.Parameter(signs)
        with torch.no_grad():
            self.scales[0].fill_(1.0)

    def grouped(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map (G, B, D) and (G, B, K) to (G, B, M, C)."""
        rows = numbers.shape[1]
        encoded = [numbers, self.bins(numbers), self.embedding(categories).flatten(2)]
        features = torch.cat(encoded, dim=2)
        hidden = features[:, :, None] * self.entering[:, None]  # (G, B, M, F)
        for layer, matrix in enumerate(self.matrices):
            product = torch.bmm(hidden.flatten(1, 2), matrix)  # (G, B * M, H)
            hidden = product.view(self.groups, rows, self.members, matrix.shape[2])
            scale, bias = self.scales[layer], self.biases[layer]
            hidden = torch.relu(torch.addcmul(bias[:, None], hidden, scale[:, None]))
            hidden = drop_units(hidden, self.dropout, self.training)
        deep = torch.matmul(hidden.transpose(1, 2), self.heads).transpose(1, 2)  # (G, B, M, C)
        linear: Tensor = self.linear(numbers, categories)
        return deep + self.head_biases[:, None] + linear[:, :, None]

    def grow(self, growth: Growth, fresh: TabularNetwork) -> None:
        """See `TabularNetwork.grow`."""
        if not isinstance(fresh, TabM):
            raise TypeError("a TabM grows by a TabM")
        places = self._grow_inputs(growth, fresh)
        signs = grown_rows(self.entering.mT, places, fresh.entering.mT)
        self.entering = nn.Parameter(signs.mT.contiguous())

    def parameter_groups(self) -> list[ParameterGroup]:
        """See `TabularNetwork.parameter_groups`."""
        return self._groups_of(list(self.matrices), [self.embedding.vectors])
