"""Training as it runs: a live display on a terminal, plain lines in a log. On stderr."""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal, assert_never

from rich.console import Console
from rich.live import Live
from rich.table import Table

from steadynet.control.stories import duration
from steadynet.spec.losses import own_sense
from steadynet.training.progress import (
    ComponentEnded,
    ComponentStarted,
    EpochEnded,
    Event,
    Progress,
    Resumed,
    Retried,
    StepStarted,
    TrialEnded,
)

OnInterrupt = Literal["ask", "keep", "discard"]
LINES_EVERY = 10
"""Epochs between two lines of a log."""


class LiveProgress:
    """Shows the newest epoch in place, and each step of the training below the other."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live

    def on(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, EpochEnded):
            self._live.update(_epoch_table(event))
        else:
            self._console.print(f"[dim]·[/] {event_words(event)}")


class LineProgress:
    """Writes one line per step and every tenth epoch."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def on(self, event: Event) -> None:
        """Write an event, unless it is an epoch between two lines."""
        if not isinstance(event, EpochEnded) or event.epoch % LINES_EVERY == 1:
            self._console.print(event_words(event), markup=False)


@contextmanager
def show_progress(console: Console) -> Iterator[Progress]:
    """Show a training while the block runs, as fits the console."""
    if not console.is_terminal:
        yield LineProgress(console)
        return
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        yield LiveProgress(console, live)


def event_words(event: Event) -> str:
    """Return an event as one line."""
    if isinstance(event, StepStarted):
        return event.step
    if isinstance(event, Retried):
        return (
            f"the loss was not finite in epoch {event.epoch}: the last good state is back and "
            f"the step size is {event.learning_rate:.2g} (retry {event.retry})"
        )
    if isinstance(event, Resumed):
        return f"an interrupted run goes on after epoch {event.epoch}"
    if isinstance(event, ComponentStarted):
        return f"component {event.number} of {event.count}: {event.name}"
    if isinstance(event, ComponentEnded):
        return f"{event.name} is fitted, after {duration(event.seconds)}"
    if isinstance(event, TrialEnded):
        value = "" if math.isnan(event.value) else f", held-out {event.metric} {event.value:.5f}"
        best = f"best {event.best:.5f}"
        return f"trial {event.number} of {event.count}: {event.state}{value}; {best}"
    if isinstance(event, EpochEnded):
        held, best = _held_words(event)
        best_words = "" if event.held_is_fitted else f"best {best} (epoch {event.best_epoch})  "
        return (
            f"epoch {event.epoch}/{event.epochs}  loss {event.train_loss:.4f}  "
            f"{_rows_words(event)} {held}  {event.metric} {event.metric_value:.4f}  {best_words}"
            f"{event.rows_per_s:,.0f} rows/s  at most {duration(event.seconds_left)} left"
        )
    assert_never(event)


def _rows_words(event: EpochEnded) -> str:
    """Return what the rows are that a loss is shown of beside the fitted ones'."""
    return "validation rows (fitted too)" if event.held_is_fitted else "held out"


def _held_words(event: EpochEnded) -> tuple[str, str]:
    """Return what held-out rows show, and the best so far, as the metric is read."""
    held, best = (own_sense(event.judged_by, each) for each in (event.held_loss, event.best_loss))
    name = "" if event.judged_by == "auto" else f"{event.judged_by} "
    return f"{name}{held:.4f}", f"{best:.4f}"


def _epoch_table(event: EpochEnded) -> Table:
    held, best = _held_words(event)
    table = Table(box=None, header_style="dim", padding=(0, 2))
    cells = {
        "epoch": f"{event.epoch}/{event.epochs}",
        "loss": f"{event.train_loss:.4f}",
        _rows_words(event): held,
        event.metric: f"{event.metric_value:.4f}",
        **({} if event.held_is_fitted else {"best": f"{best} (epoch {event.best_epoch})"}),
        "rows/s": f"{event.rows_per_s:,.0f}",
        "left at most": duration(event.seconds_left),
    }
    for name in cells:
        table.add_column(name)
    table.add_row(*cells.values())
    return table


class Interrupts:
    """Ctrl-C during training: the first one ends it in order, the second one at once.

    `wanted` is asked by the training between steps. It returns True where the best so far shall
    be kept, and raises `KeyboardInterrupt` where the run shall end; its checkpoint stays either
    way.
    """

    def __init__(self, console: Console, on_interrupt: OnInterrupt) -> None:
        self._console = console
        self._on_interrupt = on_interrupt
        self._came = False
        self._keep = False

    @property
    def kept(self) -> bool:
        """Whether a run was ended early and its best so far kept."""
        return self._keep

    def wanted(self) -> bool:
        """Tell whether the training shall end with what it has."""
        if not self._came or self._keep:
            return self._keep
        if self._on_interrupt == "keep" or (self._on_interrupt == "ask" and self._ask()):
            self._keep = True
            return True
        raise KeyboardInterrupt

    def _ask(self) -> bool:
        if not sys.stdin.isatty():
            return False
        answer = self._console.input("\nKeep the best so far as a version? (y/N) ")
        return answer.strip().lower() in ("y", "yes")

    @contextmanager
    def caught(self) -> Iterator[Callable[[], bool]]:
        """Catch Ctrl-C while the block runs; yield `wanted`."""
        if threading.current_thread() is not threading.main_thread():
            yield self.wanted
            return
        before = signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield self.wanted
        finally:
            signal.signal(signal.SIGINT, before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._came:
            raise KeyboardInterrupt
        self._came = True
        self._console.print("\nstopping after this step; Ctrl-C again stops at once", markup=False)
