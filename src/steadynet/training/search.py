"""Search over networks and their settings, by Optuna, on held-out rows.

Trials run in processes of one thread each, as many as there are cores: two fits of one thread beat
one of two. The study is a journal file in the run's folder, so that a run that was killed goes on:
trials that ended are not run again. The first trials are the networks with their own defaults, and
the spec's own settings stay unless another one's held-out loss is lower beyond the noise.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import msgspec
import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from steadynet.spec.model import TrainingSpec
from steadynet.training.components import Ground
from steadynet.training.progress import Progress, TrialEnded
from steadynet.training.search_trial import TrialJob, TrialOutcome, run_trial

NETWORKS = ("ensemble", "tabm", "realmlp", "resnet")
"""What is searched. The transformer and the mixture of experts cost more than they bring."""
NOISE = 1.0
"""Standard errors of the paired difference by which a trial must beat the spec's own settings."""
STUDY = "search.journal"
TIME_SHARE = 0.7
"""Of the time left, the rest being for the last fit."""
FEWEST_FOR_IMPORTANCE = 10

Setting = str | int | float


class SearchReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found."""

    trials: int
    pruned: int
    failed: int
    own_loss: float
    """Held-out loss of the spec's own settings."""
    best_loss: float
    settings: dict[str, Setting]
    """Those that were taken, empty where the spec's own stayed."""
    importance: dict[str, float]
    """Setting → share of the loss's variation that it explains among the good trials."""

    def toml(self) -> str:
        """Return the settings as lines for steadynet.toml."""
        lines = [f"{key} = {_toml(value)}" for key, value in self.settings.items()]
        return "\n".join(["[training]", *lines]) if lines else ""


@dataclass(frozen=True, kw_only=True)
class SearchContext:
    """What surrounds a search."""

    folder: Path
    """Where the study is kept."""
    identity: str
    progress: Progress
    stop: Callable[[], bool]
    deadline: float = math.inf
    workers: int = 0
    """Processes; 0 takes a core each."""


def search(
    ground: Ground, training: TrainingSpec, shuffled: bool, context: SearchContext
) -> tuple[TrainingSpec, SearchReport]:
    """Try `training.search_trials` settings; return the spec to fit with, and what was found."""
    context.folder.mkdir(parents=True, exist_ok=True)
    study = _open_study(context, training.seed)
    _end_stale(study)
    for settings in _first_trials(training):
        study.enqueue_trial(settings, skip_if_exists=True)
    before = time.perf_counter()
    deadline = before + (context.deadline - before) * TIME_SHARE
    workers = context.workers or os.cpu_count() or 1
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        _run_trials(study, pool, workers, deadline, ground, training, shuffled, context)
    return _choose(study, training, context)


def settings_of(training: TrainingSpec, settings: Mapping[str, Setting]) -> TrainingSpec:
    """Return the spec with a trial's settings."""
    return msgspec.structs.replace(training, search_trials=0, **dict(settings))


def suggest(trial: optuna.trial.Trial) -> dict[str, Setting]:
    """Draw settings. The ranges are those of the networks' papers, around Muon's step sizes."""
    network = trial.suggest_categorical("network", NETWORKS)
    found: dict[str, Setting] = {
        "network": network,
        "width": trial.suggest_int("width", 32, 320, step=32),
        "depth": trial.suggest_int("depth", 1, 4),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 3e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-2, 3.0, log=True),
        "batch_rows": 2 ** trial.suggest_int("log2_batch_rows", 5, 9),
    }
    if network in ("ensemble", "tabm"):
        found["members"] = trial.suggest_int("members", 2, 16)
    return found


def _first_trials(training: TrainingSpec) -> list[dict[str, Setting]]:
    """Return what is tried before the sampler has seen anything: each network as it is."""
    dropout = 0.1 if training.dropout is None else training.dropout
    common = {
        "depth": min(training.depth, 4),
        "dropout": min(dropout, 0.5),
        "learning_rate": min(max(training.learning_rate or 8e-3, 1e-3), 3e-2),
        "weight_decay": min(max(training.weight_decay, 1e-2), 3.0),
        "width": 128,
        "log2_batch_rows": 8,
    }
    return [
        common | {"network": name} | ({"members": 8} if name in ("ensemble", "tabm") else {})
        for name in NETWORKS
    ]


def _storage(context: SearchContext) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(context.folder / STUDY)))


def _open_study(context: SearchContext, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=_storage(context),
        study_name=context.identity,
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        load_if_exists=True,
    )


def _end_stale(study: optuna.Study) -> None:
    """End the trials that ran when an earlier process was killed."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def _trial_id(context: SearchContext, number: int) -> int:
    """Return a trial's number in the storage, which knows of all studies."""
    storage = _storage(context)
    study_id = storage.get_study_id_from_name(context.identity)
    return int(storage.get_trial_id_from_study_id_trial_number(study_id, number))


def _ended(study: optuna.Study) -> int:
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return len(study.get_trials(deepcopy=False, states=states))


def _run_trials(
    study: optuna.Study,
    pool: ProcessPoolExecutor,
    workers: int,
    deadline: float,
    ground: Ground,
    training: TrainingSpec,
    shuffled: bool,
    context: SearchContext,
) -> None:
    """Keep every worker busy until the trials are done, time is up or the user stops it."""
    own = context.folder / "own.npy"
    running: dict[Future[TrialOutcome], int | None] = {}

    def submit(settings: dict[str, Setting], number: int | None, losses: Path) -> None:
        job = TrialJob(
            training=settings_of(training, settings),
            shuffled=shuffled,
            deadline_s=deadline - time.perf_counter(),
            losses=str(losses),
            journal=str(context.folder / STUDY),
            study=context.identity,
            trial_id=None if number is None else _trial_id(context, number),
        )
        running[pool.submit(run_trial, ground, job)] = number

    if not own.is_file():
        submit({}, None, own)
    failures = 0
    while True:
        open_slots = workers - len(running)
        left = training.search_trials - _ended(study) - sum(n is not None for n in running.values())
        over = context.stop() or time.perf_counter() >= deadline or failures > workers + 3
        for _ in range(min(open_slots, left) if not over else 0):
            trial = study.ask()
            losses = context.folder / f"trial-{trial.number}.npy"
            submit(suggest(trial), trial.number, losses)
        if not running:
            return
        done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
        for future in done:
            number = running.pop(future)
            outcome = future.result()
            failures += outcome.state == "failed"
            if number is not None:
                _tell(study, number, outcome)
                _show(study, outcome, training, context)


def _tell(study: optuna.Study, number: int, outcome: TrialOutcome) -> None:
    states = {
        "complete": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        "failed": TrialState.FAIL,
    }
    value = outcome.loss if outcome.state == "complete" else None
    study.tell(number, value, state=states[outcome.state])


def _show(
    study: optuna.Study, outcome: TrialOutcome, training: TrainingSpec, context: SearchContext
) -> None:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = min((trial.value for trial in complete if trial.value is not None), default=math.nan)
    context.progress.on(
        TrialEnded(
            number=_ended(study),
            count=training.search_trials,
            state=outcome.state,
            loss=outcome.loss,
            best_loss=best,
        )
    )


def _choose(
    study: optuna.Study, training: TrainingSpec, context: SearchContext
) -> tuple[TrainingSpec, SearchReport]:
    own = context.folder / "own.npy"
    own_losses = np.load(own, allow_pickle=False) if own.is_file() else None
    complete = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if trial.value is not None
    ]
    own_loss = math.nan if own_losses is None else float(own_losses.mean())
    taken: dict[str, Setting] = {}
    best = min(complete, key=lambda trial: trial.value or math.inf, default=None)
    if best is not None:
        path = context.folder / f"trial-{best.number}.npy"
        losses = np.load(path, allow_pickle=False) if path.is_file() else None
        if own_losses is None or (losses is not None and _is_better(losses, own_losses)):
            taken = suggest(optuna.trial.FixedTrial(best.params))
    report = SearchReport(
        trials=_ended(study),
        pruned=len(study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))),
        failed=len(study.get_trials(deepcopy=False, states=(TrialState.FAIL,))),
        own_loss=own_loss,
        best_loss=math.nan if best is None or best.value is None else best.value,
        settings=taken,
        importance=_importance(study, len(complete)),
    )
    return settings_of(training, taken), report


def _is_better(losses: np.ndarray, own: np.ndarray) -> bool:
    apart = own - losses
    return bool(apart.mean() > NOISE * apart.std() / math.sqrt(len(apart)))


def _importance(study: optuna.Study, complete: int) -> dict[str, float]:
    if complete < FEWEST_FOR_IMPORTANCE:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    shared = [
        name
        for name in study.trials[0].params
        if all(name in trial.params for trial in study.trials if trial.params)
    ]
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=shared)
    return {name: float(value) for name, value in found.items()}


def _toml(value: Setting) -> str:
    return f'"{value}"' if isinstance(value, str) else f"{value:.6g}"
