"""How a network's inputs grew since it was fitted, and what its weights become."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from steadynet.errors import TrainingError
from steadynet.table.layout import FeatureLayout

NEW = -1
UNKNOWN = 1
"""The entry of a column's unknown categories."""


@dataclass(frozen=True)
class Growth:
    """Where each input of now stood before; `NEW` where it did not."""

    numbers: tuple[int, ...]
    """Per number of now, its place before."""
    categories: tuple[int, ...]
    """Per category column of now, its place before."""
    entries: tuple[int, ...]
    """Per entry of now (all category columns stacked), the entry before that it starts as: itself,
    for a new category its column's unknown one; `NEW` in a new column."""

    @property
    def numbers_before(self) -> int:
        """Numbers that there were; none of them is gone."""
        return sum(place != NEW for place in self.numbers)

    def embedded(self, start: int, size: int) -> list[int]:
        """Return per value of all category vectors its place before, or `NEW`.

        Vectors have `size` values; those of before stood from the place `start` on.
        """
        return [
            start + place * size + part if place != NEW else NEW
            for place in self.categories
            for part in range(size)
        ]

    @classmethod
    def none(cls, layout: FeatureLayout) -> Growth:
        """Return the growth of a layout that stayed as it was."""
        return cls(
            tuple(range(len(layout.numbers))),
            tuple(range(len(layout.categories))),
            tuple(range(sum(layout.cardinalities))),
        )


def growth_between(before: FeatureLayout, now: FeatureLayout) -> Growth:
    """Return how `now` grew out of `before`. Entries of a column keep their places within it.

    Raises `TrainingError` where something of `before` is gone.
    """
    gone = [name for name in before.numbers if name not in now.numbers]
    gone += [name for name in before.categories if name not in now.categories]
    if gone:
        raise TrainingError("features are gone since the parent", got=", ".join(gone[:5]))
    offsets = np.concatenate([[0], np.cumsum(before.cardinalities)]).tolist()
    entries: list[int] = []
    for name, count in zip(now.categories, now.cardinalities, strict=True):
        if name not in before.categories:
            entries += [NEW] * count
            continue
        place = before.categories.index(name)
        start, known = offsets[place], before.cardinalities[place]
        entries += [start + (entry if entry < known else UNKNOWN) for entry in range(count)]
    return Growth(
        tuple(_place(name, before.numbers) for name in now.numbers),
        tuple(_place(name, before.categories) for name in now.categories),
        tuple(entries),
    )


def _place(name: str, names: tuple[str, ...]) -> int:
    return names.index(name) if name in names else NEW


def load_exactly(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Put weights into a network, also where they have other shapes than its own.

    Raises `TrainingError` where the names differ.
    """
    own = network.state_dict()
    if set(own) != set(state):
        raise TrainingError(
            "the weights are of another network",
            got=", ".join(sorted(set(own) ^ set(state))[:5]),
        )
    for name, value in state.items():
        path, _, leaf = name.rpartition(".")
        module = network.get_submodule(path)
        held = value.detach().clone()
        if isinstance(module, nn.ParameterList):
            module[int(leaf)] = nn.Parameter(held)
        elif leaf in dict(module.named_parameters(recurse=False)):
            module.register_parameter(leaf, nn.Parameter(held))
        else:
            module.register_buffer(leaf, held)


def grown_rows(before: Tensor, places: Tensor, fresh: Tensor | None = None) -> Tensor:
    """Return (G, n, ·) whose row i is row `places[i]` of `before` (G, m, ·).

    Rows with the place `NEW` are those of `fresh` (G, n, ·), or zero.
    """
    shape = (before.shape[0], len(places), *before.shape[2:])
    grown = before.new_zeros(shape) if fresh is None else fresh.clone()
    known = places != NEW
    grown[:, known] = before[:, places[known]]
    return grown


def rows_of(places: tuple[int, ...]) -> Tensor:
    """Return places as an index."""
    return torch.tensor(places, dtype=torch.int64)
