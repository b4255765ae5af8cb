"""FT-Transformer (Gorishniy et al. 2021, arXiv:2106.11959): a token per feature, and attention.

Every number and category becomes a token; blocks of attention and a small perceptron, both with
normalisation before them, mix the tokens; the answer is read from a token of its own.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from steadynet.errors import UserError
from steadynet.networks.base import NetworkSize, ParameterGroup, TabularNetwork, seeded
from steadynet.networks.dropping import drop
from steadynet.networks.encoding import GroupedTable
from steadynet.networks.growth import NEW, Growth, grown_rows, rows_of
from steadynet.networks.parts import Draw, LayerNorm
from steadynet.table.layout import FeatureLayout

HEADS = 4
TOKEN_FACTOR = 4
"""Widths of the plan that make one width of a token: attention costs far more per unit."""


class FtTransformer(TabularNetwork):
    """`depth` blocks of tokens of `width` / 4 (8 at least); one member per group."""

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
        width = max(8, size.width // TOKEN_FACTOR // HEADS * HEADS)
        self.width, self.dropout = width, size.dropout
        count, columns = len(layout.numbers), len(layout.categories)
        # Numbers that are constant in training say nothing, so their random weights are zero.
        varying = np.ptp(numbers, axis=0) > 0 if len(numbers) else np.ones(count, bool)
        self.number_weight = draw.uniform(count, width, fan=width)
        with torch.no_grad():
            self.number_weight.mul_(torch.from_numpy(varying.astype(np.float32))[:, None])
        self.number_bias = draw.uniform(count, width, fan=width)
        vectors = draw.uniform(sum(layout.cardinalities), width, fan=width).detach()
        self.embedding = GroupedTable(layout.cardinalities, vectors)
        self.column_bias = draw.uniform(columns, width, fan=width)
        self.answer_token = draw.uniform(1, width, fan=width)
        depth = size.depth

        def stack(rows: int, leaving: int) -> nn.ParameterList:
            return nn.ParameterList(draw.uniform(rows, leaving, fan=rows) for _ in range(depth))

        self.norms = nn.ModuleList(LayerNorm(width, draw) for _ in range(2 * depth))
        self.queries, self.keys = stack(width, width), stack(width, width)
        self.values, self.mixes = stack(width, width), stack(width, width)
        self.rises, self.falls = stack(width, 2 * width), stack(2 * width, width)
        self.rise_biases = nn.ParameterList(draw.constant(1, 2 * width) for _ in range(depth))
        self.fall_biases = nn.ParameterList(draw.constant(1, width) for _ in range(depth))
        self.last_norm = LayerNorm(width, draw)
        self.head = draw.uniform(width, outputs, fan=width)
        self.head_bias = draw.constant(1, outputs)

    def grouped(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map (G, B, D) and (G, B, K) to (G, B, 1, C)."""
        groups, rows = numbers.shape[:2]
        number_tokens = numbers[..., None] * self.number_weight[:, None] + self.number_bias[:, None]
        column_tokens = self.embedding(categories) + self.column_bias[:, None]
        answer = self.answer_token[:, None].expand(groups, rows, 1, self.width)
        tokens = torch.cat([answer, number_tokens, column_tokens], dim=2)  # (G, B, T, H)
        count = tokens.shape[2]
        for block in range(len(self.queries)):
            normed = self.norms[2 * block](tokens).reshape(groups, -1, self.width)
            mixed = self._attend(block, normed, rows, count)
            tokens = tokens + drop(mixed, self.dropout, self.training)
            normed = self.norms[2 * block + 1](tokens).reshape(groups, -1, self.width)
            inner = torch.relu(torch.baddbmm(self.rise_biases[block], normed, self.rises[block]))
            inner = drop(inner, self.dropout, self.training)
            fallen = torch.baddbmm(self.fall_biases[block], inner, self.falls[block])
            tokens = tokens + fallen.view(groups, rows, count, self.width)
        last = torch.relu(self.last_norm(tokens[:, :, 0]))
        return torch.baddbmm(self.head_bias, last, self.head).unsqueeze(2)

    def _attend(self, block: int, normed: Tensor, rows: int, count: int) -> Tensor:
        """Map normalised tokens (G, B * T, H) to what attention adds (G, B, T, H)."""
        size = self.width // HEADS

        def heads(matrix: Tensor) -> Tensor:
            made = torch.bmm(normed, matrix).view(self.groups, rows, count, HEADS, size)
            return made.transpose(2, 3)  # (G, B, heads, T, size)

        query, key, value = (
            heads(weights[block]) for weights in (self.queries, self.keys, self.values)
        )
        shares = torch.softmax(query @ key.transpose(3, 4) / math.sqrt(size), dim=4)
        mixed = (shares @ value).transpose(2, 3).reshape(self.groups, rows * count, self.width)
        return torch.bmm(mixed, self.mixes[block]).view(self.groups, rows, count, self.width)

    def grow(self, growth: Growth, fresh: TabularNetwork) -> None:
        """Take in new categories; see `TabularNetwork.grow`.

        Raises `UserError` for new columns: whatever a token holds, the others would attend to it.
        """
        if not isinstance(fresh, FtTransformer):
            raise TypeError("an FtTransformer grows by an FtTransformer")
        if NEW in growth.numbers or NEW in growth.categories:
            raise UserError(
                "a transformer cannot take in new columns without changing its answers",
                expected="the parent's columns (new categories are welcome)",
                do="Leave the new columns out with table.drop, or train anew.",
            )
        numbers, columns = rows_of(growth.numbers), rows_of(growth.categories)
        self.number_weight = nn.Parameter(grown_rows(self.number_weight, numbers))
        self.number_bias = nn.Parameter(grown_rows(self.number_bias, numbers))
        self.column_bias = nn.Parameter(grown_rows(self.column_bias, columns))
        self.embedding.grow(growth, fresh.embedding)

    def set_linear(self, group: int, weight: Tensor, bias: Tensor) -> None:
        """Do nothing: there is no linear path."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """See `TabularNetwork.parameter_groups`."""
        matrices = [
            matrix
            for stack in (
                self.queries,
                self.keys,
                self.values,
                self.mixes,
                self.rises,
                self.falls,
            )
            for matrix in stack
        ]
        return self._groups_of(matrices, [self.head, self.embedding.vectors])
