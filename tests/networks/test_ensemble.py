"""What the ensemble does that other networks need not."""

from __future__ import annotations

import numpy as np
import torch

from steadynet.networks import NetworkSize, build_network
from steadynet.networks.ensemble import Ensemble
from steadynet.table.layout import FeatureLayout

LAYOUT = FeatureLayout(
    numbers=("x", "y"), number_sources=("x", "y"), categories=("c",), cardinalities=(4,)
)


def ensemble(dropout: float = 0.0, members: int = 4) -> Ensemble:
    """Return a new ensemble of one group."""
    numbers = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    size = NetworkSize(32, 2, members, 1, dropout)
    network = build_network("ensemble", LAYOUT, 1, size, numbers=numbers, seed=0)
    assert isinstance(network, Ensemble)
    return network


def inputs(rows: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Return numbers (1, B, 2) and categories (1, B, 1)."""
    generator = torch.Generator().manual_seed(1)
    numbers = torch.randn(1, rows, 2, generator=generator)
    return numbers, torch.randint(0, 4, (1, rows, 1), generator=generator)


def test_nothing_is_dropped_in_an_answer() -> None:
    network = ensemble(dropout=0.5).eval()
    with torch.no_grad():
        network.heads.add_(0.1)
    assert torch.equal(network.grouped(*inputs()), network.grouped(*inputs()))
    network.train()
    assert not torch.equal(network.grouped(*inputs()), network.grouped(*inputs()))


def test_it_begins_as_its_linear_path() -> None:
    network = ensemble().eval()
    weight = torch.tensor([[1.0], [-2.0], [0.0], [0.5], [1.5], [-1.0]])
    network.set_linear(0, weight, torch.tensor([0.25]))
    numbers, categories = inputs()
    found = network.grouped(numbers, categories)
    expected = numbers[0] @ weight[:2] + weight[2:][categories[0, :, 0]] + 0.25
    for member in range(4):
        torch.testing.assert_close(found[0, :, member], expected)


def test_members_part_in_the_first_layer() -> None:
    network = ensemble().eval()
    with torch.no_grad():
        network.heads.add_(1.0)
    found = network.grouped(*inputs())[0, :, :, 0]
    spread = found.std(dim=1)
    assert bool((spread > 1e-3).all())


def test_decay_leaves_scales_biases_heads_and_the_linear_path_alone() -> None:
    network = ensemble()
    decayed = {
        id(parameter)
        for group in network.parameter_groups()
        if group.decays
        for parameter in group.parameters
    }
    names = {name for name, value in network.named_parameters() if id(value) in decayed}
    assert names == {"matrices.0", "matrices.1", "embedding.vectors"}
