"""A search finds what is better, goes on after a kill, and leaves good settings alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from steadynet.features.run import Tensors
from steadynet.spec.model import TrainingSpec
from steadynet.training.components import Ground
from steadynet.training.progress import Event, TrialEnded
from steadynet.training.search import (
    NETWORKS,
    SearchContext,
    SearchReport,
    _open_study,
    search,
    settings_of,
    suggest,
)

if TYPE_CHECKING:
    from tests.training.conftest import Problem

Make = Callable[..., "Problem"]


class Recorder:
    """Keeps the trials that ended."""

    def __init__(self) -> None:
        self.trials: list[TrialEnded] = []

    def on(self, event: Event) -> None:
        """Keep a trial."""
        if isinstance(event, TrialEnded):
            self.trials.append(event)


def ground_of(made: Problem) -> Ground:
    """Return what a search works on."""
    return Ground(
        tensors=Tensors(made.data.numbers.numpy(), made.data.categories.numpy()),
        target=made.raw_target,
        layout=made.layout,
        folds=made.folds,
        code=made.data.code,
        data=made.data,
    )


def context_of(folder: Path, recorder: Recorder, trials_left: int = 10**6) -> SearchContext:
    """Return a search in a folder that is stopped after so many trials."""
    return SearchContext(
        folder=folder,
        identity="one",
        progress=recorder,
        stop=lambda: len(recorder.trials) >= trials_left,
        workers=1,
    )


@pytest.mark.slow
def test_a_search_mends_bad_settings_and_goes_on_where_it_was_ended(
    problem: Make, tmp_path: Path
) -> None:
    ground = ground_of(problem("regression", rows=500))
    bad = TrainingSpec(network="mlp", learning_rate=1e-6, max_epochs=4, search_trials=6)
    first = Recorder()
    search(ground, bad, True, context_of(tmp_path, first, trials_left=3))
    assert 3 <= len(first.trials) < 6
    second = Recorder()
    chosen, report = search(ground, bad, True, context_of(tmp_path, second))
    assert len(first.trials) + len(second.trials) == report.trials == 6
    assert chosen.network in NETWORKS
    assert chosen.search_trials == 0
    assert report.best_loss < 0.8 * report.own_loss
    assert report.settings["network"] == chosen.network
    assert report.toml().startswith('[training]\nnetwork = "')
    again, _ = search(ground, bad, True, context_of(tmp_path, Recorder()))
    assert again == chosen


def test_trials_that_ran_when_the_process_was_killed_are_ended(tmp_path: Path) -> None:
    context = context_of(tmp_path, Recorder())
    study = _open_study(context, 0)
    suggest(study.ask())
    assert study.trials[0].state == TrialState.RUNNING
    from steadynet.training.search import _end_stale

    reopened = _open_study(context, 0)
    _end_stale(reopened)
    assert reopened.trials[0].state == TrialState.FAIL


def test_every_drawn_setting_is_a_key_of_the_spec() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(30):
        settings = suggest(study.ask())
        seen.add(settings["network"])
        made = settings_of(TrainingSpec(search_trials=5), settings)
        assert msgspec.structs.asdict(made)["width"] == settings["width"]
        assert 32 <= made.batch_rows <= 512  # type: ignore[operator]
    assert seen == set(NETWORKS)


def test_a_report_without_better_settings_has_no_lines() -> None:
    report = SearchReport(
        trials=3,
        pruned=1,
        failed=0,
        own_loss=0.5,
        best_loss=float(np.nan),
        settings={},
        importance={},
    )
    assert report.toml() == ""
