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
import optuna
import torch
from threadpoolctl import threadpool_limits

from steadynet.errors import NotFinite, SpecError
from steadynet.files import write_atomic
from steadynet.networks import build_network
from steadynet.spec.model import TrainingSpec
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
    losses: str
    """Where the held-out losses per row go."""
    stop: str
    """A file; once there is one, the trial ends."""
    place: StudyPlace
    number: int | None
    """None for the spec's own settings, which are not part of the study."""


class TrialOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker answers."""

    state: Literal["complete", "pruned", "failed", "stopped"]
    loss: float
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
    """Fit one network on the ground's folds; keep its held-out losses."""
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    threadpool_limits(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    started = time.perf_counter()
    state: Literal["complete", "pruned", "failed", "stopped"] = "complete"
    loss = float("nan")
    try:
        losses = _fit(ground, job, started + job.ends_at - time.time())
        kept = io.BytesIO()
        np.save(kept, losses, allow_pickle=False)
        write_atomic(Path(job.losses), kept.getvalue())
        loss = float(losses.mean())
    except optuna.TrialPruned:
        state = "pruned"
    except _Stopped:
        state = "stopped"
    except (NotFinite, SpecError):
        state = "failed"
    return TrialOutcome(state=state, loss=loss, seconds=time.perf_counter() - started)


def _fit(ground: Ground, job: TrialJob, deadline: float) -> np.ndarray:
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
    held = predict_grouped(network, data, torch.from_numpy(folds.held))
    return joint_held_losses(
        held.flatten(0, 1).numpy(), ground.targets, ground.held_rows, ground.held_weights
    )
