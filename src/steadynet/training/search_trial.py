"""One trial of a search, in a process of its own."""

from __future__ import annotations

import io
import multiprocessing
import os
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import optuna
import torch
from threadpoolctl import threadpool_limits

from steadynet.errors import NotFinite, SpecError
from steadynet.files import write_atomic
from steadynet.networks import build_network
from steadynet.spec.model import TrainingSpec
from steadynet.training.comparing import Apart, mean_apart
from steadynet.training.components import Ground
from steadynet.training.holding import predict_grouped
from steadynet.training.joint import joint_held_losses
from steadynet.training.linear import start_as_linear
from steadynet.training.loop import Fit
from steadynet.training.plan import plan_fit
from steadynet.training.progress import EpochEnded, Event
from steadynet.training.samples import PROFILED_ROWS, thinned
from steadynet.training.study import StudyPlace


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """What a worker is told."""

    training: TrainingSpec
    ends_at: float
    """When it must end (seconds since 1970), infinite without a limit: starting a worker counts."""
    held: str
    """Where what the trial did on held-out rows goes: see `HeldResult`."""
    stop: str
    """A file; once there is one, the trial ends."""
    place: StudyPlace
    number: int | None
    """None for the spec's own settings, which are not part of the study."""


@dataclass(frozen=True)
class HeldResult:
    """How a network did on held-out rows: by the loss of all targets, or by the user's metric."""

    kept: np.ndarray
    """Each held row's loss (n,); where a metric is named, the main target's answers (n, C)."""
    score: float
    """What is made small: the mean loss, or the metric with its sign."""

    @classmethod
    def of(cls, members: npt.NDArray[np.float32], ground: Ground) -> HeldResult:
        """Judge members' outputs (n, M, all outputs) for the held rows."""
        main = ground.targets[0]
        truth = ground.held_truth(main)
        if truth.by_loss:
            losses = joint_held_losses(
                members, ground.targets, ground.held_rows, ground.held_weights
            )
            return cls.kept_before(losses, ground)
        return cls.kept_before(main.answer(members)[main.truth.known[ground.held_rows]], ground)

    @classmethod
    def kept_before(cls, kept: np.ndarray, ground: Ground) -> HeldResult:
        """Return the result that a trial kept."""
        if kept.ndim == 1:
            return cls(kept, float(kept.mean()))
        return cls(kept, ground.held_truth(ground.targets[0]).score(kept))


def apart(kept: np.ndarray, better: np.ndarray, ground: Ground) -> Apart:
    """Return by how much one trial's `HeldResult.kept` is worse than another's."""
    if kept.ndim == 1:
        return mean_apart(kept - better)
    return ground.held_truth(ground.targets[0]).apart(kept, better)


class TrialOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker answers."""

    state: Literal["complete", "pruned", "failed", "stopped"]
    score: float
    """`HeldResult.score`; NaN unless complete."""
    seconds: float


class _Reporter:
    """Tells the study every epoch's held-out loss and ends a trial that is not worth its while."""

    def __init__(self, trial: optuna.trial.Trial | None) -> None:
        self._trial = trial

    def on(self, event: Event) -> None:
        """Report an epoch."""
        if self._trial is None or not isinstance(event, EpochEnded):
            return
        self._trial.report(event.best_loss, event.epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned


class _Stopped(Exception):
    """The search was ended from outside."""


def end_with_parent() -> None:
    """Let this worker end when the search's process does, however that happens."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def run_trial(ground: Ground, job: TrialJob) -> TrialOutcome:
    """Fit one network on the ground's folds; keep how it did on held-out rows."""
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    threadpool_limits(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    started = time.perf_counter()
    state: Literal["complete", "pruned", "failed", "stopped"] = "complete"
    score = float("nan")
    try:
        result = HeldResult.of(_fit(ground, job, started + job.ends_at - time.time()), ground)
        file = io.BytesIO()
        np.save(file, result.kept, allow_pickle=False)
        write_atomic(Path(job.held), file.getvalue())
        score = result.score
    except optuna.TrialPruned:
        state = "pruned"
    except _Stopped:
        state = "stopped"
    except (NotFinite, SpecError):
        state = "failed"
    return TrialOutcome(state=state, score=score, seconds=time.perf_counter() - started)


def _fit(ground: Ground, job: TrialJob, deadline: float) -> npt.NDArray[np.float32]:
    """Return the members' outputs (n, M, all outputs) for the held rows."""
    folds, data, training = ground.folds, ground.data, job.training
    plan = plan_fit(
        msgspec.structs.replace(training, folds=len(folds.fit)),
        task=ground.code.task,
        train_rows=folds.fit.shape[1],
        validation_rows=folds.held.shape[1],
    )
    network = build_network(
        training.network,
        ground.layout,
        ground.outputs,
        plan.size,
        numbers=ground.tensors.numbers[thinned(folds.fitted, PROFILED_ROWS)],
        seed=plan.seed,
    )
    if network.starts_linear:
        start_as_linear(network, data, folds, plan.linear_strengths)
    reporter = _Reporter(None if job.number is None else job.place.trial(job.number))
    stop = Path(job.stop).exists
    result = Fit(network, data, folds, plan, progress=reporter, stop=stop).run(deadline=deadline)
    if result.ending == "stopped":
        raise _Stopped
    held: npt.NDArray[np.float32] = (
        predict_grouped(network, data, torch.from_numpy(folds.held)).flatten(0, 1).numpy()
    )
    return held
