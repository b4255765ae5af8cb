"""What the controller remembers by key, besides routes and rollouts. Plain data."""

from __future__ import annotations

import msgspec

from steadynet.control.policy import Attempt
from steadynet.monitoring.estimate_verdict import EstimateReport
from steadynet.monitoring.reconcile import PastEstimate
from steadynet.monitoring.reports import (
    DriftReport,
    DriftState,
    Objective,
    QualityReport,
    QualityState,
    SloReport,
)
from steadynet.monitoring.silences import Silence
from steadynet.monitoring.timed import TimeSpent
from steadynet.rollout.evidence import Verdict
from steadynet.statistics.moments import Moments

ROLLOUT = "rollout"
ALIASES = "aliases"
VERDICT = "verdict"
WATCH = "watch"
ESTIMATES = "estimates"
LABEL_FLOW = "label_flow"
QUALITY_DETAIL = "quality_detail"
HEAL = "heal"
SILENCES = "silences"


class RolloutNotes(msgspec.Struct, frozen=True, kw_only=True):
    """What the evidence on a rollout needs besides its state."""

    labels_after: int = 0
    """Number of the last labelled row from before the rollout."""
    canary_starts: tuple[float, ...] = ()
    """When each canary stage began, seconds UTC."""
    tail_s: float = 0.0
    """The champion's 99th percentile before the rollout, or before its first canary stage where
    none was known; seconds."""
    challenger_edges: tuple[float, ...] = ()
    """Inner edges of the challenger's output histogram."""
    approval: bool = False
    """Whether a person has to promote it whatever `rollout.approval` says."""
    holdout: Moments = Moments()
    """Challenger's loss minus the champion's on rows held out from its training."""


class LastVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the judge said last of a running rollout, for people who ask."""

    rollout: str
    """The rollout's id."""
    at: float
    """Seconds UTC."""
    verdict: Verdict


class AliasWish(msgspec.Struct, frozen=True, kw_only=True):
    """Which versions the registry's aliases shall name."""

    champion: str
    challenger: str | None = None
    done: bool = False
    """Whether the aliases were set so; from then on they may be moved by others."""


class WatchNotes(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at drift, quality and SLOs passes to the next."""

    version: str
    """The champion that was looked at; another one starts anew."""
    drift_since: float
    """Start of the window that the next drift verdict fills, seconds UTC."""
    labels_since: int
    """Number of the last labelled row that a complete quality verdict used up."""
    drift_state: DriftState = DriftState()
    quality_state: QualityState = QualityState()
    drift: DriftReport | None = None
    """The newest complete verdict."""
    quality: QualityReport | None = None
    slo: SloReport | None = None
    spent: dict[Objective, TimeSpent] = msgspec.field(default_factory=dict)
    """The time of the objectives that count seconds; a new champion inherits it."""


class EstimateNotes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of the champion's quality without labels."""

    version: str
    """The champion; another one starts anew."""
    reconciled: int = 0
    """Number of the last labelled row that was held against the estimates."""
    report: EstimateReport | None = None
    """The newest verdict."""
    past: tuple[PastEstimate, ...] = ()
    output: tuple[int, ...] = ()
    """Rows per bin of the profile's output histogram."""
    labelled_output: tuple[int, ...] = ()
    """The same of rows whose labels came."""


class SilenceNotes(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts a person wants not to be told."""

    last: int = 0
    """The newest silence's number."""
    active: tuple[Silence, ...] = ()
    """Those that hold, oldest first."""


class HealNotes(msgspec.Struct, frozen=True, kw_only=True):
    """What the healing policy remembers."""

    attempts: tuple[Attempt, ...] = ()
    """The newest ones, oldest first."""
    folder: str = ""
    """The running attempt's folder."""
    waiting: str = ""
    """Why nothing is started, as it was last said."""
    command: int = 0
    """Number of the command that rolls the running attempt's version out."""
    stopped: str = ""
    """Why healing has stopped; empty while it has not."""
