"""Muon and AdamW together: what a step does, that groups are apart, and that it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.networks import NETWORKS, TabularNetwork
from steadynet.training.optimizer import (
    COEFFICIENTS,
    ROUNDS,
    AdamW,
    FitOptimizer,
    Muon,
    Settings,
    orthogonalised,
)

if TYPE_CHECKING:
    from tests.training.conftest import Problem

Make = Callable[..., "Problem"]


def settings_of(*parameters: torch.nn.Parameter, decay: float = 0.0) -> Settings:
    """Return parameters that are stepped alike, at a rate of 0.1."""
    return {"params": list(parameters), "lr": 0.1, "weight_decay": decay, "rate": 1.0}


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


@pytest.mark.parametrize("shape", [(2, 60, 20), (2, 20, 60), (1, 40, 20), (1, 30, 1)])
@pytest.mark.parametrize("rank", [1, 20])
def test_long_matrices_come_out_as_by_the_rounds_themselves(
    shape: tuple[int, int, int], rank: int
) -> None:
    generator = torch.Generator().manual_seed(rank)
    groups, rows, columns = shape
    left = torch.randn(groups, rows, rank, generator=generator)
    matrices = left @ torch.randn(groups, rank, columns, generator=generator)
    first, second, third = COEFFICIENTS
    wanted = matrices.double()
    wanted = wanted / wanted.norm(dim=(1, 2), keepdim=True)
    for _ in range(ROUNDS):
        square = wanted @ wanted.mT
        wanted = first * wanted + (second * square + third * square @ square) @ wanted
    assert torch.allclose(orthogonalised(matrices).double(), wanted, atol=2e-4)
    assert not bool(orthogonalised(torch.zeros(shape)).any())


def test_coarse_products_point_the_same_way() -> None:
    matrices = torch.randn(2, 40, 24, generator=torch.Generator().manual_seed(1))
    fine, coarse = orthogonalised(matrices), orthogonalised(matrices, coarse=True)
    assert coarse.dtype == torch.float32
    cosine = torch.nn.functional.cosine_similarity(fine.flatten(1), coarse.flatten(1), dim=1)
    assert bool((cosine > 0.99).all())


def test_matrices_of_one_shape_are_stepped_as_each_alone() -> None:
    gradients = torch.randn(3, 2, 5, 7, generator=torch.Generator().manual_seed(0))

    def stepped(chosen: torch.Tensor) -> list[torch.Tensor]:
        parameters = [torch.nn.Parameter(torch.zeros(2, 5, 7)) for _ in chosen]
        optimizer = Muon([settings_of(*parameters)])
        for parameter, gradient in zip(parameters, chosen, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
        return [parameter.detach() for parameter in parameters]

    alone = [stepped(gradient[None])[0] for gradient in gradients]
    for one, other in zip(stepped(gradients), alone, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_without_muon_all_is_stepped_by_adamw(problem: Make) -> None:
    network = problem("binary").network()
    optimizer = FitOptimizer(network, 0.01, 0.1, kind="adamw")
    _step(network, optimizer, 0)
    assert {key.split("/")[0] for key in optimizer.tensors()} == {"adamw"}
    steps = [key for key in optimizer.tensors() if key.endswith("/step")]
    assert len(steps) == sum(parameter.numel() > 0 for parameter in network.parameters())


def test_adamw_steps_as_torchs_own() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(3, 4, generator=generator))
    theirs = torch.nn.Parameter(ours.detach().clone())
    one = AdamW([settings_of(ours, decay=0.3)])
    other = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.3, fused=True)
    for _ in range(5):
        gradient = torch.randn(3, 4, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        one.step()
        other.step()
    assert torch.equal(ours.detach(), theirs.detach())


def test_a_zero_gradient_moves_nothing() -> None:
    parameter = torch.nn.Parameter(torch.ones(2, 3, 4))
    optimizer = Muon([settings_of(parameter)])
    parameter.grad = torch.zeros(2, 3, 4)
    optimizer.step()
    assert torch.equal(parameter.detach(), torch.ones(2, 3, 4))


def test_each_group_is_stepped_on_its_own() -> None:
    gradients = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))

    def stepped(gradient: torch.Tensor) -> torch.Tensor:
        parameter = torch.nn.Parameter(torch.zeros_like(gradient))
        optimizer = Muon([settings_of(parameter)])
        parameter.grad = gradient
        optimizer.step()
        return parameter.detach()

    both = stepped(gradients)
    alone = torch.cat([stepped(gradients[:1]), stepped(gradients[1:] * 100)])
    assert torch.allclose(both, alone, atol=1e-5)


def test_decay_shrinks_what_it_shall() -> None:
    parameter = torch.nn.Parameter(torch.ones(1, 2, 2))
    optimizer = Muon([settings_of(parameter, decay=0.5)])
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
