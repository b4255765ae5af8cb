"""Expanding windows: no fit sees a row that is newer than its block, and who has no answer decides
nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.errors import SpecError
from steadynet.home import Home
from steadynet.spec.model import CalibrationSpec, Spec, SplitSpec, TableSpec, TrainingSpec
from steadynet.table.split import Split
from steadynet.training.data import ROWS_PER_FOLD
from steadynet.training.progress import Event, StepStarted
from steadynet.training.refit import AGAIN
from steadynet.training.run import Trained, train
from steadynet.training.windows import earlier_windows

ROWS = 500
BLOCK = "fitting on the rows before an earlier block, {} of 2"


def split_by_time(moments: np.ndarray) -> Split:
    """Cut rows at two moments as the table's split does, some rows without a time among them."""
    order = np.argsort(moments, kind="stable")
    ordered = moments[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    validation, test = (starts[int(len(starts) * share)] for share in (0.7, 0.85))
    return Split(order[:validation], order[validation:test], order[test:])


@settings(deadline=None, max_examples=200)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=6, max_size=40),
    count=st.integers(0, 8),
    undated=st.integers(0, 20),
    seed=st.integers(0, 99),
)
def test_every_window_is_older_than_its_block_and_no_row_is_answered_twice(
    sizes: list[int], count: int, undated: int, seed: int
) -> None:
    moments = np.repeat(np.arange(len(sizes), dtype=float), sizes)
    moments = np.concatenate([np.full(undated, -np.inf), moments])
    moments = np.random.default_rng(seed).permutation(moments)
    split = split_by_time(moments)
    windows = earlier_windows(split, moments, count)
    assert len(windows) <= count
    train = set(split.train.tolist())
    answered: list[int] = split.validation.tolist()
    for window in windows:
        fit, held = window.fit[0], window.held[0]
        assert window.fit.shape[0] == window.held.shape[0] == 1
        assert min(len(fit), len(held)) >= ROWS_PER_FOLD
        assert moments[fit].max() < moments[held].min()
        assert set(fit.tolist()) == {row for row in train if moments[row] < moments[held].min()}
        answered += held.tolist()
    assert len(set(answered)) == len(answered)
    assert set(answered) <= train | set(split.validation.tolist())
    newest = [moments[window.held[0]].max() for window in windows]
    assert newest == sorted(newest, reverse=True)


def test_blocks_are_as_large_as_the_validation_part_or_share_the_training_part_out() -> None:
    moments = np.arange(100.0)
    split = Split(np.arange(70), np.arange(70, 85), np.arange(85, 100))
    sizes = [len(window.held[0]) for window in earlier_windows(split, moments, 2)]
    assert sizes == [15, 15]
    sizes = [len(window.held[0]) for window in earlier_windows(split, moments, 5)]
    assert sizes == [11, 11, 11, 11, 11]
    # Blocks of two rows would say nothing.
    sizes = [len(window.held[0]) for window in earlier_windows(split, moments, 30)]
    assert sizes == [ROWS_PER_FOLD] * 6


def test_a_table_of_few_moments_has_fewer_windows() -> None:
    moments = np.repeat(np.arange(4.0), 25)
    split = Split(np.arange(50), np.arange(50, 75), np.arange(75, 100))
    (only,) = earlier_windows(split, moments, 5)
    assert only.fit[0].tolist() == list(range(25))
    assert only.held[0].tolist() == list(range(25, 50))


def noisy_table() -> pl.DataFrame:
    """Return numbers whose noise is three times as large in the validation part as before it."""
    random = np.random.default_rng(5)
    day = np.arange(ROWS)
    x = random.normal(size=ROWS)
    noise = np.where((day >= 0.7 * ROWS) & (day < 0.85 * ROWS), 3.0, 1.0)
    y = 2 * x + noise * random.normal(size=ROWS)
    return pl.DataFrame({"day": day, "x": x, "y": y}).sample(fraction=1, shuffle=True, seed=1)


def fitted(
    folder: Path, *, stop_at: str = "", interval: Any = "constant", **training: Any
) -> tuple[Trained, list[str]]:
    """Train one small network by time; return it with its steps. It stops once at a step."""
    plain: dict[str, Any] = {"width": 16, "members": 2, "max_epochs": 3, "pictures": False}
    steps: list[str] = []

    class Recorder:
        def on(self, event: Event) -> None:
            if isinstance(event, StepStarted):
                steps.append(event.step)

    trained = train(
        noisy_table(),
        Spec(
            table=TableSpec(target="y"),
            split=SplitSpec(time_column="day"),
            training=TrainingSpec(**(plain | training)),
            calibration=CalibrationSpec(interval=interval),
        ),
        home=Home(folder),
        name="m",
        progress=Recorder(),
        stop=lambda: stop_at in steps,
        resume=False,
    )
    return trained, steps


def half_width(trained: Trained) -> float:
    """Return the interval's half width as the notes tell it."""
    return float(trained.manifest.notes["interval"].rpartition("half width ")[2])


def rmse(trained: Trained) -> float:
    """Return the test part's error."""
    return trained.manifest.metrics["test"]["rmse"].value


def test_intervals_rest_on_every_block_and_the_answer_is_the_last_windows(tmp_path: Path) -> None:
    alone, steps = fitted(tmp_path / "a", trees="never", refit="never")
    assert BLOCK.format(1) not in steps
    assert "windows" not in alone.manifest.notes
    three, steps = fitted(tmp_path / "b", trees="never", refit="never", folds=3)
    assert [step for step in steps if "earlier block" in step] == [BLOCK.format(1), BLOCK.format(2)]
    words = three.manifest.notes["windows"]
    assert "225 rows in 3 blocks" in words
    # One network: its answers are the same, and so is how it was found.
    assert rmse(three) == rmse(alone)
    assert three.history == alone.history
    # The noisy block is a third of the rows that the interval is found on, not all of them.
    assert half_width(three) < 0.8 * half_width(alone)
    assert "validation" in three.manifest.metrics


@pytest.mark.slow
def test_a_blend_is_weighed_over_windows_and_fitted_once_more_on_everything(
    tmp_path: Path,
) -> None:
    trained, steps = fitted(tmp_path, folds=3)
    assert steps.index(BLOCK.format(2)) < steps.index(AGAIN)
    notes = trained.manifest.notes
    assert "225 rows in 3 blocks" in notes["windows"]
    assert "fitted once more on 425 rows" in notes["refit"]
    assert [share.name for share in trained.shares] == ["network", "trees"]
    # What every member has seen is no validation any more.
    assert "validation" not in trained.manifest.metrics


def test_who_stops_at_a_window_keeps_those_before_it(tmp_path: Path) -> None:
    trained, steps = fitted(tmp_path, trees="never", folds=3, stop_at=BLOCK.format(2))
    assert AGAIN not in steps
    assert "150 rows in 2 blocks" in trained.manifest.notes["windows"]


def test_a_crossed_interval_needs_groups_that_windows_are_not(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no split by time"):
        fitted(tmp_path, trees="never", folds=2, interval="cross")
