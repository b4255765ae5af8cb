"""The training's display, and what Ctrl-C does."""

from __future__ import annotations

import io
import os
import signal

import msgspec
import pytest
from rich.console import Console

from steadynet.cli.progress import Interrupts, event_words, show_progress
from steadynet.training.progress import EpochEnded, Event, Resumed, Retried, StepStarted


def epoch(number: int) -> EpochEnded:
    return EpochEnded(
        epoch=number,
        epochs=40,
        train_loss=0.31,
        held_loss=0.33,
        metric="auc",
        metric_value=0.87654,
        best_loss=0.32,
        best_epoch=3,
        rows_per_s=12_345.0,
        seconds_left=65.0,
    )


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120)


def written(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


def test_a_log_gets_a_line_per_step_and_every_tenth_epoch() -> None:
    quiet = console(terminal=False)
    with show_progress(quiet) as progress:
        progress.on(StepStarted(step="fitting the network"))
        for number in range(1, 22):
            progress.on(epoch(number))
    lines = written(quiet).splitlines()
    assert lines[0] == "fitting the network"
    assert [line.split()[1] for line in lines[1:]] == ["1/40", "11/40", "21/40"]


def test_a_terminal_shows_the_newest_epoch_in_place() -> None:
    shown = console(terminal=True)
    with show_progress(shown) as progress:
        progress.on(StepStarted(step="fitting the network"))
        progress.on(epoch(7))
        text = written(shown)
    assert "fitting the network" in text
    text = written(shown)
    for part in ("7/40", "0.8765", "0.3200 (epoch 3)", "12,345", "65 s"):
        assert part in text


def test_rows_that_a_second_fit_takes_in_are_not_called_held_out() -> None:
    again = msgspec.structs.replace(epoch(11), held_is_fitted=True)
    assert "held out" in event_words(epoch(11))
    words = event_words(again)
    assert "validation rows (fitted too) 0.3300" in words
    assert "held out" not in words
    assert "best" not in words
    shown = console(terminal=True)
    with show_progress(shown) as progress:
        progress.on(again)
    assert "fitted too" in written(shown)
    assert "held out" not in written(shown)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Resumed(epoch=5), "goes on after epoch 5"),
        (Retried(epoch=2, learning_rate=2e-4, retry=1), "the step size is 0.0002 (retry 1)"),
        (StepStarted(step="calibrating"), "calibrating"),
        (epoch(1), "at most 65 s left"),
    ],
)
def test_every_event_has_words(event: Event, words: str) -> None:
    assert words in event_words(event)


def test_without_ctrl_c_nothing_is_wanted_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts(console(terminal=False), "keep").caught() as wanted:
        assert not wanted()
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_the_first_ctrl_c_keeps_the_best_so_far_where_asked_to() -> None:
    interrupts = Interrupts(console(terminal=False), "keep")
    with interrupts.caught() as wanted:
        os.kill(os.getpid(), signal.SIGINT)
        assert wanted()
        assert wanted()
    assert interrupts.kept


@pytest.mark.parametrize("choice", ["discard", "ask"])
def test_the_first_ctrl_c_ends_the_run_between_steps_otherwise(
    choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    told = console(terminal=False)
    interrupts = Interrupts(told, "discard" if choice == "discard" else "ask")
    with interrupts.caught() as wanted:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            wanted()
    assert "Ctrl-C again stops at once" in written(told)


def test_the_second_ctrl_c_ends_it_at_once() -> None:
    with Interrupts(console(terminal=False), "keep").caught():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
