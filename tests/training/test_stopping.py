"""A fit stops by the metric that was named; trees fit by every loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import polars as pl
import pytest
import torch
from tests.training.test_trees import fitted

from steadynet.bundle.manifest import MODEL
from steadynet.errors import SpecError
from steadynet.export.blend import average_members
from steadynet.home import Home
from steadynet.model import train
from steadynet.runtime.metrics import classification_metrics
from steadynet.spec.losses import (
    LOSSES,
    METRICS,
    Loss,
    LossChoice,
    LossName,
    MetricChoice,
    MetricName,
    check_metric,
    choose_loss,
)
from steadynet.training.comparing import held_losses
from steadynet.training.data import TargetCode
from steadynet.training.holding import predict_grouped
from steadynet.training.loop import Fit
from steadynet.training.objective import average
from steadynet.training.stopping import stopping_score

if TYPE_CHECKING:
    from tests.training.conftest import Problem

Make = Callable[..., "Problem"]


def test_the_choices_are_what_the_tables_hold() -> None:
    assert set(get_args(LossName)) == set(LOSSES)
    assert set(get_args(LossChoice)) == {"auto", *LOSSES}
    assert set(get_args(MetricName)) == set(METRICS)
    assert set(get_args(MetricChoice)) == {"auto", *METRICS}


@pytest.mark.parametrize("metric", ["auc", "accuracy", "f1", "log_loss"])
def test_the_weights_kept_are_those_of_the_best_metric(problem: Make, metric: Any) -> None:
    """Follow the metric epoch by epoch from outside: the fit kept the best one."""
    made = problem("binary", rows=400, epochs=5, patience=5)
    made.data = replace(made.data, code=replace(made.data.code, metric=metric))
    network = made.network()
    fit = Fit(network, made.data, made.folds, made.plan)
    seen = [score_now(made, network)]
    keep = fit._keep_better

    def watch(losses: torch.Tensor) -> None:
        seen.append(float(losses[0]))
        keep(losses)

    fit._keep_better = watch  # type: ignore[method-assign]
    fit.run()
    assert score_now(made, network) == pytest.approx(min(seen))
    assert len(set(seen)) > 1


def score_now(made: Problem, network: Any) -> float:
    """Return the score of the held rows, by the metric module itself."""
    rows = torch.from_numpy(made.folds.held)
    answers = average(predict_grouped(network, made.data, rows), made.data.code)[0].numpy()
    target = made.raw_target[made.folds.held[0]]
    found = classification_metrics(target, answers.astype(np.float64), ("a", "b"))
    value = found[made.data.code.metric]
    return value if made.data.code.metric == "log_loss" else -value


def test_a_metric_that_is_not_defined_is_infinite() -> None:
    code = TargetCode("binary", 1, 2, 0.0, 1.0, (1.0, 1.0), metric="auc")
    assert stopping_score(np.full((3, 2), 0.5), np.zeros(3), code) == np.inf


def test_where_the_metric_is_not_defined_the_loss_decides_and_it_is_told(tmp_path: Path) -> None:
    """The held-out days have one class alone: no epoch and no component has an AUC there."""
    random = np.random.default_rng(0)
    x, day = random.normal(size=400), np.arange(400)
    held = (day >= 280) & (day < 340)
    frame = pl.DataFrame({"x": x, "day": day, "y": (x + random.normal(size=400) > 0) & ~held})
    made = {}
    for metric in ("auto", "auc"):
        given = {
            "training.metric": metric, "training.max_epochs": 4, "training.width": 8,
            "training.pictures": False, "split.time_column": "day",
        }  # fmt: skip
        home = Home(tmp_path / metric)
        made[metric] = train(frame, target="y", settings=given, home=home)
    graphs = [(model.bundle.path / MODEL).read_bytes() for model in made.values()]
    assert graphs[0] == graphs[1]
    assert "auc is not defined" in made["auc"].manifest.notes["metric"]
    assert "metric" not in made["auto"].manifest.notes


@pytest.mark.parametrize(
    ("task", "loss", "metric"),
    [
        ("binary", Loss(name="focal", parameter=2.0), "auto"),
        ("binary", None, "auc"),
        ("binary", Loss(name="focal", parameter=2.0), "auc"),
        ("multiclass", Loss(name="ordinal"), "auto"),
        ("multiclass", None, "accuracy"),
        ("regression", Loss(name="quantile", parameter=0.9), "auto"),
        ("regression", Loss(name="poisson"), "auto"),
        ("regression", Loss(name="poisson"), "poisson_deviance"),
        ("regression", Loss(name="huber", parameter=1.3), "mae"),
        ("regression", Loss(name="absolute"), "rmse"),
    ],
)
def test_trees_learn_by_every_loss_and_stop_by_every_metric(
    problem: Make, task: str, loss: Loss | None, metric: Any
) -> None:
    made = problem(task, rows=600, loss=loss)
    made.data = replace(made.data, code=replace(made.data.code, metric=metric))
    trees, held = fitted(made)
    code = made.data.code
    assert trees.rounds > 3 * code.outputs
    rows = made.folds.held.ravel()
    answer = average_members(held, classes=code.classes > 0)
    flat = np.zeros_like(answer)
    if code.classes:
        shares = np.bincount(made.raw_target[made.folds.fitted], minlength=code.classes)
        flat = np.tile(shares / shares.sum(), (len(rows), 1))
    target = made.raw_target[rows]
    own = held_losses(answer, target, code).mean()
    assert own < 0.9 * held_losses(flat, target, code).mean()


def test_stopping_by_auc_leaves_probabilities_calibrated(tmp_path: Path) -> None:
    def chance(x: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(1.5 - 2 * x)))

    random = np.random.default_rng(0)
    x = random.normal(size=1200)
    frame = pl.DataFrame({"x": x, "y": random.random(1200) < chance(x)})
    given = {"training.metric": "auc", "training.max_epochs": 5, "training.width": 16}
    model = train(frame, target="y", settings=given, home=Home(tmp_path))
    new = random.normal(size=2000)
    found = model.predict_proba({"x": new.tolist()})[:, 1]
    assert np.abs(found - chance(new)).mean() < 0.05


@pytest.mark.parametrize(
    ("metric", "task", "loss", "says"),
    [
        ("auc", "regression", "squared", "rmse"),
        ("rmse", "binary", "log_loss", "accuracy"),
        ("pinball", "regression", "squared", 'training.loss = "quantile"'),
        ("poisson_deviance", "regression", "squared", 'training.loss = "poisson"'),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(
    metric: Any, task: Any, loss: Any, says: str
) -> None:
    with pytest.raises(SpecError, match=says):
        check_metric(metric, task, choose_loss(loss, task).name)
