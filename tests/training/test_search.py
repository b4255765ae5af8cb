"""A search finds what is better, goes on after a kill, and leaves good settings alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from steadynet.cli.progress import event_words
from steadynet.errors import SpecError, UserError
from steadynet.features.run import Tensors
from steadynet.home import Home
from steadynet.spec.losses import MetricChoice
from steadynet.spec.model import Spec, TrainingSpec
from steadynet.table.convert import Truth
from steadynet.training.components import Ground
from steadynet.training.joint import fit_targets
from steadynet.training.progress import Event, TrialEnded
from steadynet.training.runs import study_place
from steadynet.training.search import (
    NETWORKS,
    SearchContext,
    SearchReport,
    search,
    settings_of,
    suggest,
)
from steadynet.training.search_trial import HeldResult, apart
from steadynet.training.study import JOURNAL, StudyPlace, count_ended, only_search, open_study
from steadynet.training.wording import search_words

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
    truth = Truth(made.raw_target, np.ones(len(made.raw_target), bool))
    return Ground(
        tensors=Tensors(made.data.numbers.numpy(), made.data.categories.numpy()),
        targets=fit_targets(["answer"], [truth], [made.data.code], made.folds.fitted),
        layout=made.layout,
        folds=made.folds,
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
    search(ground, bad, context_of(tmp_path, first, trials_left=3))
    assert 3 <= len(first.trials) < 6
    second = Recorder()
    chosen, report = search(ground, bad, context_of(tmp_path, second))
    assert len(first.trials) + len(second.trials) == report.trials == 6
    assert chosen.network in NETWORKS
    assert chosen.search_trials == 0
    assert report.metric == "loss"
    assert report.best < 0.8 * report.own
    assert report.settings["network"] == chosen.network
    assert report.toml().startswith('[training]\nnetwork = "')
    again, _ = search(ground, bad, context_of(tmp_path, Recorder()))
    assert again == chosen


@pytest.mark.slow
def test_a_search_goes_by_the_metric_that_the_user_named(problem: Make, tmp_path: Path) -> None:
    made = problem("binary", rows=400)
    judged = replace(made.data, code=replace(made.data.code, metric="auc"))
    ground = ground_of(replace(made, data=judged))
    bad = TrainingSpec(network="mlp", learning_rate=1e-6, max_epochs=3, search_trials=2)
    recorder = Recorder()
    _, report = search(ground, bad, context_of(tmp_path, recorder))
    assert report.metric == "auc"
    assert 0.5 < report.best <= 1.0
    assert report.best == max(trial.best for trial in recorder.trials)
    assert {trial.metric for trial in recorder.trials} == {"auc"}
    assert "held-out auc" in search_words(report)
    assert "held-out auc" in event_words(recorder.trials[0])


def test_what_a_trial_did_is_judged_as_the_blend_is(problem: Make) -> None:
    """By the loss of every row, or by the metric of all rows with a jackknife's error."""
    made = problem("binary", rows=400)
    rng = np.random.default_rng(0)
    wanted = made.raw_target[made.folds.held.ravel()]
    good = (3.0 * (2 * wanted - 1) + rng.normal(0, 2, len(wanted)))[:, None, None]
    bad = rng.normal(0, 2, good.shape)
    metrics: tuple[MetricChoice, ...] = ("auto", "auc")
    for metric in metrics:
        code = replace(made.data.code, metric=metric)
        ground = ground_of(replace(made, data=replace(made.data, code=code)))
        outputs = [np.asarray(each, np.float32) for each in (good, bad)]
        better, worse = (HeldResult.of(each, ground) for each in outputs)
        assert HeldResult.kept_before(better.kept, ground).score == better.score
        assert better.score < worse.score
        rise, error = apart(worse.kept, better.kept, ground)
        assert rise == pytest.approx(worse.score - better.score)
        assert rise > 3 * error > 0


def test_trials_that_ran_when_the_process_was_killed_wait_to_be_run_again(tmp_path: Path) -> None:
    place = StudyPlace(str(tmp_path / JOURNAL), "one")
    study = open_study(place, 0)
    drawn = suggest(study.ask())
    study.tell(0, 0.5)
    broken_off = suggest(study.ask())
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"op_code": 6, "torn')
    reopened = open_study(place, 0)
    states = [trial.state for trial in reopened.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING]
    assert count_ended(reopened) == 1
    assert suggest(reopened.ask()) == broken_off != drawn


@pytest.mark.slow
def test_trials_that_the_user_stopped_wait_to_be_run_again(problem: Make, tmp_path: Path) -> None:
    ground = ground_of(problem("binary", rows=100))
    training = TrainingSpec(max_epochs=4, search_trials=3)
    chosen, report = search(ground, training, context_of(tmp_path, Recorder(), trials_left=0))
    assert settings_of(training, {}) == chosen
    assert (report.trials, report.settings) == (0, {})
    assert np.isnan(report.own)


@pytest.mark.slow
def test_a_search_tries_the_networks_that_the_spec_names(problem: Make, tmp_path: Path) -> None:
    only = TrainingSpec(max_epochs=1, search_trials=1, search_networks=("resnet",))
    _, report = search(ground_of(problem()), only, context_of(tmp_path, Recorder()))
    assert report.trials == 1
    place = StudyPlace(str(tmp_path / JOURNAL), "one")
    assert open_study(place, 0).trials[0].params["network"] == "resnet"
    unknown = TrainingSpec(search_trials=1, search_networks=("resnets",))
    with pytest.raises(SpecError, match=r"training.search_networks .* got 'resnets'"):
        search(ground_of(problem()), unknown, context_of(tmp_path, Recorder()))


def test_two_processes_never_search_in_one_study(tmp_path: Path) -> None:
    another = pytest.raises(UserError, match="runs in another process")
    with only_search(tmp_path), another, only_search(tmp_path):
        pass
    with only_search(tmp_path):
        pass


def test_more_trials_or_time_make_no_other_study_and_other_settings_do(tmp_path: Path) -> None:
    def place(**training: Any) -> tuple[Path, str]:
        return study_place(Home(tmp_path), "m", Spec(training=TrainingSpec(**training)), "digest")

    first = place(search_trials=20)
    assert place(search_trials=50, time_limit_s=60.0) == first
    assert place(search_trials=20, depth=3) != first
    assert first[0].is_relative_to(Home(tmp_path).runs)


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
        metric="loss",
        own=0.5,
        best=float(np.nan),
        settings={},
        importance={},
    )
    assert report.toml() == ""
