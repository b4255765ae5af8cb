"""Small tables and tensors whose best answers are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import pytest
import torch

from steadynet.features.run import Tensors
from steadynet.networks import NetworkSize, TabularNetwork, build_network
from steadynet.spec.kinds import Task
from steadynet.spec.losses import Loss
from steadynet.table.layout import FeatureLayout
from steadynet.table.split import Split
from steadynet.training.data import (
    Folds,
    TrainingData,
    encode_for_fit,
    make_folds,
    training_data,
)
from steadynet.training.plan import FitPlan

CITIES = ("Berlin", "Lyon", "Porto", "Turku")


@dataclass
class Problem:
    """Tensors, folds and a plan, ready to fit."""

    data: TrainingData
    folds: Folds
    layout: FeatureLayout
    plan: FitPlan
    raw_target: np.ndarray

    def network(self, name: str = "ensemble", seed: int = 0) -> TabularNetwork:
        """Return a new network for the problem."""
        return build_network(
            name,
            self.layout,
            self.data.code.outputs,
            self.plan.size,
            numbers=self.data.numbers.numpy()[self.folds.fitted],
            seed=seed,
        )


def make_problem(
    task: Task = "binary",
    *,
    rows: int = 600,
    groups: int = 1,
    balanced: bool = False,
    loss: Loss | None = None,
    seed: int = 0,
    **plan: object,
) -> Problem:
    """Return a problem with two numbers and a category, linear but for one interaction."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, 2)).astype(np.float32)
    categories = random.integers(2, 6, (rows, 1))
    score = numbers[:, 0] - 0.5 * categories[:, 0] + 2 + numbers[:, 0] * numbers[:, 1]
    target: np.ndarray
    if task == "regression":
        target = 100.0 + 20 * (score + 0.2 * random.normal(size=rows))
        if loss is not None and loss.name == "poisson":
            target = target.clip(0).round()
    elif task == "binary":
        target = (random.random(rows) < 1 / (1 + np.exp(-1.5 * score + 1))).astype(np.int64)
    else:
        target = np.digitize(score + 0.5 * random.normal(size=rows), [-0.8, 0.6]).astype(np.int64)
    classes = {"binary": 2, "multiclass": 3, "regression": 0}[task]
    order = random.permutation(rows)
    cuts = [int(rows * 0.7), int(rows * 0.85)]
    train, validation, test = (part.astype(np.int64) for part in np.split(order, cuts))
    folds = make_folds(Split(train, validation, test), target, groups, seed)
    weights: Literal["balanced"] | None = "balanced" if balanced else None
    code = encode_for_fit(target, task, classes, folds.fitted, class_weights=weights, loss=loss)
    layout = FeatureLayout(
        numbers=("a", "b"), number_sources=("a", "b"), categories=("city",), cardinalities=(6,)
    )
    fields: dict[str, object] = {
        "size": NetworkSize(16, 2, 2, groups, 0.1),
        "batch_rows": 64,
        "epochs": 8,
        "patience": 8,
        "learning_rate": 5e-3,
        "weight_decay": 1e-4,
        "gradient_clip": 1.0,
        "linear_strengths": (0.1, 1.0),
        "seed": seed,
    }
    return Problem(
        data=training_data(Tensors(numbers, categories), target, code, torch.device("cpu")),
        folds=folds,
        layout=layout,
        plan=FitPlan(**(fields | plan)),  # type: ignore[arg-type]
        raw_target=target,
    )


def make_frame(task: Task = "binary", *, rows: int = 400, seed: int = 0) -> pl.DataFrame:
    """Return a messy table: numbers, a category, a boolean, a date, missing values, an id."""
    random = np.random.default_rng(seed)
    income = random.lognormal(3, 0.6, rows).round(2)
    age = random.integers(18, 80, rows)
    city = random.choice(CITIES, rows)
    member = random.random(rows) < 0.4
    score = np.log(income) - 3 + (city == "Lyon") - 0.03 * (age - 45) + member
    target: list[object]
    if task == "binary":
        target = np.where(random.random(rows) < 1 / (1 + np.exp(-2 * score)), "yes", "no").tolist()
    elif task == "multiclass":
        names = np.array(["low", "middle", "high"])
        target = names[np.digitize(score + 0.4 * random.normal(size=rows), [-0.2, 1.0])].tolist()
    else:
        target = (50 + 10 * score + 2 * random.normal(size=rows)).round(3).tolist()
    days = random.integers(0, 700, rows)
    return pl.DataFrame(
        {
            "customer_id": [f"c-{seed}-{number:06d}" for number in range(rows)],
            "income": [None if number % 23 == 0 else f"{x}" for number, x in enumerate(income)],
            "age": [str(value) for value in age],
            "city": [None if number % 31 == 0 else str(x) for number, x in enumerate(city)],
            "member": ["yes" if value else "no" for value in member],
            "joined": [
                str(np.datetime64("2024-01-01") + np.timedelta64(int(day), "D")) for day in days
            ],
            "answer": target,
        }
    )


@pytest.fixture(scope="session")
def problem() -> Callable[..., Problem]:
    """Makes problems: `problem(task, rows=, groups=, balanced=, loss=, seed=, **plan)`."""
    return make_problem


@pytest.fixture(scope="session")
def frame() -> Callable[..., pl.DataFrame]:
    """Makes tables: `frame(task, rows=, seed=)` with the target `answer`."""
    return make_frame
