"""Search over networks and their settings, by Optuna, on held-out rows.

Trials run in processes of one thread each, as many as there are cores: two fits of one thread beat
one of two. The study is a file in the home, so that a search that was killed goes on, and one that
is asked for more trials adds to those that ended. The first trials are the networks with their own
defaults, and the spec's own settings stay unless another one is better on held-out rows beyond the
noise: by the loss, or by the metric that the user named.

Laws: no process of a search outlives it, and none hears Ctrl-C but by the search.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import joblib
import msgspec
import numpy as np
import optuna
import torch
from optuna.trial import TrialState

from steadynet.networks import check_network
from steadynet.spec.losses import own_sense
from steadynet.spec.model import TrainingSpec
from steadynet.training.components import Ground
from steadynet.training.joint import joint_data
from steadynet.training.progress import Progress, TrialEnded
from steadynet.training.search_trial import (
    HeldResult,
    TrialJob,
    TrialOutcome,
    apart,
    end_with_parent,
    run_trial,
)
from steadynet.training.study import (
    JOURNAL,
    StudyPlace,
    count_ended,
    give_back,
    only_search,
    open_study,
)

NETWORKS = ("ensemble", "tabm", "realmlp", "resnet")
"""What is searched. The transformer and the mixture of experts cost more than they bring."""
WITH_MEMBERS = ("ensemble", "tabm")
"""Networks whose number of members is a setting."""
NOISE = 1.0
"""Standard errors of the paired difference by which a trial must beat the spec's own settings."""
OWN = "own.npy"
"""What the spec's own settings did on held-out rows, as `HeldResult.kept`."""
STOP = "stop"
"""While there is such a file, trials end."""
TIME_SHARE = 0.7
"""Of the time left, the rest being for the last fit."""
FEWEST_FOR_IMPORTANCE = 10

Setting = str | int | float


class SearchReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found."""

    trials: int
    pruned: int
    failed: int
    metric: str
    """What trials were judged by on held-out rows: `loss`, or the metric that the user named."""
    own: float
    """The metric of the spec's own settings."""
    best: float
    """The best trial's metric."""
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
    ground: Ground, training: TrainingSpec, context: SearchContext
) -> tuple[TrainingSpec, SearchReport]:
    """Try `training.search_trials` settings; return the spec to fit with, and what was found.

    Where `context.stop` becomes true, or the deadline comes, trials end early and what is known by
    then decides. Raises `SpecError` where the spec names a network that there is not, and
    `UserError` where another process is at the same study.
    """
    for name in networks_of(training):
        check_network(name, "training.search_networks")
    context.folder.mkdir(parents=True, exist_ok=True)
    with only_search(context.folder):
        return _search(ground, training, context)


def _search(
    ground: Ground, training: TrainingSpec, context: SearchContext
) -> tuple[TrainingSpec, SearchReport]:
    (context.folder / STOP).unlink(missing_ok=True)
    place = StudyPlace(str(context.folder / JOURNAL), context.identity)
    study = open_study(place, training.seed)
    for settings in _first_trials(training):
        study.enqueue_trial(settings, skip_if_exists=True)
    before = time.perf_counter()
    deadline = before + (context.deadline - before) * TIME_SHARE
    workers = context.workers or training.workers or joblib.cpu_count()
    run = _Run(_on_the_processor(ground), training, context, study, place, deadline)
    with (
        ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=end_with_parent
        ) as pool,
        ExitStack() as cut_short,
    ):
        # Leaving the block waits for the trials that run.
        cut_short.callback((context.folder / STOP).touch)
        _run_trials(run, pool, workers)
        cut_short.pop_all()
    return _choose(study, run.ground, training, context)


@dataclass(frozen=True)
class _Run:
    """A search under way."""

    ground: Ground
    training: TrainingSpec
    context: SearchContext
    study: optuna.Study
    place: StudyPlace
    deadline: float

    def job(self, settings: Mapping[str, Setting], number: int | None) -> TrialJob:
        """Return what a worker is told of a trial; without a number, of the spec's own settings."""
        folder = self.context.folder
        return TrialJob(
            training=settings_of(self.training, settings),
            ends_at=time.time() + self.deadline - time.perf_counter(),
            held=str(folder / OWN if number is None else _held(folder, number)),
            stop=str(folder / STOP),
            place=self.place,
            number=number,
        )


def _held(folder: Path, number: int) -> Path:
    return folder / f"trial-{number}.npy"


def _on_the_processor(ground: Ground) -> Ground:
    """Return the ground for workers, which share no GPU."""
    if ground.data.target.device.type == "cpu":
        return ground
    data = joint_data(ground.tensors, ground.targets, torch.device("cpu"), ground.weights)
    return replace(ground, data=data)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that are started in the block not hear Ctrl-C, for good.

    A terminal sends it to all processes of a command; only the first one shall decide. A process
    inherits the signals that are blocked where it is started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def settings_of(training: TrainingSpec, settings: Mapping[str, Setting]) -> TrainingSpec:
    """Return the spec with a trial's settings."""
    return msgspec.structs.replace(training, search_trials=0, **dict(settings))


def networks_of(training: TrainingSpec) -> tuple[str, ...]:
    """Return the networks that a search tries: those that the spec names, or `NETWORKS`."""
    return training.search_networks or NETWORKS


def suggest(
    trial: optuna.trial.BaseTrial, networks: Sequence[str] = NETWORKS
) -> dict[str, Setting]:
    """Draw settings. The ranges are those of the networks' papers, around Muon's step sizes."""
    network = trial.suggest_categorical("network", list(networks))
    found: dict[str, Setting] = {
        "network": network,
        "width": trial.suggest_int("width", 32, 320, step=32),
        "depth": trial.suggest_int("depth", 1, 4),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 3e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-2, 3.0, log=True),
        "batch_rows": 2 ** trial.suggest_int("log2_batch_rows", 5, 9),
    }
    if network in WITH_MEMBERS:
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
        common | {"network": name} | ({"members": 8} if name in WITH_MEMBERS else {})
        for name in networks_of(training)
    ]


def _run_trials(run: _Run, pool: ProcessPoolExecutor, workers: int) -> None:
    """Keep every worker busy until the trials are done, time is up or the user stops it."""
    study, context, training = run.study, run.context, run.training
    running: dict[Future[TrialOutcome], int | None] = {}

    def submit(settings: dict[str, Setting], number: int | None) -> None:
        with _deaf_to_interrupts():
            running[pool.submit(run_trial, run.ground, run.job(settings, number))] = number

    if not (context.folder / OWN).is_file():
        submit({}, None)
    failures = 0
    while True:
        open_slots = workers - len(running)
        started = count_ended(study) + sum(number is not None for number in running.values())
        stopped = context.stop()
        if stopped:
            (context.folder / STOP).touch()
        over = stopped or time.perf_counter() >= run.deadline or failures > workers + 3
        for _ in range(0 if over else min(open_slots, training.search_trials - started)):
            trial = study.ask()
            submit(suggest(trial, networks_of(training)), trial.number)
        if not running:
            return
        done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
        for future in done:
            number = running.pop(future)
            outcome = future.result()
            failures += outcome.state == "failed"
            if number is not None:
                _tell(study, number, outcome)
            if number is not None and outcome.state != "stopped":
                _show(run, outcome)


def _tell(study: optuna.Study, number: int, outcome: TrialOutcome) -> None:
    if outcome.state == "stopped":
        give_back(study, number)
    elif outcome.state == "complete":
        study.tell(number, outcome.score)
    else:
        pruned = outcome.state == "pruned"
        study.tell(number, state=TrialState.PRUNED if pruned else TrialState.FAIL)


def _show(run: _Run, outcome: TrialOutcome) -> None:
    metric, study = run.ground.code.metric, run.study
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = min((trial.value for trial in complete if trial.value is not None), default=math.nan)
    run.context.progress.on(
        TrialEnded(
            number=count_ended(study),
            count=run.training.search_trials,
            state=outcome.state,
            metric=_metric_name(run.ground),
            value=own_sense(metric, outcome.score),
            best=own_sense(metric, best),
        )
    )


def _metric_name(ground: Ground) -> str:
    return "loss" if ground.code.metric == "auto" else ground.code.metric


def _choose(
    study: optuna.Study, ground: Ground, training: TrainingSpec, context: SearchContext
) -> tuple[TrainingSpec, SearchReport]:
    complete = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if trial.value is not None
    ]
    own = _load(context.folder / OWN, ground)
    taken: dict[str, Setting] = {}
    best = min(complete, key=lambda trial: trial.value or 0.0, default=None)
    if best is not None:
        found = _load(_held(context.folder, best.number), ground)
        if own is not None and found is not None:
            worse_by, error = apart(own.kept, found.kept, ground)
            if worse_by > NOISE * error:
                taken = suggest(optuna.trial.FixedTrial(best.params), networks_of(training))
        for trial in complete:
            if trial.number != best.number:
                _held(context.folder, trial.number).unlink(missing_ok=True)
    metric = ground.code.metric
    own_score = math.nan if own is None else own.score
    best_score = math.nan if best is None or best.value is None else best.value
    report = SearchReport(
        trials=count_ended(study),
        pruned=len(study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))),
        failed=len(study.get_trials(deepcopy=False, states=(TrialState.FAIL,))),
        metric=_metric_name(ground),
        own=own_sense(metric, own_score),
        best=own_sense(metric, best_score),
        settings=taken,
        importance=_importance(study, len(complete)),
    )
    return settings_of(training, taken), report


def _load(path: Path, ground: Ground) -> HeldResult | None:
    if not path.is_file():
        return None
    return HeldResult.kept_before(np.load(path, allow_pickle=False), ground)


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
