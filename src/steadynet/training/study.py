"""The study of a search: a journal file that outlives a kill.

Laws: a trial that ended is never run again; one that was running when the process was killed is
waiting when the study is opened again, with the same settings.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from steadynet.errors import UserError

JOURNAL = "search.journal"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class KernelLock:
    """What writes to the journal holds; the kernel lets go of it where a process is killed.

    Optuna's own locks are files, which stay behind a kill and are waited for.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._held: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        held = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(held, fcntl.LOCK_EX)
        self._held = held
        return True

    def release(self) -> None:
        """Let go of it."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


@contextmanager
def only_search(folder: Path) -> Iterator[None]:
    """Hold a study's folder; raise `UserError` where another process searches there."""
    with (folder / "searching").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                "the same search runs in another process",
                do="Wait for its end; the same command then goes on from its trials.",
            ) from error
        yield


@dataclass(frozen=True)
class StudyPlace:
    """Where a study is kept: the journal's file and the study's name in it."""

    journal: str
    name: str

    def storage(self) -> JournalStorage:
        """Return the storage."""
        lock = KernelLock(f"{self.journal}.lock")
        return JournalStorage(JournalFileBackend(self.journal, lock_obj=lock))

    def trial(self, number: int) -> optuna.trial.Trial:
        """Return a running trial, for the process that runs it."""
        storage = self.storage()
        study = optuna.load_study(study_name=self.name, storage=storage, pruner=pruner())
        study_id = storage.get_study_id_from_name(self.name)
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)
        return optuna.trial.Trial(study, int(trial_id))


def pruner() -> optuna.pruners.BasePruner:
    """Return what ends trials early: a loss above the median of earlier ones at that epoch."""
    return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2)


def open_study(place: StudyPlace, seed: int) -> optuna.Study:
    """Open a study, or begin it; trials that a kill broke off wait to be run again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _drop_torn_line(Path(place.journal))
    study = optuna.create_study(
        storage=place.storage(),
        study_name=place.name,
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, constant_liar=True),
        pruner=pruner(),
        load_if_exists=True,
    )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        give_back(study, trial.number)
    return study


def give_back(study: optuna.Study, number: int) -> None:
    """End a running trial without a result, and let its settings wait for another run."""
    settings = dict(study.trials[number].params)
    study.tell(number, state=TrialState.FAIL)
    if settings:
        study.enqueue_trial(settings)


def count_ended(study: optuna.Study) -> int:
    """Return how many trials came to an end, pruned ones too."""
    return len(study.get_trials(deepcopy=False, states=ENDED))


def _drop_torn_line(journal: Path) -> None:
    """Cut off what a kill left of a last line: the next one would be written onto it."""
    if not journal.is_file():
        return
    content = journal.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with journal.open("r+b") as file:
            file.truncate(whole)
