"""What the judge is told, and what it answers. Plain data, no row of a user is in it.

The controller fills an `Evidence` from windows (`steadynet.monitoring.windows`):

- In the stage `shadow` the challenger's arm comes from its windows of the role `shadow`, in a
  canary stage from those of the role `challenger`. The champion's arm comes from its windows of
  the role `champion` of the same time.
- `champion`, `challenger` and `pairs` hold what came since `Rollout.stage_started`; `labels`
  hold what came since the rollout began, since labels come late.
- `stage` is `Rollout.stage`; the state machine ignores a verdict on another stage.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from steadynet.statistics.moments import Moments

Outcome = Literal["pass", "fail", "not_yet"]
SignalName = Literal["errors", "latency", "outputs", "labels"]


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
    score: Moments = Moments()
    """`Window.score`."""


class PairedScores(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answers of challenger and champion to the same rows: `Window.pairs` of the shadow."""

    rows: int = 0
    disagreements: int = 0
    """Rows with another label; not judged for regression."""
    difference: Moments = Moments()
    """Challenger's score minus the champion's."""


class LabelledLoss(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Per-row losses on rows whose label has come (log-loss, or absolute error)."""

    paired: Moments = Moments()
    """Challenger's loss minus the champion's on rows that both answered (shadow)."""
    challenger: Moments = Moments()
    """Challenger's loss on rows that only it answered (canary)."""
    champion: Moments = Moments()
    """Champion's loss on rows that only it answered in the same time."""
    holdout: Moments = Moments()
    """Challenger's loss minus the champion's on labelled rows held out from the challenger's
    training and compared once, before the rollout. Never enough to fail or to pass; may show that
    a shift of the outputs is an improvement."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that one verdict looks at."""

    stage: str
    """`Rollout.stage`."""
    share: float = 0.0
    """`Rollout.share`: the share of traffic that the challenger has in this stage."""
    challenger: Arm = Arm()
    champion: Arm = Arm()
    baseline: Arm = Arm()
    """The champion's arm of the stage before. Used in place of `champion` at a share of 1, where
    the champion answers nothing."""
    pairs: PairedScores = PairedScores()
    labels: LabelledLoss = LabelledLoss()
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
