"""What the watching functions answer, and the alerts made of it. Plain data, JSON-ready."""

from __future__ import annotations

from typing import Literal

import msgspec

DriftKind = Literal["missing", "unseen", "unit", "swapped", "range", "frozen", "shape"]
"""What a drifted feature is: missing rate rose, categories never seen in training, all values
larger by one factor, the values of another feature, values moved to the ends of training's range,
one value only, another distribution."""

DriftVerdict = Literal["steady", "drifting", "drifted", "not_yet"]
"""`drifting`: this window differs; `drifted`: enough windows in a row did (sustained)."""

QualityVerdict = Literal["ok", "lost", "not_yet"]
AlertKind = Literal["page", "ticket"]


class FeatureDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How far one feature (or the outputs, `(output)`) is from training in one window."""

    name: str
    rows: int
    psi: float
    """Population stability index less what sampling alone makes of it, at least 0."""
    jensen_shannon: float
    """Jensen-Shannon distance, base 2, 0 to 1."""
    missing: float
    """Share of missing values in the window."""
    missing_reference: float
    unseen: float = 0.0
    """Share of categories that training never saw, or had too rarely to count apart."""
    unseen_reference: float = 0.0
    p_value: float
    """Of the strongest test on this feature, before the false-discovery correction."""
    kinds: tuple[DriftKind, ...] = ()
    """Empty where the feature has not drifted."""
    factor: float | None = None
    """`unit`: by what factor values are larger than training's."""
    swapped_with: str = ""
    """`swapped`: the feature whose values it has."""
    waits: bool = False
    """Whether it may be the time of day: it is sustained once a whole season shows it."""
    importance: float = 0.0
    sentence: str = ""


class DriftState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one drift verdict passes to the next."""

    windows: int = 0
    """Windows judged so far."""
    in_a_row: dict[str, int] = msgspec.field(default_factory=dict)
    """Feature → windows in a row in which it had drifted."""
    since: dict[str, float] = msgspec.field(default_factory=dict)
    """Feature → start of the first of them, seconds UTC."""


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """One drift verdict."""

    verdict: DriftVerdict
    complete: bool
    """Whether the window was big enough and is used up; else go on filling it."""
    rows: int
    features: tuple[FeatureDrift, ...] = ()
    """All features, worst first; the outputs are the one named `(output)`."""
    sustained: tuple[str, ...] = ()
    """Names that drifted in enough windows in a row."""
    weight: float = 0.0
    """Share of the network's importance that lies in features which differ, 0 to 1."""
    unmeasured: tuple[str, ...] = ()
    """Names whose counts do not fit the profile."""
    since: float | None = None
    """When the oldest sustained drift began, seconds UTC."""
    state: DriftState = DriftState()
    sentence: str = ""


class QualityState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one quality verdict passes to the next."""

    lost_since: float | None = None
    """When quality was first seen lost without interruption, seconds UTC."""


class QualityReport(msgspec.Struct, frozen=True, kw_only=True):
    """One quality verdict on joined labels."""

    verdict: QualityVerdict
    complete: bool
    """Whether the window is full and used up; else go on filling it."""
    rows: int
    loss: float | None = None
    """Mean log-loss or absolute error of the window."""
    loss_reference: float
    rise: float | None = None
    """`loss / loss_reference - 1`."""
    rise_low: float | None = None
    """Lower end of the confidence sequence of the rise."""
    rise_high: float | None = None
    tolerance: float
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    """Metrics of `runtime.metrics` on the window."""
    calibration_error: float | None = None
    """Mean score minus observed share (binary), or mean prediction minus mean target."""
    miscalibrated: bool = False
    """Whether that error is beyond chance and beyond what matters."""
    since: float | None = None
    state: QualityState = QualityState()
    sentence: str = ""

    @property
    def lost(self) -> bool:
        """Tell whether it was lost when last judged; a window that begins takes nothing back."""
        return self.verdict == "lost" or (self.verdict == "not_yet" and self.since is not None)


Objective = Literal["availability", "latency", "quality", "freshness"]
"""What `[slo]` promises. The first two count requests, the others seconds."""


class BurnRate(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of one objective: how fast the error budget burns in a long and a short window."""

    objective: Objective
    kind: AlertKind
    long_s: float
    short_s: float
    limit: float
    """Burn rate from which the rule fires."""
    long_burn: float | None
    """None: nothing was measured."""
    short_burn: float | None
    bad: int
    """Bad requests, or seconds, in the long window."""
    total: int
    firing: bool
    challengers: int = 0
    """Of the bad requests, those that a challenger was to answer."""
    explained: bool = False
    """Whether it fires, and would not by what the champion answered alone."""


class SloReport(msgspec.Struct, frozen=True, kw_only=True):
    """All objectives at one moment."""

    at: float
    burns: tuple[BurnRate, ...]
    firing: tuple[BurnRate, ...] = ()
    """The rules that fire, pages first."""
    sentence: str = ""


class Condition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that should, or should no longer, be an alert."""

    key: str
    """The same cause has the same key: `drift`, `quality`, `slo/latency`, `rollout`."""
    active: bool
    """False: looked at and not so. What was not looked at has no condition."""
    kind: AlertKind = "ticket"
    cause: str = ""
    summary: str = ""
    since: float | None = None
    """When it began, seconds UTC, where that is known."""
    done: str = ""
    """What the program did about it."""
    todo: str = ""
    """What a person should do."""
    details: dict[str, str | float | int | None] = msgspec.field(default_factory=dict)
    momentary: bool = False
    """It happened and is over (a rollback): told once, closed after a quiet time."""
    quiet_s: float = 300.0
    """How long it must be away before its alert is resolved."""
    held: str = ""
    """Why its ticket, where nobody knows it yet, need not be told now."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert. The same `id` from opening to resolution."""

    id: str
    """`<model>/<key>/<opened, whole seconds>`."""
    model: str
    key: str
    kind: AlertKind
    cause: str
    since: float
    """When it began, seconds UTC."""
    opened: float
    seen: float
    """When the condition was last true, seconds UTC."""
    raised: float | None = None
    """When the ticket became a page."""
    resolved: float | None = None
    momentary: bool = False
    quiet_s: float = 300.0
    """How long the condition must be away before the alert is resolved."""
    held: str = ""
    """Why it is not told while a rollout goes on; empty otherwise."""
    silenced: str = ""
    """Why a person wants it, or that it has become a page, not to be told; empty otherwise."""
    known: bool = False
    """Whether people know it as the ticket that it was before."""
    summary: str = ""
    done: str = ""
    todo: str = ""
    details: dict[str, str | float | int | None] = msgspec.field(default_factory=dict)

    @property
    def kept_back(self) -> str:
        """Say why people do not know what it is now; empty where they do."""
        return self.silenced or self.held

    @property
    def told(self) -> bool:
        """Tell whether people know of it."""
        return self.known or not self.kept_back


class AlertDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What to send now, and what to keep for the next decision."""

    opened: tuple[Alert, ...] = ()
    """New, raised from ticket to page, or kept back no longer: send."""
    held: tuple[Alert, ...] = ()
    """New or raised, and not to be told yet: write down."""
    still: tuple[Alert, ...] = ()
    """Open as before: do not send."""
    resolved: tuple[Alert, ...] = ()
    """Over: send once, where it was told."""

    @property
    def open(self) -> tuple[Alert, ...]:
        """Return the alerts to pass in as `previous` next time."""
        return (*self.opened, *self.held, *self.still)
