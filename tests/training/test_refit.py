"""A second fit takes in the newest rows, says so, and never leaves half a network behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from steadynet.home import Home
from steadynet.spec.model import Spec, SplitSpec, TableSpec, TrainingSpec
from steadynet.training.progress import EpochEnded, Event, StepStarted
from steadynet.training.refit import AGAIN
from steadynet.training.run import Trained, train

ROWS = 900


def moving_table() -> pl.DataFrame:
    """Return numbers whose level is another one from 70 % of the days on: validation and test."""
    random = np.random.default_rng(3)
    day = np.arange(ROWS)
    x = random.normal(size=ROWS)
    late = day > 0.7 * ROWS
    answer = 3 * x + 8 * late + 0.3 * random.normal(size=ROWS)
    return pl.DataFrame({"day": day, "x": x, "late": late.astype(float) + 0.01 * x, "y": answer})


class Recorder:
    """Keeps the names of the steps."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def on(self, event: Event) -> None:
        """Keep a step; look whether an epoch says of which rows it tells."""
        if isinstance(event, StepStarted):
            self.steps.append(event.step)
        if isinstance(event, EpochEnded):
            assert event.held_is_fitted == (AGAIN in self.steps)


def fitted(
    folder: Path, *, stop_again: bool = False, by_time: bool = True, **training: Any
) -> tuple[Trained, list[str]]:
    """Train a small blend; return it with its steps. `stop_again` stops the second fit."""
    settings = {"width": 16, "members": 2, "folds": 1, "max_epochs": 6, "pictures": False}
    spec = Spec(
        table=TableSpec(target="y"),
        split=SplitSpec(time_column="day" if by_time else None),
        training=TrainingSpec(**(settings | training)),
    )
    recorder = Recorder()
    trained = train(
        moving_table(),
        spec,
        home=Home(folder),
        name="m",
        progress=recorder,
        stop=lambda: stop_again and AGAIN in recorder.steps,
        resume=False,
    )
    return trained, recorder.steps


def rmse(trained: Trained) -> float:
    """Return the test part's error."""
    return trained.manifest.metrics["test"]["rmse"].value


@pytest.mark.slow
def test_the_newest_rows_are_taken_in_where_a_table_is_split_by_time(tmp_path: Path) -> None:
    without, steps = fitted(tmp_path / "a", refit="never")
    assert AGAIN not in steps
    assert "refit" not in without.manifest.notes
    trained, steps = fitted(tmp_path / "b")
    assert AGAIN in steps
    assert rmse(trained) < 0.7 * rmse(without)
    rows = trained.rows["train"] + trained.rows["validation"]
    assert f"fitted once more on {rows} rows" in trained.manifest.notes["refit"]
    assert trained.history == without.history
    # References see the same rows: they gain by the newest ones too.
    for reference in ("linear", "boosted_trees"):
        found = [one.manifest.references[reference]["rmse"] for one in (trained, without)]
        assert found[0] < 0.8 * found[1]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"folds": 3, "refit": "always"}, {"by_time": False}])
def test_rows_that_all_groups_but_one_have_seen_need_no_second_fit(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    by_time = settings.pop("by_time", "folds" not in settings)
    _, steps = fitted(tmp_path, by_time=by_time, **settings)
    assert AGAIN not in steps


@pytest.mark.slow
def test_who_stops_the_second_fit_keeps_the_first(tmp_path: Path) -> None:
    trained, steps = fitted(tmp_path / "a", stop_again=True)
    assert AGAIN in steps
    assert "refit" not in trained.manifest.notes
    without, _ = fitted(tmp_path / "b", refit="never")
    assert rmse(trained) == rmse(without)
