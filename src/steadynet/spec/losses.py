"""The losses that a fit can make small. A literal table; messages list what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from steadynet.errors import SpecError
from steadynet.spec.kinds import Task

LossName = Literal[
    "log_loss", "focal", "ordinal", "squared", "absolute", "huber", "quantile", "poisson"
]
LossChoice = Literal[
    "auto", "log_loss", "focal", "ordinal", "squared", "absolute", "huber", "quantile", "poisson"
]

TransformName = Literal["none", "log", "quantile"]
TransformChoice = Literal["auto", "none", "log", "quantile"]

MetricName = Literal[
    "log_loss", "auc", "accuracy", "f1", "rmse", "mae", "pinball", "poisson_deviance"
]
MetricChoice = Literal[
    "auto", "log_loss", "auc", "accuracy", "f1", "rmse", "mae", "pinball", "poisson_deviance"
]

LESS_IS_BETTER = frozenset({"log_loss", "rmse", "mae", "pinball", "poisson_deviance"})
"""Metrics of which less is better."""

FOCAL_GAMMA = 2.0
"""How much less a row counts that is answered well already (Lin et al. 2017)."""
HUBER_DELTA = 1.345
"""Deviations from which an error counts linearly: 95 % of the mean's efficiency on normal errors
(Huber 1964)."""

CLASSES: tuple[Task, ...] = ("binary", "multiclass")


class LossRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a loss is for."""

    tasks: tuple[Task, ...]
    predicts: str
    """What the fitted answer estimates, in words."""


LOSSES: Mapping[LossName, LossRule] = MappingProxyType(
    {
        "log_loss": LossRule(tasks=CLASSES, predicts="each class's probability"),
        "focal": LossRule(
            tasks=CLASSES, predicts="each class's probability, once it is calibrated"
        ),
        "ordinal": LossRule(
            tasks=("multiclass",), predicts="each class's probability, the classes being ordered"
        ),
        "squared": LossRule(tasks=("regression",), predicts="the mean"),
        "absolute": LossRule(tasks=("regression",), predicts="the median"),
        "huber": LossRule(tasks=("regression",), predicts="the mean without its outliers"),
        "quantile": LossRule(tasks=("regression",), predicts="a quantile"),
        "poisson": LossRule(tasks=("regression",), predicts="the mean of a count"),
    }
)


METRICS: Mapping[MetricName, tuple[Task, ...]] = MappingProxyType(
    {
        "log_loss": CLASSES,
        "auc": CLASSES,
        "accuracy": CLASSES,
        "f1": CLASSES,
        "rmse": ("regression",),
        "mae": ("regression",),
        "pinball": ("regression",),
        "poisson_deviance": ("regression",),
    }
)
"""What a fit can stop by, and the tasks it fits."""


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What a fit makes small."""

    name: LossName
    parameter: float = 0.0
    """Focal: gamma. Huber: the error, in deviations, that begins to count linearly. Quantile: the
    share of rows that shall lie below the answer."""


def losses_for(task: Task) -> tuple[LossName, ...]:
    """Return the losses that fit a task."""
    return tuple(name for name, rule in LOSSES.items() if task in rule.tasks)


def check_metric(metric: MetricChoice, task: Task, loss: LossName) -> None:
    """Raise `SpecError` where a fit of the task by the loss cannot stop by the metric."""
    if metric != "auto" and task not in METRICS[metric]:
        fitting = ("auto", *(name for name, tasks in METRICS.items() if task in tasks))
        raise SpecError(
            f"training.metric does not fit a {task} task",
            expected="one of " + ", ".join(fitting),
            got=repr(metric),
        )
    needed: Mapping[str, LossName] = {"pinball": "quantile", "poisson_deviance": "poisson"}
    if metric in needed and loss != needed[metric]:
        raise SpecError(
            f"training.metric is {metric!r}, but training.loss is not {needed[metric]!r}",
            expected=f'training.loss = "{needed[metric]}"',
            got=repr(loss),
        )


def choose_loss(
    name: LossChoice,
    task: Task,
    *,
    ordered: bool = False,
    quantile: float | None = None,
    focal_gamma: float | None = None,
) -> Loss:
    """Return the loss of a task; `auto` takes the one that is proper for it.

    `ordered` says that the classes have an order. Raises `SpecError` where loss and task do not
    fit together.
    """
    if name == "auto":
        if task == "regression":
            return Loss(name="squared")
        return Loss(name="ordinal" if ordered and task == "multiclass" else "log_loss")
    if task not in LOSSES[name].tasks:
        raise SpecError(
            f"training.loss does not fit a {task} task",
            expected="one of " + ", ".join(("auto", *losses_for(task))),
            got=repr(name),
        )
    if name == "ordinal" and not ordered:
        raise SpecError(
            "training.loss is 'ordinal', but the classes have no order",
            expected="whole numbers as classes, or their order in table.classes",
            do='Write it, the lowest first: classes = ["low", "middle", "high"] in [table].',
        )
    parameters = {
        "quantile": quantile,
        "focal": FOCAL_GAMMA if focal_gamma is None else focal_gamma,
        "huber": HUBER_DELTA,
    }
    return Loss(name=name, parameter=parameters.get(name) or 0.0)


def own_sense(metric: str, score: float) -> float:
    """Return a score, of which less is better, as the metric is read: an AUC without its minus."""
    return score if metric == "auto" or metric in LESS_IS_BETTER else -score
