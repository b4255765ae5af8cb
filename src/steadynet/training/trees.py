"""Boosted trees on the feature graph's own tensors, by LightGBM, as a member of a blend.

They read what the networks read, so that one graph serves both. Categories come as their entries,
which stand in the order of frequency. Each group leaves out its own fold and stops where that
fold's loss is least.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import torch

from steadynet.export.blend import average_members
from steadynet.export.nodes import Graph
from steadynet.export.trees import LEAF, Forest, Tree, export_trees
from steadynet.features.run import Tensors
from steadynet.table.layout import FeatureLayout
from steadynet.training.data import Folds, TargetCode
from steadynet.training.objective import class_losses, log_probabilities
from steadynet.training.samples import TREE_ROWS, thinned
from steadynet.training.stopping import stopping_score

MOST_ROUNDS = 1500
PATIENCE = 40
"""Rounds without a better held-out loss before a fit ends."""
MANY_FORESTS = 16
"""Outputs times groups from which steps are twice as large, to take half as long."""
LARGE_STEP = 0.1
FEW_ROWS = 4000
"""Below, trees are kept smaller."""
SETTINGS: dict[str, object] = {
    "learning_rate": 0.05,
    "feature_fraction": 0.8,
    "lambda_l2": 1.0,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
SAMPLED: dict[str, object] = {
    "learning_rate": 0.03,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 3.0,
}
"""What differs where each tree sees a part of rows and columns (Friedman 2002, stochastic gradient
boosting)."""
SMALLEST_CURVATURE = 1e-6
_NUMBERS: Mapping[str, dict[str, object]] = MappingProxyType(
    {
        "squared": {"objective": "regression", "metric": "l2"},
        "absolute": {"objective": "regression_l1", "metric": "l1"},
        "huber": {"objective": "huber", "metric": "huber"},
        "quantile": {"objective": "quantile", "metric": "quantile"},
        "poisson": {"objective": "poisson", "metric": "poisson"},
    }
)
"""LightGBM's own names of the losses of numbers."""


class FittedTrees:
    """Boosted trees of every group, a forest of its own for each target. Members are the groups."""

    def __init__(
        self,
        forests: Sequence[tuple[Sequence[lightgbm.Booster], int]],
        layout: FeatureLayout,
        name: str,
    ) -> None:
        """Take each target's boosters, one per group, with the outputs of one."""
        self.name = name
        self._forests = forests
        self._layout = layout

    @property
    def outputs(self) -> int:
        """Outputs of a member, for all targets."""
        return sum(outputs for _, outputs in self._forests)

    @property
    def members(self) -> int:
        """Members of an answer: one per group."""
        return len(self._forests[0][0])

    @property
    def rounds(self) -> int:
        """Trees of all groups and outputs together."""
        return sum(booster.num_trees() for boosters, _ in self._forests for booster in boosters)

    @property
    def best_rounds(self) -> tuple[int, ...]:
        """Per target, the trees of an output in the first group."""
        return tuple(boosters[0].best_iteration for boosters, _ in self._forests)

    def outputs_of(self, tensors: Tensors) -> npt.NDArray[np.float32]:
        """Return raw scores (N, groups, C)."""
        cells = tree_cells(tensors)
        scores = [
            np.stack([_raw(booster, cells, outputs) for booster in boosters], axis=1)
            for boosters, outputs in self._forests
        ]
        return np.concatenate(scores, axis=2)

    def export(self) -> Graph:
        """Return the graph to `steadynet/<name>/members`."""
        by_group = [
            [
                trees
                for boosters, outputs in self._forests
                for trees in trees_of(boosters[group], outputs)
            ]
            for group in range(self.members)
        ]
        return export_trees(Forest(by_group), self._layout, self.name)

    def joined(self, others: Sequence[FittedTrees]) -> FittedTrees:
        """Return these with the forests of further targets behind them."""
        forests = [forest for trees in (self, *others) for forest in trees._forests]
        return FittedTrees(forests, self._layout, self.name)

    def summary(self) -> str:
        """Say in words what this is."""
        return f"boosted trees: {self.rounds} trees in {self.members} groups"


@dataclass(frozen=True, kw_only=True)
class TreeTarget:
    """What trees are fitted to."""

    values: npt.NDArray[np.generic]
    """(N,): class indices or numbers; trees are fitted to the standardised number."""
    code: TargetCode
    known: npt.NDArray[np.bool_] | None = None
    """(N,): the rows that have a value; None: all."""
    weights: npt.NDArray[np.float64] | None = None
    """(N,): what each row counts; None: all the same."""


@dataclass(frozen=True, kw_only=True)
class TreePlan:
    """How trees are fitted."""

    name: str
    seed: int
    threads: int
    sampled: bool = False
    deadline: float = math.inf
    """By `time.perf_counter`; a fit ends then with the trees that it has."""
    stop: Callable[[], bool] = lambda: False
    """Ends a fit as the deadline does."""
    rounds: int | None = None
    """Trees of each output; None lets held rows choose."""


def fit_trees(
    tensors: Tensors, target: TreeTarget, folds: Folds, layout: FeatureLayout, plan: TreePlan
) -> tuple[FittedTrees, npt.NDArray[np.float32]]:
    """Fit every group; return the trees and their raw scores (G * m, 1, C) of the held rows."""
    code = target.code
    boosters, held = [], []
    for number, hold in enumerate(folds.held):
        left = (plan.deadline - time.perf_counter()) / (len(folds.fit) - number)
        booster = _fit_group(tensors, target, folds, plan, number, time.perf_counter() + left)
        boosters.append(booster)
        held.append(_raw(booster, tree_cells(tensors.rows(hold)), code.outputs))
    return FittedTrees([(boosters, code.outputs)], layout, plan.name), np.concatenate(held)[:, None]


def _fit_group(
    tensors: Tensors,
    target: TreeTarget,
    folds: Folds,
    plan: TreePlan,
    number: int,
    deadline: float,
) -> lightgbm.Booster:
    """Fit one group's trees, stopped by the rows that it is held to."""
    code, known, weights = target.code, target.known, target.weights
    fit, hold = thinned(folds.fit[number], TREE_ROWS), folds.held[number]
    own = fit if known is None else fit[known[fit]]
    watched = hold if known is None else hold[known[hold]]
    if len(watched) == 0:  # nothing is known of the fold: stop by the rows that are fitted
        watched = own
    coded = _coded(target.values, code)

    def dataset(rows: npt.NDArray[np.int64], like: lightgbm.Dataset | None) -> lightgbm.Dataset:
        weight = None if weights is None else weights[rows]
        if like is None and code.classes:
            of_class = np.array(code.class_weights)[coded[rows].astype(np.int64)]
            weight = of_class if weight is None else of_class * weight
        cells = tree_cells(tensors.rows(rows))
        return lightgbm.Dataset(cells, coded[rows], weight=weight, reference=like)

    data = dataset(own, None)
    settings = _settings(code, len(fit), len(folds.fit), plan.sampled)
    ends = _Ends(deadline, plan.stop)
    chosen = [lightgbm.early_stopping(PATIENCE, verbose=False)] if plan.rounds is None else []
    return lightgbm.train(
        settings | {"seed": plan.seed + number, "num_threads": plan.threads},
        data,
        MOST_ROUNDS if plan.rounds is None else plan.rounds,
        valid_sets=[dataset(watched, data)],
        feval=_held_score(code, settings["objective"]),
        callbacks=[*chosen, ends],
    )


def tree_cells(tensors: Tensors) -> npt.NDArray[np.float32]:
    """Return the trees' input (N, D + K): numbers, then entries."""
    return np.concatenate([tensors.numbers, tensors.categories.astype(np.float32)], axis=1)


class _Ends:
    """A LightGBM callback that ends the fit when time is up."""

    order = 40

    def __init__(self, deadline: float, stop: Callable[[], bool]) -> None:
        self._deadline = deadline
        self._stop = stop

    def __call__(self, env: Any) -> None:
        """Raise LightGBM's sign where the fit shall end."""
        if time.perf_counter() >= self._deadline or self._stop():
            raise lightgbm.callback.EarlyStopException(env.iteration, env.evaluation_result_list)


def _settings(code: TargetCode, rows: int, groups: int, sampled: bool) -> dict[str, object]:
    loss = _NUMBERS.get(code.loss.name, {"objective": "binary", "metric": "binary_logloss"})
    if code.loss.name in ("huber", "quantile"):
        loss = loss | {"alpha": code.loss.parameter}
    if code.classes > 2:
        loss = {"objective": "multiclass", "metric": "multi_logloss", "num_class": code.classes}
    if code.classes and code.loss.name != "log_loss":
        loss = loss | {"objective": _ClassLoss(code), "metric": "None"}
    if code.metric != "auto":
        loss = loss | {"metric": "None"}
    small = rows < FEW_ROWS
    size = {"num_leaves": 15 if small else 31, "min_data_in_leaf": min(20, max(1, rows // 20))}
    pace: dict[str, object] = {}
    if code.outputs * groups >= MANY_FORESTS:
        pace = {"learning_rate": LARGE_STEP}
    return {**SETTINGS, **pace, **(SAMPLED if sampled else {}), **loss, **size}


def _held_score(
    code: TargetCode, objective: object
) -> Callable[..., tuple[str, float, bool]] | None:
    """Return what LightGBM stops by, None where it is a loss that it knows."""
    if code.metric == "auto":
        return objective.held if isinstance(objective, _ClassLoss) else None

    def score(scores: npt.NDArray[np.float64], data: lightgbm.Dataset) -> tuple[str, float, bool]:
        raw = _margins(np.asarray(scores), code, objective).astype(np.float32)
        answer = average_members(raw[:, None], classes=code.classes > 0)
        target = np.asarray(data.get_label())
        if code.classes:
            answer = answer / np.array(code.class_weights)
            answer = answer / answer.sum(axis=1, keepdims=True)
        else:
            target = code.decode_target(target)
        weights = data.get_weight()
        own = None if weights is None else np.asarray(weights, np.float64)
        return code.metric, stopping_score(answer, target, code, own), False

    return score


def _margins(
    scores: npt.NDArray[np.float64], code: TargetCode, objective: object
) -> npt.NDArray[np.float64]:
    """Return raw scores (n, C) of what LightGBM hands over: transformed, but for a loss of ours."""
    shaped = scores.reshape(-1, code.outputs)
    if isinstance(objective, _ClassLoss):
        return shaped
    if code.loss.name == "poisson":
        return np.log(np.maximum(shaped, SMALLEST_CURVATURE))
    if code.classes:
        chance = np.clip(shaped, SMALLEST_CURVATURE, 1 - SMALLEST_CURVATURE)
        return np.log(chance) - np.log1p(-chance) if code.outputs == 1 else np.log(chance)
    return shaped


class _ClassLoss:
    """A loss of classes that LightGBM does not know, by its gradient."""

    def __init__(self, code: TargetCode) -> None:
        self._code = code

    def __call__(
        self, scores: npt.NDArray[np.float64], data: lightgbm.Dataset
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return gradient and curvature of raw scores (N,) or (N, C).

        The curvature is that of the log-loss, which only sets the length of a step.
        """
        logits = torch.from_numpy(scores.reshape(-1, self._code.outputs)).requires_grad_()
        logs = log_probabilities(logits)
        losses = class_losses(logs, _labels(data), self._code)
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        chance = logs.detach().exp()[:, -self._code.outputs :]
        curvature = (chance * (1 - chance)).clamp_min(SMALLEST_CURVATURE)
        weight = _row_weights(data)
        shaped = (gradient * weight, curvature * weight)
        return tuple(part.numpy().reshape(scores.shape) for part in shaped)  # type: ignore[return-value]

    def held(
        self, scores: npt.NDArray[np.float64], data: lightgbm.Dataset
    ) -> tuple[str, float, bool]:
        """Return the held-out loss as LightGBM's early stopping takes it."""
        logits = torch.from_numpy(scores.reshape(-1, self._code.outputs))
        losses = class_losses(log_probabilities(logits), _labels(data), self._code)
        weight = data.get_weight()
        return self._code.loss.name, float(np.average(losses.numpy(), weights=weight)), False


def _labels(data: lightgbm.Dataset) -> torch.Tensor:
    return torch.from_numpy(np.asarray(data.get_label()).astype(np.int64))


def _row_weights(data: lightgbm.Dataset) -> torch.Tensor | float:
    """Return a column (N, 1) of weights: LightGBM leaves them to a loss of one's own."""
    weight = data.get_weight()
    return 1.0 if weight is None else torch.from_numpy(np.asarray(weight, np.float64))[:, None]


def _coded(target: npt.NDArray[np.generic], code: TargetCode) -> npt.NDArray[np.float64]:
    return target.astype(np.float64) if code.classes else code.encode(target)


def _raw(
    booster: lightgbm.Booster, cells: npt.NDArray[np.float32], outputs: int
) -> npt.NDArray[np.float32]:
    """Return raw scores (N, C) of the best rounds."""
    scores = booster.predict(cells, raw_score=True, num_iteration=booster.best_iteration)
    return np.asarray(scores, np.float32).reshape(len(cells), outputs)


def trees_of(booster: lightgbm.Booster, outputs: int) -> list[list[Tree]]:
    """Return the trees of every output."""
    dumped = booster.dump_model(num_iteration=booster.best_iteration)
    found: list[list[Tree]] = [[] for _ in range(outputs)]
    for place, info in enumerate(dumped["tree_info"]):
        found[place % outputs].append(_tree(info["tree_structure"]))
    return found


def _tree(root: dict[str, Any]) -> Tree:
    rows: list[tuple[int, float, int, int, float]] = []

    def visit(node: dict[str, Any]) -> int:
        place = len(rows)
        rows.append((LEAF, 0.0, 0, 0, 0.0))
        if "split_feature" not in node:
            rows[place] = (LEAF, 0.0, 0, 0, float(node["leaf_value"]))
            return place
        left, right = visit(node["left_child"]), visit(node["right_child"])
        rows[place] = (int(node["split_feature"]), float(node["threshold"]), left, right, 0.0)
        return place

    visit(root)
    feature, threshold, left, right, value = zip(*rows, strict=True)
    return Tree(
        np.array(feature, np.int64),
        np.array(threshold, np.float64),
        np.array(left, np.int64),
        np.array(right, np.int64),
        np.array(value, np.float64),
    )
