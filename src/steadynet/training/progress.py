"""What training tells while it runs. Whoever shows it implements `Progress`."""

from __future__ import annotations

from typing import Protocol

import msgspec


class StepStarted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A step of `training.run.train` begins."""

    step: str
    """As "reading the table"."""


class EpochEnded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One pass over the training rows is done."""

    epoch: int
    """From 1."""
    epochs: int
    """As many at most."""
    train_loss: float
    held_loss: float
    """On held-out rows: the loss (log-loss, or mean squared error of the standardised target), or
    the metric that the user named, with a minus sign where more is better."""
    judged_by: str = "auto"
    """`[training] metric`."""
    metric: str
    """Name of the metric: `auc`, or `rmse` in the target's unit."""
    metric_value: float
    best_loss: float
    best_epoch: int
    rows_per_s: float
    seconds_left: float
    """An upper estimate: without early stopping."""
    held_is_fitted: bool = False
    """Whether the held rows are fitted too, as in a second fit, so that they choose nothing."""


class Retried(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The loss was not finite; the last good state is back and the step size is lower."""

    epoch: int
    learning_rate: float
    retry: int


class Resumed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An earlier, killed run goes on."""

    epoch: int
    """Epochs that were done already."""


class ComponentStarted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A component of a blend begins to be fitted."""

    name: str
    number: int
    """From 1."""
    count: int


class ComponentEnded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A component of a blend is fitted."""

    name: str
    seconds: float


class TrialEnded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A trial of a search ended."""

    number: int
    """Trials that ended so far."""
    count: int
    state: str
    """"complete", "pruned" or "failed"."""
    metric: str
    """`loss`, or the metric that the user named."""
    value: float
    """On held-out rows; NaN unless complete."""
    best: float


Event = (
    StepStarted | EpochEnded | Retried | Resumed | ComponentStarted | ComponentEnded | TrialEnded
)


class Progress(Protocol):
    """Gets every event, in order, in the thread that trains."""

    def on(self, event: Event) -> None:
        """Take an event. What it raises ends the training."""
        ...


class Silent:
    """Shows nothing."""

    def on(self, event: Event) -> None:
        """Ignore the event."""
