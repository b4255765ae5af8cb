"""The components of a blend: networks and boosted trees that are fitted on the same folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from steadynet.export.network import export_network
from steadynet.export.nodes import Graph
from steadynet.features.run import Tensors
from steadynet.networks import TabularNetwork
from steadynet.table.layout import FeatureLayout
from steadynet.training.comparing import HeldTruth
from steadynet.training.data import Folds, TargetCode, TrainingData
from steadynet.training.joint import FitTarget
from steadynet.training.loop import FitResult
from steadynet.training.plan import FitPlan

CHUNK_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What every component of a blend is fitted on."""

    tensors: Tensors
    targets: tuple[FitTarget, ...]
    """The main target first."""
    layout: FeatureLayout
    folds: Folds
    data: TrainingData
    weights: npt.NDArray[np.float64] | None = None
    """What each row counts (N,), 1 on average; None: all the same."""
    earlier: tuple[Folds, ...] = ()
    """Windows of one group, the oldest first, whose held rows have answers too (`windows`)."""

    @property
    def held_weights(self) -> npt.NDArray[np.float64] | None:
        """The weights of the held rows, 1 on average."""
        if self.weights is None:
            return None
        held = self.weights[self.held_rows]
        return held / max(float(held.mean()), 1e-12)

    @property
    def code(self) -> TargetCode:
        """The main target's code."""
        return self.targets[0].code

    @property
    def outputs(self) -> int:
        """Outputs of a member for all targets."""
        return sum(target.code.outputs for target in self.targets)

    def held_truth(self, target: FitTarget) -> HeldTruth:
        """Return the held rows that have a value of a target, and what answers are judged by."""
        rows, weights = self.held_rows, self.held_weights
        known = target.truth.known[rows]
        own = None if weights is None else weights[known]
        return HeldTruth(
            target=target.truth.values[rows][known],
            code=target.code,
            weights=None if own is None else own / max(float(own.mean()), 1e-12),
        )

    @property
    def held_rows(self) -> npt.NDArray[np.int64]:
        """Rows that a group was held to, each once; what held answers are answers to."""
        return self.held.ravel()

    @property
    def held(self) -> npt.NDArray[np.int64]:
        """The same rows by group (G, m)."""
        return np.concatenate([*(window.held for window in self.earlier), self.folds.held], axis=1)


class Component(Protocol):
    """A fitted part of a blend."""

    @property
    def name(self) -> str:
        """Its name in the graph."""
        ...

    @property
    def members(self) -> int:
        """How many members its answer is the mean of."""
        ...

    @property
    def outputs(self) -> int:
        """Outputs of a member, for all targets."""
        ...

    def outputs_of(self, tensors: Tensors) -> npt.NDArray[np.float32]:
        """Return the members' outputs (N, M, C)."""
        ...

    def export(self) -> Graph:
        """Return the graph from the feature graph's tensors to `steadynet/<name>/members`."""
        ...

    def summary(self) -> str:
        """Say in words what this is."""
        ...


class FittedNetwork:
    """A network of a blend, on the CPU."""

    def __init__(
        self, name: str, kind: str, network: TabularNetwork, plan: FitPlan, result: FitResult
    ) -> None:
        self.name = name
        self.kind = kind
        self.network = network
        self.plan = plan
        self.result = result

    @property
    def members(self) -> int:
        """Members of all groups."""
        return self.network.groups * self.network.members

    @property
    def outputs(self) -> int:
        """Outputs of a member."""
        return self.network.outputs

    def outputs_of(self, tensors: Tensors) -> npt.NDArray[np.float32]:
        """Return the members' outputs (N, M, C), by torch."""
        self.network.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(tensors.numbers), CHUNK_ROWS):
                part = slice(start, start + CHUNK_ROWS)
                numbers = torch.from_numpy(tensors.numbers[part])
                categories = torch.from_numpy(tensors.categories[part])
                parts.append(self.network(numbers, categories).numpy())
        return np.concatenate(parts)

    def export(self) -> Graph:
        """Return the graph to `steadynet/<name>/members`."""
        return export_network(self.network, self.network.layout, self.name)

    def state(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        return dict(self.network.state_dict())

    def summary(self) -> str:
        """Say in words what this is."""
        size = self.plan.size
        weights = sum(parameter.numel() for parameter in self.network.parameters())
        return (
            f"{self.kind}: {size.depth} layers of {size.width}, {self.network.members} members in "
            f"each of {self.network.groups} groups, {weights} weights"
        )
