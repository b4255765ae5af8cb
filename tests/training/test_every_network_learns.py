"""Every network of the table learns what a line cannot say, and the same from the same seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from steadynet.networks import NETWORKS, TabularNetwork
from steadynet.training.loop import Fit, FitResult

if TYPE_CHECKING:
    from tests.training.conftest import Problem

Make = Callable[..., "Problem"]
NOISE = 0.1

every_network = pytest.mark.parametrize("name", sorted(NETWORKS))


def waves(problem: Make, epochs: int) -> Problem:
    """Return a problem whose target waves over a number and turns with a category."""
    made = problem("regression", rows=900, epochs=epochs, patience=epochs, learning_rate=1e-2)
    random = np.random.default_rng(5)
    turn = torch.where(made.data.categories[:, 0] % 2 == 0, 1.0, -1.0)
    target = turn * torch.sin(2.5 * made.data.numbers[:, 0])
    noise = torch.from_numpy(random.normal(size=900).astype(np.float32))
    return replace(made, data=replace(made.data, target=target + NOISE * noise))


def fitted(name: str, made: Problem, seed: int = 0) -> tuple[TabularNetwork, FitResult]:
    """Fit a network from its random start."""
    network = made.network(name, seed)
    result = Fit(network, made.data, made.folds, made.plan).run()
    return network, result


@every_network
def test_the_held_out_loss_falls_far_below_that_of_the_mean(name: str, problem: Make) -> None:
    made = waves(problem, epochs=40)
    _, result = fitted(name, made)
    held = made.data.target[torch.from_numpy(made.folds.held[0])]
    best = min(record.held_loss for record in result.history)
    assert best < 0.35 * float(held.var())


@every_network
def test_a_fit_repeats_itself_from_its_seed(name: str, problem: Make) -> None:
    made = waves(problem, epochs=2)
    first, second, other = (fitted(name, made, seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())
