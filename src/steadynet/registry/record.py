"""What a training tells the registry about itself. Plain data."""

from __future__ import annotations

import msgspec


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One training run, as MLflow shows it."""

    parameters: dict[str, str | float | int | bool | None] = msgspec.field(default_factory=dict)
    """What was chosen: the spec's keys, flattened with dots."""
    history: tuple[dict[str, float], ...] = ()
    """Metric → value for each epoch, from the first."""
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    """Final metrics, as `test.auc` and `linear.auc`."""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    """What else identifies the run, as the snapshot's digest."""
