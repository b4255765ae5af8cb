"""The fit: learns, repeats, recovers, stops, resumes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from steadynet.errors import NotFinite
from steadynet.networks import TabularNetwork
from steadynet.training import checkpoint as saved
from steadynet.training import loop
from steadynet.training.holding import held_metric, predict_grouped
from steadynet.training.linear import start_as_linear
from steadynet.training.loop import Fit, FitResult, clip_by_group
from steadynet.training.objective import average, held_loss
from steadynet.training.progress import EpochEnded, Event, Resumed, Retried

if TYPE_CHECKING:
    from tests.training.conftest import Problem

Make = Callable[..., "Problem"]


class Recorder:
    """Keeps every event; `react` may do something at each."""

    def __init__(self, react: Callable[[Event], None] = lambda _: None) -> None:
        self.events: list[Event] = []
        self._react = react

    def on(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)
        self._react(event)

    def of(self, kind: type[Event]) -> list[Event]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


class Killed(BaseException):
    """Ends a fit from within, as nothing but a kill would."""


def fitted(
    problem: Problem, folder: Path | None = None, recorder: Recorder | None = None
) -> tuple[TabularNetwork, FitResult]:
    """Fit a new network."""
    torch.manual_seed(123)
    network = problem.network()
    start_as_linear(network, problem.data, problem.folds, problem.plan.linear_strengths)
    fit = Fit(network, problem.data, problem.folds, problem.plan, progress=recorder)
    return network, fit.run(folder, identity="one")


def weights(network: TabularNetwork) -> torch.Tensor:
    """Return all weights as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("groups", [1, 3])
def test_learns_more_than_the_linear_start(problem: Make, task: str, groups: int) -> None:
    made = problem(task, rows=900, groups=groups, epochs=20)
    _, result = fitted(made)
    network = made.network()
    start_as_linear(network, made.data, made.folds, made.plan.linear_strengths)
    rows = torch.from_numpy(made.folds.held)
    outputs = predict_grouped(network, made.data, rows)
    answers = average(outputs, made.data.code)
    linear = held_loss(answers, made.data.target[rows], made.data.code).mean().item()
    assert min(record.held_loss for record in result.history) < 0.95 * linear
    assert all(epoch > 0 for epoch in result.best_epochs)


def test_the_same_twice(problem: Make) -> None:
    first, second = (fitted(problem())[0] for _ in range(2))
    assert torch.equal(weights(first), weights(second))


def test_another_seed_gives_another_network(problem: Make) -> None:
    made = problem()
    other = problem(seed=1)
    other.data, other.folds = made.data, made.folds
    assert not torch.equal(weights(fitted(made)[0]), weights(fitted(other)[0]))


def test_torchs_global_state_has_no_say(problem: Make) -> None:
    made = problem()
    first, _ = fitted(made)
    torch.rand(17)
    second, _ = fitted(made)
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("groups", [1, 3])
def test_a_fit_that_was_broken_off_goes_on_to_the_same_end(
    problem: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: int
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    made = problem(groups=groups)
    whole, result = fitted(made)

    def kill(event: Event) -> None:
        if isinstance(event, EpochEnded) and event.epoch == 5:
            raise Killed

    with pytest.raises(Killed):
        fitted(made, tmp_path, Recorder(kill))
    recorder = Recorder()
    resumed, again = fitted(made, tmp_path, recorder)
    assert recorder.of(Resumed) == [Resumed(epoch=4)]
    assert len(recorder.of(EpochEnded)) == made.plan.epochs - 4
    assert torch.equal(weights(whole), weights(resumed))
    assert again.history == result.history
    assert again.best_epochs == result.best_epochs


def test_a_checkpoint_of_another_run_is_not_touched(
    problem: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    fitted(problem(epochs=2), tmp_path)
    assert saved.load_checkpoint(tmp_path, "one") is not None
    assert saved.load_checkpoint(tmp_path, "two") is None


@pytest.mark.parametrize("damage", [lambda data: data[:-7], lambda _: b"", lambda _: b"\xff" * 99])
def test_a_damaged_checkpoint_counts_as_none(
    problem: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    made = problem(epochs=2)
    first, _ = fitted(made, tmp_path)
    path = tmp_path / saved.NAME
    path.write_bytes(damage(path.read_bytes()))
    assert saved.load_checkpoint(tmp_path, "one") is None
    again, _ = fitted(made, tmp_path)
    assert torch.equal(weights(first), weights(again))


def test_a_loss_that_is_not_finite_is_taken_back_and_the_step_lowered(problem: Make) -> None:
    # Steps of 1e19 overflow within an epoch; a tenth of a tenth, … of it still does, at first.
    made = problem("regression", learning_rate=1e20, gradient_clip=1e9, epochs=3)
    recorder = Recorder()
    with pytest.raises(NotFinite, match=r"not finite in 5 attempts at epoch 1.*learning_rate"):
        fitted(made, recorder=recorder)
    retried = [event for event in recorder.events if isinstance(event, Retried)]
    assert [event.retry for event in retried] == [1, 2, 3, 4]
    rates = [event.learning_rate for event in retried]
    assert rates == pytest.approx([1e19, 1e18, 1e17, 1e16])


def test_a_fit_that_recovers_ends_with_finite_weights_and_says_so(problem: Make) -> None:
    """An infinite weight is put into the network in the middle of epoch 3, once."""
    made = problem(epochs=6)
    network = made.network()
    start_as_linear(network, made.data, made.folds, made.plan.linear_strengths)
    recorder = Recorder()
    poisoned: list[int] = []

    def poison() -> bool:
        if len(recorder.of(EpochEnded)) == 2 and not poisoned and network.training:
            poisoned.append(1)
            with torch.no_grad():
                next(network.parameters()).view(-1)[0] = math.inf
        return False

    fit = Fit(network, made.data, made.folds, made.plan, progress=recorder, stop=poison)
    result = fit.run()
    assert poisoned
    assert result.retries == 1
    assert [record.epoch for record in result.history] == [1, 2, 3, 4, 5, 6]
    assert bool(torch.isfinite(weights(network)).all())
    assert result.history[2].learning_rate == pytest.approx(made.plan.learning_rate * 0.1)


def test_targets_beyond_float32_are_refused_at_once(problem: Make) -> None:
    made = problem("regression")
    made.data.target[5] = math.inf
    made.data.target[torch.from_numpy(made.folds.held[0])] = math.inf
    with pytest.raises(NotFinite, match="first loss is not finite"):
        Fit(made.network(), made.data, made.folds, made.plan)


def test_a_wish_to_stop_keeps_the_best_so_far(problem: Make) -> None:
    made = problem(epochs=50, patience=50)
    recorder = Recorder()
    network = made.network()
    fit = Fit(
        network,
        made.data,
        made.folds,
        made.plan,
        progress=recorder,
        stop=lambda: len(recorder.of(EpochEnded)) >= 3,
    )
    result = fit.run()
    assert result.ending == "stopped"
    assert len(result.history) in (3, 4)
    rows = torch.from_numpy(made.folds.held)
    answers = average(predict_grouped(network, made.data, rows), made.data.code)
    loss = held_loss(answers, made.data.target[rows], made.data.code).item()
    assert loss == pytest.approx(min(record.held_loss for record in result.history), abs=1e-6)


def test_stopping_before_the_first_step_keeps_the_start(problem: Make) -> None:
    made = problem()
    network = made.network()
    before = weights(network)
    result = Fit(network, made.data, made.folds, made.plan, stop=lambda: True).run()
    assert result.ending == "stopped"
    assert result.history == ()
    assert torch.equal(weights(network), before)


def test_a_time_limit_ends_the_fit(problem: Make) -> None:
    made = problem(epochs=100_000, patience=100_000)
    network = made.network()
    fit = Fit(network, made.data, made.folds, made.plan)
    result = fit.run(deadline=time.perf_counter() + 0.3)
    assert result.ending == "time"
    assert 0 < len(result.history) < 100_000
    last = result.history[-1].learning_rate
    assert last <= made.plan.learning_rate
    again = Fit(network, made.data, made.folds, made.plan).run(deadline=time.perf_counter())
    assert again.ending == "time"
    assert again.history == ()


def test_patience_ends_the_fit_and_the_best_epoch_is_kept(problem: Make) -> None:
    made = problem(rows=120, epochs=400, patience=3, learning_rate=0.02)
    network, result = fitted(made)
    assert result.ending == "converged"
    best = result.best_epochs[0]
    assert len(result.history) == best + 3
    rows = torch.from_numpy(made.folds.held)
    answers = average(predict_grouped(network, made.data, rows), made.data.code)
    loss = held_loss(answers, made.data.target[rows], made.data.code).item()
    if best > 0:
        assert loss == pytest.approx(result.history[best - 1].held_loss, abs=1e-6)
    assert all(record.held_loss >= loss - 1e-6 for record in result.history)


def test_steps_shrink_from_the_best_weights_where_nothing_gets_better(problem: Make) -> None:
    made = problem(rows=120, epochs=400, patience=8, learning_rate=0.02)
    _, result = fitted(made)
    best = max(result.best_epochs)
    rates = [record.learning_rate for record in result.history[best:]]
    cuts = [rates[place] / rates[place - 1] for place in range(1, len(rates))]
    assert [place + 1 for place, cut in enumerate(cuts) if cut < 0.5] == [4]
    assert min(cuts) == pytest.approx(loop.PLATEAU_CUT)


def test_progress_says_what_people_watch(problem: Make) -> None:
    recorder = Recorder()
    made = problem(epochs=3)
    fitted(made, recorder=recorder)
    events = [event for event in recorder.events if isinstance(event, EpochEnded)]
    assert [event.epoch for event in events] == [1, 2, 3]
    for event in events:
        assert event.epochs == 3
        assert event.metric == "auc"
        assert 0.5 < event.metric_value <= 1
        assert event.rows_per_s > 0
        assert event.seconds_left >= 0
    assert events[-1].seconds_left == 0


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_balanced_weights_leave_the_answers_calibrated(problem: Make, task: str) -> None:
    made = problem(task, rows=1500, balanced=True, epochs=15)
    network, _ = fitted(made)
    rows = torch.from_numpy(made.folds.held)
    answers = average(predict_grouped(network, made.data, rows), made.data.code)
    mean = answers[0].mean(0).numpy()
    target = made.raw_target[made.folds.held[0]]
    shares = np.bincount(target, minlength=len(mean)) / len(target)
    np.testing.assert_allclose(mean, shares, atol=0.06)


def test_the_watched_auc_is_scikit_learns(problem: Make) -> None:
    made = problem()
    target = made.data.target
    scores = torch.round(torch.rand(len(target), generator=torch.Generator().manual_seed(1)) * 9)
    found = held_metric(torch.stack([1 - scores, scores], dim=1), target, made.data)
    assert found == pytest.approx(roc_auc_score(target.numpy(), scores.numpy()))


def test_gradients_are_clipped_for_each_group_alone() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(2, 2, 2))]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
        parameter.grad[1] *= 0.01
    clip_by_group(parameters, 1.0)
    norms = [
        math.sqrt(
            sum(float(p.grad[group].square().sum()) for p in parameters if p.grad is not None)
        )
        for group in range(2)
    ]
    assert norms[0] == pytest.approx(1.0, rel=1e-4)
    assert norms[1] == pytest.approx(0.01 * math.sqrt(7), rel=1e-4)
