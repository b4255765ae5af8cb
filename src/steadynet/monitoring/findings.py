"""What the controller has found of one model, as it lets the workers tell Prometheus.

Written as one file after each look; a worker that is asked for metrics reads it. Plain data.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from steadynet.monitoring.reports import AlertKind, DriftVerdict, Objective, QualityVerdict

HealingState = Literal["idle", "waiting", "running", "stopped"]
RolloutPhase = Literal[
    "none", "pending", "shadow", "canary", "awaiting_approval", "promoted", "aborted"
]

HEALING_STATES: tuple[HealingState, ...] = get_args(HealingState)
ROLLOUT_PHASES: tuple[RolloutPhase, ...] = get_args(RolloutPhase)
QUALITY_VERDICTS: tuple[QualityVerdict, ...] = get_args(QualityVerdict)
DRIFT_VERDICTS: tuple[DriftVerdict, ...] = get_args(DriftVerdict)


class SecondsSpent(msgspec.Struct, frozen=True):
    """The time of an objective that counts seconds. Neither number ever falls."""

    measured: float
    bad: float


class Findings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model at one moment."""

    model: str
    at: float
    """When the controller looked, seconds UTC."""
    champion: str
    trained: float
    """When the champion was trained, seconds UTC."""
    quality: QualityVerdict = "not_yet"
    loss: float | None = None
    loss_reference: float | None = None
    labelled_rows: int = 0
    """Rows that quality was last judged on."""
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    """Metrics of `runtime.metrics` on them."""
    drift: DriftVerdict = "not_yet"
    psi: dict[str, float] = msgspec.field(default_factory=dict)
    """Feature, or `(output)`, → population stability index."""
    drifted: tuple[str, ...] = ()
    """Names whose drift is sustained."""
    spent: dict[Objective, SecondsSpent] = msgspec.field(default_factory=dict)
    phase: RolloutPhase = "none"
    """Where the newest rollout stands."""
    challenger: str = ""
    share: float = 0.0
    """Share of the traffic that the challenger answers."""
    healing: HealingState = "idle"
    failed_retrains: int = 0
    """In a row."""
    alerts: dict[AlertKind, int] = msgspec.field(default_factory=dict)
    """Open alerts."""
    undelivered: int = 0
    """Messages that wait for a receiver."""
    given_up: int = 0
    """Messages that no receiver took in the end."""
