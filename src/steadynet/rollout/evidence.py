"""What the judge is told, and what it answers. Plain data, no row of a user is in it.

The controller fills an `Evidence` from windows (`steadynet.monitoring.windows`):

- In the stage `shadow` the challenger's arm comes from its windows of the role `shadow`, in a
  canary stage from those of the role `challenger`. The champion's arm comes from its windows of
  the role `champion` of the same time: a challenger is never compared with the past.
- `champion`, `challenger` and `pairs` hold what came since `Rollout.stage_started`; `labels`,
  `slices` and `value` hold what came since the rollout began, since labels come late.
- `stage` is `Rollout.stage`; the state machine ignores a verdict on another stage.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from steadynet.statistics.moments import Moments

Outcome = Literal["pass", "fail", "not_yet", "broken"]
"""`broken`: what was measured cannot be true (not a finite number, more than there is of it), so
it neither passes nor fails a version; the rollout is held until a person looks."""
SignalName = Literal[
    "errors", "latency", "tail", "outputs", "labels", "calibration", "slices", "value"
]


class Arm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one version did in one stage."""

    requests: int = 0
    """`Window.requests`, those with faults included."""
    faults: int = 0
    """Requests with the version's own fault: the sum of `Window.errors`."""
    timed: int = 0
    """Requests whose latency was measured: the sum of `Window.latency`."""
    slow: float = 0.0
    """Those slower than `Slo.latency_ms`: `monitoring.latency.slower_than`."""
    tail: float = 0.0
    """Those slower than `Evidence.tail_s`."""
    score: Moments = Moments()
    """`Window.score`."""
    output: tuple[int, ...] = ()
    """`Window.output`: rows per bin of the version's own output histogram."""
    edges: tuple[float, ...] = ()
    """The bins' inner edges, `OutputProfile.edges`."""


class PairedScores(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answers of challenger and champion to the same rows: `Window.pairs` of the shadow."""

    rows: int = 0
    disagreements: int = 0
    """Rows with another label; not judged for regression."""
    difference: Moments = Moments()
    """Challenger's score minus the champion's."""


class TwoArms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A number per row, summed for each version over the rows that it answered in one stage."""

    challenger: Moments = Moments()
    champion: Moments = Moments()


class LabelledLoss(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Per-row losses on rows whose label has come (log-loss, or absolute error)."""

    paired: Moments = Moments()
    """Challenger's loss minus the champion's on rows that both answered (shadow)."""
    stages: tuple[TwoArms, ...] = ()
    """Losses on rows that one of the two answered, per canary stage in which it did: shares
    differ between stages, so that their sums would compare one time with another."""
    holdout: Moments = Moments()
    """Challenger's loss minus the champion's on labelled rows held out from the challenger's
    training and compared once, before the rollout. Never enough to fail or to pass; may show that
    a shift of the outputs is an improvement."""

    @property
    def finite(self) -> bool:
        """Tell whether every sum that came live is a number."""
        arms = (arm for stage in self.stages for arm in (stage.challenger, stage.champion))
        return self.paired.finite and all(arm.finite for arm in arms)


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that one verdict looks at."""

    stage: str
    """`Rollout.stage`."""
    share: float = 0.0
    """`Rollout.share`: the share of traffic that the challenger has in this stage."""
    challenger: Arm = Arm()
    champion: Arm = Arm()
    tail_s: float = 0.0
    """The champion's usual 99th percentile, from before the stage, seconds; 0: not known."""
    pairs: PairedScores = PairedScores()
    labels: LabelledLoss = LabelledLoss()
    bias: TwoArms = TwoArms()
    """Score minus what happened, on rows of this stage: the positive class (1 or 0), whether the
    label was right, or the number."""
    slices: dict[str, LabelledLoss] = msgspec.field(default_factory=dict)
    """`column = value` → the losses of its rows, for the plan's `slices`."""
    value: tuple[TwoArms, ...] = ()
    """Per canary stage, the number that callers sent with their feedback on answers of theirs."""
    classification: bool = True
    """Whether scores are probabilities."""
    score_unit: float = 1.0
    """What `output_tolerance` is a share of: 1 for classification, `profile.output.deviation` for
    regression."""
    loss_unit: float = 1.0
    """What `loss_tolerance` is a share of: `profile.loss_deviation`."""


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """The judge's answer on one signal. Shares are fractions, not percent."""

    name: SignalName
    outcome: Outcome
    estimate: float | None = None
    """Challenger minus champion; positive is worse (for `outputs`: any sign). None: no data."""
    low: float | None = None
    """Lower end of the confidence sequence for the same difference."""
    high: float | None = None
    tolerance: float
    challenger_n: int = 0
    champion_n: int = 0
    critical: bool = True
    """Whether a rollout cannot pass without this signal's `pass`."""
    patient: bool = False
    """Whether it is critical only until the stage's time is up."""
    sentence: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The judge's answer on one stage of a rollout."""

    stage: str
    outcome: Outcome
    when_time_is_up: Outcome = "not_yet"
    """What the outcome is once the stage's time is up: patient signals are waited for no more."""
    signals: tuple[Signal, ...]
    sentence: str
    """Why, for people."""
