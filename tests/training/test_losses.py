"""Every loss estimates what it says, in torch, in the linear start and in the trees."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.export.blend import average_members
from steadynet.spec.losses import HUBER_DELTA, LOSSES, Loss, choose_loss, losses_for
from steadynet.training.comparing import held_losses
from steadynet.training.data import TargetCode, encode_for_fit
from steadynet.training.holding import predict_grouped
from steadynet.training.linear import start_as_linear
from steadynet.training.loop import Fit
from steadynet.training.objective import fit_loss, log_probabilities, row_losses

if TYPE_CHECKING:
    from tests.training.conftest import Problem

Make = Callable[..., "Problem"]
NUMBERS = losses_for("regression")
ORDERED = TargetCode("multiclass", 4, 4, 0.0, 1.0, (1.0,) * 4, Loss(name="ordinal"))


def loss_of(name: Any, **more: Any) -> Loss:
    """Return a loss with its usual parameter."""
    task = LOSSES[name].tasks[-1]
    return choose_loss(name, task, ordered=True, quantile=0.9 if name == "quantile" else None)


def best_constant(target: np.ndarray, loss: Loss) -> float:
    """Return the constant prediction of least mean loss, by looking at many."""
    code = encode_for_fit(target, "regression", 0, np.arange(len(target)), loss=loss)
    answers = np.linspace(-4, 4, 8001)
    coded = torch.from_numpy(code.encode(target))
    losses = [
        float(row_losses(torch.full((len(target), 1), answer), coded, code).mean())
        for answer in answers
    ]
    return float(code.decode(answers[[int(np.argmin(losses))]])[0])


@pytest.mark.parametrize("name", NUMBERS)
def test_the_best_constant_is_what_the_loss_is_said_to_predict(name: str) -> None:
    random = np.random.default_rng(0)
    target = random.gamma(2.0, 3.0, 401).round()
    found = best_constant(target, loss_of(name))
    huber = target.copy()
    for _ in range(50):  # the mean of errors cut at the threshold is 0
        unit = float(np.subtract(*np.quantile(target, [0.75, 0.25]))) / 1.349
        middle = huber.mean()
        huber = middle + np.clip(target - middle, -HUBER_DELTA * unit, HUBER_DELTA * unit)
    wanted = {
        "squared": target.mean(),
        "absolute": np.median(target),
        "quantile": np.quantile(target, 0.9),
        "poisson": target.mean(),
        "huber": huber.mean(),
    }[name]
    assert found == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("name", ["log_loss", "ordinal"])
@settings(max_examples=30, deadline=None)
@given(weights=st.lists(st.floats(0.05, 1.0), min_size=4, max_size=4), seed=st.integers(0, 99))
def test_no_other_probabilities_lose_less_than_the_true_ones(
    name: Any, weights: list[float], seed: int
) -> None:
    truth = torch.tensor(weights, dtype=torch.float64)
    truth = truth / truth.sum()
    other = torch.softmax(torch.randn(4, generator=torch.Generator().manual_seed(seed)), 0).double()
    code = TargetCode("multiclass", 4, 4, 0.0, 1.0, (1.0,) * 4, Loss(name=name))
    classes = torch.arange(4)

    def expected(answer: torch.Tensor) -> float:
        return float(row_losses(answer.expand(4, 4), classes, code) @ truth)

    assert expected(truth) <= expected(other) + 1e-9


def test_an_ordinal_loss_grows_with_the_distance() -> None:
    answer = torch.tensor([[0.94, 0.02, 0.02, 0.02]])
    losses = [float(row_losses(answer, torch.tensor([c]), ORDERED)) for c in range(4)]
    assert losses == sorted(losses)
    plain = TargetCode("multiclass", 4, 4, 0.0, 1.0, (1.0,) * 4)
    assert float(row_losses(answer, torch.tensor([1]), plain)) == pytest.approx(
        float(row_losses(answer, torch.tensor([3]), plain))
    )


def test_focal_loss_counts_what_is_answered_well_less() -> None:
    focal = TargetCode("binary", 1, 2, 0.0, 1.0, (1.0, 1.0), Loss(name="focal", parameter=2.0))
    answers, target = torch.tensor([[0.1, 0.9], [0.6, 0.4]]), torch.tensor([1, 1])
    found = row_losses(answers, target, focal)
    wanted = [-(0.1**2) * np.log(0.9), -(0.6**2) * np.log(0.4)]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", list(LOSSES))
def test_members_blend_and_rows_lose_the_same(name: Any) -> None:
    """One member's fit loss is the held loss of its answer, in torch and through the blend."""
    random = np.random.default_rng(1)
    loss = loss_of(name)
    task = LOSSES[name].tasks[-1]
    outputs = torch.from_numpy(random.normal(size=(1, 60, 1, 3 if task != "regression" else 1)))
    target = random.integers(0, 3, 60)
    code = encode_for_fit(target, task, 3, np.arange(60), loss=loss)
    raw = torch.from_numpy(code.encode(target) if task == "regression" else target)
    fitted = float(fit_loss(outputs, raw[None], code))
    answer = average_members(outputs[0].numpy(), classes=task != "regression")
    assert float(held_losses(answer, target, code).mean()) == pytest.approx(fitted, rel=1e-6)


def test_one_logit_is_two_classes() -> None:
    outputs = torch.tensor([[1.5], [-0.3]])
    wanted = torch.log_softmax(torch.cat([torch.zeros_like(outputs), outputs], -1), -1)
    torch.testing.assert_close(log_probabilities(outputs), wanted)


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_encoded_is_decoded(name: Any) -> None:
    target = np.array([0.0, 1.0, 2.0, 7.0, 30.0])
    code = encode_for_fit(target, "regression", 0, np.arange(5), loss=loss_of(name))
    np.testing.assert_allclose(code.decode_target(code.encode(target)), target, atol=1e-9)


def test_outliers_do_not_decide_the_units_of_a_robust_loss() -> None:
    target = np.r_[np.random.default_rng(0).normal(5, 1, 200), 1e6]
    code = encode_for_fit(target, "regression", 0, np.arange(201), loss=loss_of("absolute"))
    assert code.center == pytest.approx(5, abs=0.3)
    assert code.scale == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("name", ["absolute", "huber", "quantile", "poisson"])
def test_the_linear_start_and_the_fit_reach_the_loss(problem: Make, name: Any) -> None:
    """Noise is skewed, so that every loss has an answer of its own."""
    made = problem("regression", rows=800, loss=loss_of(name))
    network = made.network()
    flat = float(held_losses(np.zeros((120, 1)), held_of(made), made.data.code).mean())
    start_as_linear(network, made.data, made.folds, (1.0,))
    start = loss_now(made, network)
    assert start < flat
    Fit(network, made.data, made.folds, made.plan).run()
    assert loss_now(made, network) <= start


def held_of(made: Problem) -> np.ndarray:
    """Return the targets of the held rows."""
    held: np.ndarray = made.raw_target[made.folds.held.ravel()]
    return held


def loss_now(made: Problem, network: Any) -> float:
    """Return the held-out loss."""
    rows = torch.from_numpy(made.folds.held)
    outputs = predict_grouped(network, made.data, rows).flatten(0, 1).numpy()
    answer = average_members(outputs, classes=False)
    return float(held_losses(answer, held_of(made), made.data.code).mean())
