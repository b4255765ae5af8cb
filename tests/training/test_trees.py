"""Boosted trees: learn, are cross-fitted, stop in time, and are the same in the graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
import pytest

from steadynet.export.blend import average_members
from steadynet.export.network import members_name
from steadynet.export.parts import CATEGORIES, NUMBERS
from steadynet.export.trees import rounded_down
from steadynet.features.run import Tensors
from steadynet.training.comparing import held_losses
from steadynet.training.trees import FittedTrees, TreePlan, TreeTarget, fit_trees

if TYPE_CHECKING:
    from tests.training.conftest import Problem

Make = Callable[..., "Problem"]


def tensors_of(made: Problem) -> Tensors:
    """Return the tensors of all rows."""
    return Tensors(made.data.numbers.numpy(), made.data.categories.numpy())


def fitted(made: Problem, **more: object) -> tuple[FittedTrees, np.ndarray]:
    """Fit trees to a problem."""
    of_target = {key: more.pop(key) for key in ("known", "weights") if key in more}
    return fit_trees(
        tensors_of(made),
        TreeTarget(values=made.raw_target, code=made.data.code, **of_target),  # type: ignore[arg-type]
        made.folds,
        made.layout,
        TreePlan(name="trees", seed=0, threads=1, **more),  # type: ignore[arg-type]
    )


def by_graph(trees: FittedTrees, tensors: Tensors) -> np.ndarray:
    """Answer tensors by onnxruntime."""
    session = ort.InferenceSession(
        trees.export().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = {NUMBERS: tensors.numbers, CATEGORIES: tensors.categories}
    found: np.ndarray = session.run([members_name("trees")], feed)[0]
    return found


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("groups", [1, 3])
def test_the_graph_answers_as_lightgbm_does(problem: Make, task: str, groups: int) -> None:
    made = problem(task, rows=500, groups=groups)
    trees, held = fitted(made)
    tensors = tensors_of(made)
    random = np.random.default_rng(0)
    far = Tensors(
        np.concatenate([tensors.numbers, random.choice([-3e38, -3, 0, 3, 3e38], (200, 2))]).astype(
            np.float32
        ),
        np.concatenate([tensors.categories, random.integers(0, 6, (200, 1))]),
    )
    found, expected = by_graph(trees, far), trees.outputs_of(far)
    assert found.shape == (700, groups, made.data.code.outputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert held.shape == (made.folds.held.size, 1, made.data.code.outputs)


def test_rows_at_and_beside_every_threshold_take_the_same_way(problem: Make) -> None:
    made = problem("regression", rows=400)
    trees, _ = fitted(made)
    graph = trees.export().graph
    node = next(node for node in graph.node if node.op_type == "TreeEnsembleRegressor")
    values = {entry.name: entry for entry in node.attribute}
    limits = np.unique(np.array(values["nodes_values"].floats, np.float32))
    # LightGBM stores what it takes for zero (below 1e-35) less exactly than the rest.
    limits = limits[(limits == 0) | (np.abs(limits) > 1e-34)]
    near = np.concatenate([limits, np.nextafter(limits, np.inf), np.nextafter(limits, -np.inf)])
    numbers = np.stack([near, near[::-1]], axis=1).astype(np.float32)
    tensors = Tensors(numbers, np.full((len(numbers), 1), 3))
    np.testing.assert_allclose(
        by_graph(trees, tensors), trees.outputs_of(tensors), rtol=1e-5, atol=1e-6
    )


def test_thresholds_are_rounded_down() -> None:
    thresholds = np.array([0.1, -0.1, 1.0, 1e-320, 1 + 2**-40, 3.5e38])
    found = rounded_down(thresholds)
    assert (found.astype(np.float64) <= thresholds).all()
    above = np.nextafter(found[:-1], np.float32(np.inf)).astype(np.float64)
    assert (above > thresholds[:-1]).all()
    assert found[-1] == np.finfo(np.float32).max


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_trees_learn_what_a_constant_cannot(problem: Make, task: str) -> None:
    made = problem(task, rows=1500, groups=3)
    _, held = fitted(made)
    rows = made.folds.held.ravel()
    code, target = made.data.code, made.raw_target[rows]
    answer = average_members(held, classes=code.classes > 0)
    loss = held_losses(answer, target, code).mean()
    flat = np.repeat(answer.mean(axis=0, keepdims=True), len(rows), axis=0)
    assert loss < 0.85 * held_losses(flat, target, code).mean()


def test_a_deadline_that_has_passed_leaves_few_trees(problem: Make) -> None:
    made = problem("binary", rows=300, groups=2)
    trees, _ = fitted(made, deadline=time.perf_counter())
    assert trees.rounds <= 4
    assert np.isfinite(trees.outputs_of(tensors_of(made))).all()
    stopped, _ = fitted(made, stop=lambda: True)
    assert stopped.rounds <= 4


def test_the_same_seed_gives_the_same_trees(problem: Make) -> None:
    made = problem("multiclass", rows=300)
    one, other = (fitted(made)[0].outputs_of(tensors_of(made)) for _ in range(2))
    assert np.array_equal(one, other)
