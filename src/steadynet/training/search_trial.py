"""One trial of a search, in a process of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from threadpoolctl import threadpool_limits

from steadynet.errors import NotFinite, SpecError
from steadynet.export.blend import average_members
from steadynet.networks import build_network
from steadynet.spec.model import TrainingSpec
from steadynet.training.blending import held_losses
from steadynet.training.components import Ground
from steadynet.training.linear import start_as_linear
from steadynet.training.loop import Fit, predict_grouped
from steadynet.training.plan import plan_fit
from steadynet.training.progress import EpochEnded, Event


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """What a worker is told."""

    training: TrainingSpec
    shuffled: bool
    deadline_s: float
    """Seconds that are left, infinite without a limit."""
    losses: str
    """Where the held-out losses per row go."""
    journal: str
    study: str
    trial_id: int | None
    """None for the spec's own settings, which are not part of the study."""


class TrialOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker answers."""

    state: Literal["complete", "pruned", "failed"]
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


def run_trial(ground: Ground, job: TrialJob) -> TrialOutcome:
    """Fit one network on the ground's folds; keep its held-out losses."""
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    threadpool_limits(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    started = time.perf_counter()
    try:
        losses = _fit(ground, job, started + job.deadline_s)
    except optuna.TrialPruned:
        return TrialOutcome(
            state="pruned", loss=float("nan"), seconds=time.perf_counter() - started
        )
    except (NotFinite, SpecError):
        return TrialOutcome(
            state="failed", loss=float("nan"), seconds=time.perf_counter() - started
        )
    np.save(job.losses, losses, allow_pickle=False)
    return TrialOutcome(
        state="complete", loss=float(losses.mean()), seconds=time.perf_counter() - started
    )


def _fit(ground: Ground, job: TrialJob, deadline: float) -> np.ndarray:
    folds, data, training = ground.folds, ground.data, job.training
    plan = plan_fit(
        msgspec.structs.replace(training, folds=len(folds.fit)),
        task=ground.code.task,
        train_rows=folds.fit.shape[1],
        validation_rows=folds.held.shape[1],
        shuffled=job.shuffled,
    )
    network = build_network(
        training.network,
        ground.layout,
        ground.code.outputs,
        plan.size,
        numbers=ground.tensors.numbers[folds.fitted],
        seed=plan.seed,
    )
    if network.starts_linear:
        start_as_linear(network, data, folds, plan.linear_strengths)
    Fit(network, data, folds, plan, progress=_Reporter(_trial_of(job))).run(deadline=deadline)
    held = predict_grouped(network, data, torch.from_numpy(folds.held))
    answer = average_members(held.flatten(0, 1).numpy(), classes=ground.code.classes > 0)
    return held_losses(answer, ground.target[ground.held_rows], ground.code)


def _trial_of(job: TrialJob) -> optuna.trial.Trial | None:
    if job.trial_id is None:
        return None
    storage = JournalStorage(JournalFileBackend(job.journal))
    study = optuna.load_study(study_name=job.study, storage=storage, pruner=_pruner())
    return optuna.trial.Trial(study, job.trial_id)


def _pruner() -> optuna.pruners.BasePruner:
    return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2)
