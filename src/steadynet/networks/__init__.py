"""The networks, as a literal table. To add one: a file, a line in `NETWORKS`, and its exporter
in `steadynet.export.network.EXPORTERS`; the conformance tests then run over it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from steadynet.errors import SpecError
from steadynet.networks.base import NetworkSize, ParameterGroup, TabularNetwork
from steadynet.networks.ensemble import Ensemble
from steadynet.networks.ft_transformer import FtTransformer
from steadynet.networks.mlp import Perceptron
from steadynet.networks.moe import MixtureOfExperts
from steadynet.networks.realmlp import RealMlp
from steadynet.networks.resnet import ResidualNetwork
from steadynet.networks.tabm import TabM
from steadynet.table.layout import FeatureLayout

__all__ = [
    "NETWORKS",
    "NetworkSize",
    "ParameterGroup",
    "TabularNetwork",
    "build_network",
    "check_network",
]


class NetworkClass(Protocol):
    """What stands in `NETWORKS`: anything that makes a network from these arguments."""

    def __call__(
        self,
        layout: FeatureLayout,
        outputs: int,
        size: NetworkSize,
        numbers: npt.NDArray[np.float32],
        seed: int,
    ) -> TabularNetwork:
        """Make a network with weights drawn from `seed`."""
        ...


NETWORKS: Mapping[str, NetworkClass] = MappingProxyType(
    {
        "ensemble": Ensemble,
        "tabm": TabM,
        "realmlp": RealMlp,
        "resnet": ResidualNetwork,
        "ft_transformer": FtTransformer,
        "moe": MixtureOfExperts,
        "mlp": Perceptron,
    }
)


def build_network(
    name: str,
    layout: FeatureLayout,
    outputs: int,
    size: NetworkSize,
    *,
    numbers: npt.NDArray[np.float32],
    seed: int,
) -> TabularNetwork:
    """Make a network of `NETWORKS` with new weights.

    `numbers` (N, D) are training rows from which bins are taken; `outputs` is 1 for a binary or
    regression target, else the number of classes. Raises `SpecError` for an unknown name.
    """
    check_network(name, "training.network")
    return NETWORKS[name](layout, outputs, size, numbers, seed)


def check_network(name: str, key: str) -> None:
    """Raise `SpecError` where the spec's `key` names a network that there is not."""
    if name not in NETWORKS:
        raise SpecError(
            f"{key} names no network", expected=" or ".join(sorted(NETWORKS)), got=repr(name)
        )
