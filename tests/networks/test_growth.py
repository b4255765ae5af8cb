"""Every network takes in new categories, and new columns, without changing an answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steadynet.errors import UserError
from steadynet.networks import NETWORKS, NetworkSize, TabularNetwork, build_network
from steadynet.networks.growth import growth_between, load_exactly
from steadynet.table.layout import FeatureLayout

SIZE = NetworkSize(8, 2, 3, 2, 0.0)
BEFORE = FeatureLayout(
    numbers=("a", "b"), number_sources=("a", "b"), categories=("k", "l"), cardinalities=(3, 4)
)
MORE_CATEGORIES = FeatureLayout(
    numbers=("b", "a"), number_sources=("b", "a"), categories=("l", "k"), cardinalities=(4, 6)
)
MORE_COLUMNS = FeatureLayout(
    numbers=("new", "b", "a"),
    number_sources=("new", "b", "a"),
    categories=("l", "m", "k"),
    cardinalities=(4, 2, 6),
)


def network_of(name: str, layout: FeatureLayout, numbers: np.ndarray, seed: int) -> TabularNetwork:
    """Return a network whose weights are shaken, so that no head is zero."""
    network = build_network(name, layout, 2, SIZE, numbers=numbers, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return network.eval()


def grown(
    name: str, old: TabularNetwork, now: FeatureLayout, numbers: np.ndarray
) -> TabularNetwork:
    """Return the network of a layout that goes on from an old one, as a training makes it."""
    network = build_network(name, now, 2, SIZE, numbers=numbers, seed=5)
    load_exactly(network, old.state_dict())
    with torch.no_grad():
        network.grow(
            growth_between(BEFORE, now),
            build_network(name, now, 2, SIZE, numbers=numbers, seed=6),
        )
    return network.eval()


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("now", [MORE_CATEGORIES, MORE_COLUMNS], ids=["categories", "columns"])
def test_no_answer_changes(name: str, now: FeatureLayout) -> None:
    random = np.random.default_rng(0)
    numbers = random.normal(size=(60, 3)).astype(np.float32)  # new, b, a
    old = network_of(name, BEFORE, numbers[:, [2, 1]], seed=1)
    wide = numbers[:, 3 - len(now.numbers) :]
    if name == "ft_transformer" and now is MORE_COLUMNS:
        with pytest.raises(UserError, match="cannot take in new columns"):
            grown(name, old, now, wide)
        return
    network = grown(name, old, now, wide)
    known = {
        "k": random.integers(0, 3, 60),
        "l": random.integers(0, 4, 60),
        "m": random.integers(0, 2, 60),
    }

    def answers(of: TabularNetwork, cells: np.ndarray, layout: FeatureLayout) -> torch.Tensor:
        entries = np.stack([known[column] for column in layout.categories], axis=1)
        with torch.inference_mode():
            found: torch.Tensor = of(torch.from_numpy(cells), torch.from_numpy(entries))
        return found

    before = answers(old, np.ascontiguousarray(numbers[:, [2, 1]]), BEFORE)
    after = answers(network, np.ascontiguousarray(wide), now)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)

    # A new category answers as its column's unknown one (entry 1) did.
    known["k"] = np.full(60, 5)
    as_new = answers(network, np.ascontiguousarray(wide), now)
    known["k"] = np.full(60, 1)
    as_unknown = answers(old, np.ascontiguousarray(numbers[:, [2, 1]]), BEFORE)
    torch.testing.assert_close(as_new, as_unknown, rtol=1e-5, atol=1e-5)

    # What is new can be learnt: it has a gradient.
    network.train()
    entries = np.stack([known[column] for column in now.categories], axis=1)
    outputs = network(torch.from_numpy(np.ascontiguousarray(wide)), torch.from_numpy(entries))
    torch.autograd.backward(outputs.square().sum())
    assert all(
        parameter.grad is not None and bool(torch.isfinite(parameter.grad).all())
        for parameter in network.parameters()
    )
