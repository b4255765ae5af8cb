"""How numbers and categories enter a network: piecewise-linear bins and embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from steadynet.networks.growth import Growth, grown_rows, rows_of

QUANTILES = 32
SAMPLE_ROWS = 100_000
"""Rows that quantiles are taken from; more would not move them."""


class PiecewiseLinear(nn.Module):
    """Piecewise-linear encoding of numbers (Gorishniy et al. 2022, arXiv:2203.05556).

    Every number becomes one value per bin between neighbouring quantiles: 0 below the bin, 1
    above it, linear inside: `clamp(x[source] * scale + shift, 0, 1)`. Columns with at most two
    distinct values get no bins, since the number itself says as much.
    """

    source: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, numbers: npt.NDArray[np.float32]) -> None:
        """Take the bins from training rows `numbers` (N, D)."""
        super().__init__()
        step = max(1, len(numbers) // SAMPLE_ROWS)
        source: list[int] = []
        lows: list[float] = []
        highs: list[float] = []
        for column in range(numbers.shape[1]):
            edges = _edges(numbers[::step, column])
            source += [column] * (len(edges) - 1)
            lows += edges[:-1]
            highs += edges[1:]
        low = torch.tensor(lows, dtype=torch.float64)
        width = torch.tensor(highs, dtype=torch.float64) - low
        self.register_buffer("source", torch.tensor(source, dtype=torch.int64))
        self.register_buffer("scale", (1 / width).float())
        self.register_buffer("shift", (-low / width).float())

    def grow(self, places: tuple[int, ...], fresh: PiecewiseLinear) -> list[int]:
        """Keep the bins of known numbers, take those of new ones from `fresh`.

        `places` says per number where it stood before, -1 for a new one. Returns per bin of now
        its place before, -1 for a new one.
        """
        sources: list[int] = []
        scales: list[Tensor] = []
        shifts: list[Tensor] = []
        origins: list[int] = []
        for number, place in enumerate(places):
            maker = self if place >= 0 else fresh
            wanted = place if place >= 0 else number
            own = torch.nonzero(maker.source == wanted).flatten()
            sources += [number] * len(own)
            scales.append(maker.scale[own])
            shifts.append(maker.shift[own])
            origins += own.tolist() if place >= 0 else [-1] * len(own)
        self.source = torch.tensor(sources, dtype=torch.int64)
        self.scale = torch.cat(scales) if scales else self.scale
        self.shift = torch.cat(shifts) if shifts else self.shift
        return origins

    @property
    def size(self) -> int:
        """Bins of all numbers together."""
        return int(self.source.numel())

    def forward(self, numbers: Tensor) -> Tensor:
        """Map (..., D) to (..., bins)."""
        return torch.clamp(numbers.index_select(-1, self.source) * self.scale + self.shift, 0, 1)


def _edges(values: npt.NDArray[np.float32]) -> list[float]:
    """Return the ascending distinct quantiles of a column, none where two values are all."""
    if len(values) == 0:
        return []
    distinct = np.unique(values)
    if len(distinct) <= 2:
        return []
    if len(distinct) > QUANTILES:
        shares = np.linspace(0, 1, QUANTILES + 1)
        distinct = np.unique(np.quantile(values.astype(np.float64), shares))
    # Bins much narrower than the column's spread would blow rounding up into the output.
    kept = [float(distinct[0])]
    smallest = 1e-5 * max(1.0, float(distinct[-1] - distinct[0]))
    for edge in distinct[1:]:
        if edge - kept[-1] > smallest:
            kept.append(float(edge))
    return kept


class GroupedTable(nn.Module):
    """A table of vectors per group: all category columns stacked, with their offsets."""

    offsets: Tensor

    def __init__(self, cardinalities: Sequence[int], start: Tensor) -> None:
        """Take initial vectors `start` (G, entries, E)."""
        super().__init__()
        offsets = np.concatenate([[0], np.cumsum(cardinalities)])[: len(cardinalities)]
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.int64))
        self.vectors = nn.Parameter(start)

    def forward(self, categories: Tensor) -> Tensor:
        """Map indices (G, B, K) to vectors (G, B, K, E)."""
        groups, entries, _ = self.vectors.shape
        index = categories + self.offsets
        if groups > 1:
            index = index + (torch.arange(groups, device=index.device) * entries)[:, None, None]
        return functional.embedding(index, self.vectors.flatten(0, 1))

    def grow(self, growth: Growth, fresh: GroupedTable) -> None:
        """Take in new entries and columns; entries of new columns are those of `fresh`."""
        places = rows_of(growth.entries)
        self.vectors = nn.Parameter(grown_rows(self.vectors, places, fresh.vectors))
        self.offsets = fresh.offsets.clone()

    def fill_unseen(self, categories: Tensor) -> None:
        """Set entries that no row of `categories` (n, K) has to their column's weighted mean."""
        entries = self.vectors.shape[1]
        if entries == 0:
            return
        index = (categories + self.offsets).flatten()
        counts = torch.bincount(index, minlength=entries).to(self.vectors.dtype)
        starts = self.offsets.tolist()
        ends = [*starts, entries][1:]
        with torch.no_grad():
            for start, end in zip(starts, ends, strict=True):
                seen = counts[start:end]
                column = self.vectors[:, start:end]
                mean = (column * seen[:, None]).sum(1, keepdim=True) / seen.sum().clamp_min(1)
                self.vectors[:, start:end] = torch.where(seen[:, None] > 0, column, mean)


def silence_constants(matrix: Tensor, numbers: npt.NDArray[np.float32]) -> None:
    """Set to zero the first rows of `matrix` (G, F, H) whose number is constant in training.

    Such a number teaches nothing, so its random weights would stay and answer for it later.
    """
    if len(numbers) == 0:
        return
    constant = torch.from_numpy(np.ptp(numbers, axis=0) == 0)
    with torch.no_grad():
        matrix[:, : numbers.shape[1]][:, constant] = 0


class LinearPath(nn.Module):
    """A linear model of the numbers and of the categories' one-hot, one per group."""

    def __init__(self, numbers: int, cardinalities: Sequence[int], outputs: int, groups: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(groups, numbers, outputs))
        self.bias = nn.Parameter(torch.zeros(groups, outputs))
        self.table = GroupedTable(cardinalities, torch.zeros(groups, sum(cardinalities), outputs))

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map (G, B, D) and (G, B, K) to (G, B, C)."""
        entries: Tensor = self.table(categories).sum(2)
        return torch.baddbmm(self.bias[:, None], numbers, self.weight) + entries

    def grow(self, growth: Growth, fresh: LinearPath) -> None:
        """Take in new inputs with weights of zero."""
        self.weight = nn.Parameter(grown_rows(self.weight, rows_of(growth.numbers)))
        self.table.grow(growth, fresh.table)

    def start(self, group: int, weight: Tensor, bias: Tensor) -> None:
        """Set a group's weights; see `TabularNetwork.set_linear`."""
        with torch.no_grad():
            split = self.weight.shape[1]
            self.weight[group] = weight[:split]
            self.table.vectors[group] = weight[split:]
            self.bias[group] = bias
