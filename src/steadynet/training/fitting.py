"""Fit the network of a table: plan, folds, linear start, loop, and its held-out answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from steadynet.features.run import Tensors
from steadynet.networks import TabularNetwork, build_network
from steadynet.spec.model import Spec, TrainingSpec
from steadynet.table.layout import FeatureLayout
from steadynet.training.data import (
    TargetCode,
    encode_for_fit,
    make_folds,
    training_data,
)
from steadynet.training.linear import start_as_linear
from steadynet.training.loop import Fit, FitResult, predict_grouped
from steadynet.training.plan import FitPlan, plan_fit
from steadynet.training.prepare import Table
from steadynet.training.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted network, on the CPU, and what calibration and the references need of the fit."""

    network: TabularNetwork
    code: TargetCode
    plan: FitPlan
    result: FitResult
    fitted_rows: npt.NDArray[np.int64]
    """Rows that some group's weights were fitted on."""
    held_rows: npt.NDArray[np.int64]
    """Rows that a group was held to, each once."""
    held_members: npt.NDArray[np.float32]
    """Their outputs (n, M, C) by the members of the group that was not fitted on them."""


def fit_network(
    tensors: Tensors,
    layout: FeatureLayout,
    table: Table,
    spec: Spec,
    *,
    checkpoints: tuple[Path, str] | None,
    progress: Progress,
    stop: Callable[[], bool],
) -> Fitted:
    """Fit the network that the spec names, with what it leaves open chosen from the table's size.

    `checkpoints` is the run's folder and identity; None keeps none. Raises `NotFinite` and
    `SpecError`.
    """
    split, training = table.split, spec.training
    plan = plan_fit(
        training,
        task=table.schema.target.task,
        train_rows=len(split.train),
        validation_rows=len(split.validation),
        shuffled=spec.split.time_column is None and spec.split.group_column is None,
    )
    folds = make_folds(split, table.target, plan.size.groups, plan.seed)
    code = encode_for_fit(
        table.target,
        table.schema.target.task,
        len(table.classes),
        folds.fitted,
        balanced=training.class_weights == "balanced",
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = training_data(tensors, table.target, code, device)
    with torch_set_up(training):
        network = build_network(
            training.network,
            layout,
            code.outputs,
            plan.size,
            numbers=tensors.numbers[folds.fitted],
            seed=plan.seed,
        )
        if network.starts_linear:
            start_as_linear(network, data, folds, plan.linear_strengths)
        fit = Fit(network.to(device), data, folds, plan, progress=progress, stop=stop)
        folder, identity = checkpoints if checkpoints else (None, "")
        result = fit.run(folder, identity=identity)
        network.fill_unseen(data.categories[torch.from_numpy(folds.fitted).to(device)])
        held = predict_grouped(network, data, torch.from_numpy(folds.held).to(device))
    return Fitted(
        network=network.cpu(),
        code=code,
        plan=plan,
        result=result,
        fitted_rows=folds.fitted,
        held_rows=folds.held.ravel(),
        held_members=held.flatten(0, 1).cpu().numpy(),
    )


def thread_count(training: TrainingSpec) -> int:
    """Return the threads that the spec asks for, one unless set.

    On two cores two threads are 1.3 times as fast as one where all else is idle, and 0.8 to 0.08
    times beside two to six busy processes (`bench/threads.py`), since threads wait for each other
    at every product; retrains run beside the server. The result depends on the number in its last
    bits, so it is never chosen by load.
    """
    return training.threads or 1


@contextmanager
def torch_set_up(training: TrainingSpec) -> Iterator[None]:
    """Set torch's threads and random state for a fit, and put them back afterwards.

    Denormal numbers are flushed to zero: Adam's moments decay into them, and processors are then
    several times slower.
    """
    threads = torch.get_num_threads()
    torch.set_flush_denormal(True)
    torch.set_num_threads(thread_count(training))
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
