"""Fit one component of a blend: a network, or boosted trees for every target."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from steadynet.networks import build_network
from steadynet.spec.model import Spec
from steadynet.training.components import FittedNetwork, Ground
from steadynet.training.data import Folds
from steadynet.training.holding import predict_grouped
from steadynet.training.linear import start_as_linear
from steadynet.training.loop import Fit
from steadynet.training.plan import FitPlan
from steadynet.training.presets import FIRST, ComponentPlan
from steadynet.training.progress import Progress
from steadynet.training.samples import PROFILED_ROWS, thinned
from steadynet.training.threads import thread_count, torch_set_up
from steadynet.training.trees import FittedTrees, TreePlan, TreeTarget, fit_trees
from steadynet.training.warm import Parent, inherit

Held = npt.NDArray[np.float32]
"""A component's members' outputs (n, M, C) for the held rows."""


@dataclass(frozen=True, kw_only=True)
class FitContext:
    """What surrounds a fit."""

    checkpoints: tuple[Path, str] | None
    """The run's folder and identity; None keeps none."""
    progress: Progress
    stop: Callable[[], bool]
    deadline: float = math.inf
    """When all components must be fitted, by `time.perf_counter`."""
    parent: Parent | None = None
    """What the fit goes on from."""
    study: tuple[Path, str] | None = None
    """The folder and identity of a search; None keeps nothing of it."""


def fit_forests(
    ground: Ground,
    plan: FitPlan,
    asked: ComponentPlan,
    spec: Spec,
    context: FitContext,
    deadline: float,
    *,
    rounds: Sequence[int] | None = None,
) -> tuple[FittedTrees, Held]:
    """Fit a forest for each target; return them and their raw scores (n, 1, C) of the held rows.

    `rounds` are each target's, where held rows shall not choose them.
    """
    made = []
    for place, target in enumerate(ground.targets):
        now = time.perf_counter()
        made.append(
            fit_trees(
                ground.tensors,
                TreeTarget(
                    values=target.truth.values,
                    code=target.code,
                    known=target.truth.known,
                    weights=ground.weights,
                ),
                ground.folds,
                ground.layout,
                TreePlan(
                    name=asked.name,
                    seed=plan.seed + asked.seed,
                    threads=thread_count(spec.training),
                    sampled=asked.sampled,
                    deadline=now + (deadline - now) / (len(ground.targets) - place),
                    stop=context.stop,
                    rounds=None if rounds is None else rounds[place],
                ),
            )
        )
    (first, _), *others = made
    return first.joined([trees for trees, _ in others]), np.concatenate(
        [raw for _, raw in made], axis=2
    )


def fit_network(
    ground: Ground,
    plan: FitPlan,
    asked: ComponentPlan,
    spec: Spec,
    context: FitContext,
    deadline: float,
    *,
    again: Folds | None = None,
) -> tuple[FittedNetwork, Held]:
    """Fit a network; return it and its members' outputs (n, M, C) for the held rows.

    `again` are the folds of an earlier fit, where held rows shall choose nothing in this one: its
    linear start is theirs, and the last weights stay.
    """
    data, folds = ground.data, ground.folds
    device = data.target.device
    kind = asked.network or spec.training.network
    with torch_set_up(spec.training):
        if context.parent is not None and asked.name == FIRST:
            network = inherit(context.parent, ground, plan)
        else:
            network = build_network(
                kind,
                ground.layout,
                ground.outputs,
                plan.size,
                numbers=ground.tensors.numbers[thinned(folds.fitted, PROFILED_ROWS)],
                seed=plan.seed,
            )
            if network.starts_linear:
                start_as_linear(network, data, again or folds, plan.linear_strengths)
        fit = Fit(
            network.to(device),
            data,
            folds,
            plan,
            progress=context.progress,
            stop=context.stop,
            keep="last" if again else "best",
        )
        folder, identity = context.checkpoints or (None, "")
        result = fit.run(
            folder / asked.name if folder else None, identity=identity, deadline=deadline
        )
        network.fill_unseen(data.categories[torch.from_numpy(folds.fitted).to(device)])
        held = predict_grouped(network, data, torch.from_numpy(folds.held).to(device))
    made = FittedNetwork(asked.name, kind, network.cpu(), plan, result)
    return made, held.flatten(0, 1).cpu().numpy()
