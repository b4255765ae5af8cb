"""What the controller has found of one model, as it lets the workers tell Prometheus.

Written as one file after each look; a worker that is asked for metrics reads it. Plain data.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from steadynet.monitoring.estimate import Estimated
from steadynet.monitoring.label_flow import LabelFlow
from steadynet.monitoring.reports import AlertKind, DriftVerdict, Objective, QualityVerdict

HealingState = Literal["idle", "waiting", "running", "stopped"]
RolloutPhase = Literal[
    "none", "pending", "shadow", "canary", "awaiting_approval", "promoted", "aborted"
]

HEALING_STATES: tuple[HealingState, ...] = get_args(HealingState)
ROLLOUT_PHASES: tuple[RolloutPhase, ...] = get_args(RolloutPhase)
QUALITY_VERDICTS: tuple[QualityVerdict, ...] = get_args(QualityVerdict)
ROLLOUT_OUTCOMES = ("started", "promoted", "aborted")
HEAL_OUTCOMES = ("started", "promoted", "failed")
DRIFT_VERDICTS: tuple[DriftVerdict, ...] = get_args(DriftVerdict)


class SecondsSpent(msgspec.Struct, frozen=True):
    """The time of an objective that counts seconds. Neither number ever falls."""

    measured: float
    bad: float


class Rate(msgspec.Struct, frozen=True):
    """A share of a feature's values, 0 to 1."""

    now: float
    """In the last window."""
    training: float


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
    estimated: dict[str, Estimated] = msgspec.field(default_factory=dict)
    """Metric → its estimate without labels; empty while nothing can be estimated."""
    labels: LabelFlow = LabelFlow()
    """How labels come. Its numbers never fall."""
    drift: DriftVerdict = "not_yet"
    psi: dict[str, float] = msgspec.field(default_factory=dict)
    """Feature, or `(output)`, → population stability index."""
    drifted: tuple[str, ...] = ()
    """Names whose drift is sustained."""
    missing: dict[str, Rate] = msgspec.field(default_factory=dict)
    """Feature → its missing values."""
    unseen: dict[str, Rate] = msgspec.field(default_factory=dict)
    """Categorical feature → its values that training did not know."""
    spent: dict[Objective, SecondsSpent] = msgspec.field(default_factory=dict)
    phase: RolloutPhase = "none"
    """Where the newest rollout stands."""
    challenger: str = ""
    share: float = 0.0
    """Share of the traffic that the challenger answers."""
    rollouts: dict[str, int] = msgspec.field(default_factory=dict)
    """`started`, `promoted`, `aborted` → how often, ever."""
    healing: HealingState = "idle"
    failed_retrains: int = 0
    """In a row."""
    heals: dict[str, int] = msgspec.field(default_factory=dict)
    """`started`, `promoted`, `failed` → how often, ever."""
    alerts: dict[AlertKind, int] = msgspec.field(default_factory=dict)
    """Open alerts that people are told of."""
    silenced: dict[AlertKind, int] = msgspec.field(default_factory=dict)
    """Open alerts that a person has silenced."""
    undelivered: int = 0
    """Messages that wait for a receiver."""
    given_up: int = 0
    """Messages that no receiver took in the end."""
