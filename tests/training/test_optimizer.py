"""Muon and AdamW together: what a step does, that groups are apart, and that it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.networks import NETWORKS, TabularNetwork
from steadynet.training.optimizer import FitOptimizer, Muon, orthogonalised

if TYPE_CHECKING:
    from tests.training.conftest import Problem

Make = Callable[..., "Problem"]


@settings(deadline=None, max_examples=40)
@given(
    groups=st.integers(1, 3),
    rows=st.integers(1, 24),
    columns=st.integers(1, 24),
    scale=st.sampled_from([1e-8, 1e-3, 1.0, 1e4]),
    seed=st.integers(0, 99),
)
def test_singular_values_become_alike(
    groups: int, rows: int, columns: int, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(groups, rows, columns, generator=generator) * scale
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    found = left.mT @ orthogonalised(matrices) @ right.mT
    told = values > 0.05 * values.max()  # far smaller ones need more rounds
    diagonal = torch.diagonal(found, dim1=1, dim2=2)[told]
    assert bool((diagonal > 0.3).all())
    assert bool((diagonal < 1.4).all())
    assert torch.allclose(found, torch.diag_embed(torch.diagonal(found, dim1=1, dim2=2)), atol=0.02)


def test_a_zero_gradient_moves_nothing() -> None:
    parameter = torch.nn.Parameter(torch.ones(2, 3, 4))
    optimizer = Muon([{"params": [parameter]}], lr=0.1)
    parameter.grad = torch.zeros(2, 3, 4)
    optimizer.step()
    assert torch.equal(parameter.detach(), torch.ones(2, 3, 4))


def test_each_group_is_stepped_on_its_own() -> None:
    gradients = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))

    def stepped(gradient: torch.Tensor) -> torch.Tensor:
        parameter = torch.nn.Parameter(torch.zeros_like(gradient))
        optimizer = Muon([{"params": [parameter]}], lr=0.1)
        parameter.grad = gradient
        optimizer.step()
        return parameter.detach()

    both = stepped(gradients)
    alone = torch.cat([stepped(gradients[:1]), stepped(gradients[1:] * 100)])
    assert torch.allclose(both, alone, atol=1e-5)


def test_decay_shrinks_what_it_shall() -> None:
    parameter = torch.nn.Parameter(torch.ones(1, 2, 2))
    optimizer = Muon([{"params": [parameter], "weight_decay": 0.5}], lr=0.1)
    parameter.grad = torch.zeros(1, 2, 2)
    optimizer.step()
    assert torch.allclose(parameter.detach(), torch.full((1, 2, 2), 0.95))


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_it_goes_on_as_if_it_had_not_been_saved(problem: Make, name: str) -> None:
    made = problem("binary", groups=2)

    def run(restart: bool) -> list[torch.Tensor]:
        network = made.network(name)
        optimizer = FitOptimizer(network, 0.01, 0.1)
        for step in range(6):
            if restart and step == 3:
                held = optimizer.tensors()
                optimizer = FitOptimizer(network, 0.01, 0.1)
                optimizer.restore(held)
            _step(network, optimizer, step)
        return [parameter.detach() for parameter in network.parameters()]

    for one, other in zip(run(restart=False), run(restart=True), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_parameter_is_stepped_once(problem: Make, name: str) -> None:
    network = problem("regression").network(name)
    groups = network.parameter_groups()
    stepped = [id(parameter) for group in groups for parameter in group.parameters]
    assert sorted(stepped) == sorted(id(parameter) for parameter in network.parameters())
    for group in groups:
        assert not group.matrices or all(parameter.dim() == 3 for parameter in group.parameters)


def _step(network: TabularNetwork, optimizer: FitOptimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer.set_rate(0.01)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    optimizer.zero_grad()
