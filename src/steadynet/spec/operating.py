"""The spec's structures for what happens after training: promises, rollouts, watching, healing.

As in `steadynet.spec.model`, every key is optional and units stand in the names.
"""

from __future__ import annotations

from typing import Literal

import msgspec

AlertFormat = Literal["standard", "slack", "alertmanager"]
RUNBOOKS_AT = "docs/runbooks"
"""Where the project keeps its runbook pages."""


class Slo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[slo]`: service-level objectives that the owner promises."""

    latency_ms: float = 100.0
    """Answers slower than this are slow."""
    latency_share: float = 0.99
    """Share of requests that must not be slow."""
    availability_share: float = 0.999
    """Share of requests that must not fail."""
    quality_share: float = 0.95
    """Share of the time in which labels must not show that quality is lost, see `[monitoring]`."""
    max_age_s: float | None = None
    """Age from which a champion is stale, counted from when it was trained; without it none is."""
    freshness_share: float = 0.99
    """Share of the time in which the champion must not be stale."""


class RolloutSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[rollout]`: how a new version takes over."""

    shadow_share: float = 1.0
    """Share of requests that the challenger answers unseen before it gets any traffic."""
    steps: tuple[float, ...] = (0.05, 0.25, 0.5)
    """Share of traffic per step after the shadow, each below 1, so that a champion answers beside
    the challenger; what passes the last step is champion."""
    min_requests: int = 500
    """Challenger requests that a step needs before its verdict can be `pass`."""
    min_step_s: float = 5.0
    """Shortest time of a step."""
    max_step_s: float = 600.0
    """Longest time of a step; see `on_timeout`."""
    on_timeout: Literal["hold", "abort"] = "abort"
    """What happens when a step's verdict is `not_yet` after `max_step_s`."""
    alpha: float = 0.05
    """Chance that a challenger equal to the champion is rolled back."""
    error_tolerance: float = 0.005
    """Extra share of faulty requests that does not matter."""
    latency_tolerance: float = 0.05
    """Extra share of slow requests that does not matter; slow is slower than the SLO."""
    tail_tolerance: float = 0.01
    """Extra share of requests slower than the champion's usual 99th percentile that does not
    matter: 0.01 allows 2 % of them. Judged where `critical` names `tail`."""
    output_tolerance: float = 0.05
    """Shift of the mean score that does not matter, in deviations of the reference (binary and
    multiclass: in probability)."""
    distribution_tolerance: float = 0.15
    """Share of answers that may have moved across any one score; less does not matter."""
    disagreement_tolerance: float = 0.3
    """Classification: share of rows with another label than the champion's from which the
    challenger is rolled back, unless labels show that it is better."""
    loss_tolerance: float = 0.02
    """Extra loss on labelled rows that does not matter, as a share of the reference's deviation."""
    calibration_tolerance: float = 0.05
    """How much further from the observed share the challenger's mean probability may be than the
    champion's (regression: mean error, in deviations of the output)."""
    slices: tuple[str, ...] = ()
    """Columns whose values are judged apart once labels come, as `["region"]`."""
    slice_tolerance: float = 0.1
    """Extra loss within one slice that does not matter, in the unit of `loss_tolerance`."""
    value: Literal["none", "higher", "lower"] = "none"
    """Which way the number `value` that callers send with their feedback is better; `none` does
    not judge it."""
    value_tolerance: float = 0.0
    """Loss of the mean `value` that does not matter, in its own unit."""
    critical: tuple[Literal["errors", "latency", "tail", "outputs", "value"], ...] = (
        "errors",
        "latency",
        "outputs",
    )
    """Signals that a step must pass; the others can only fail it. Labels are waited for as
    `min_labels` says."""
    min_labels: int = 0
    """Labelled rows that the challenger's loss must be compared on before a step can pass. 0:
    labels count when they come, and are not waited for."""
    approval: bool = False
    """Wait for `steadynet rollout promote` after the last step."""
    approve_steps: bool = False
    """Wait for `steadynet rollout promote` after the shadow and each step; it goes on to the next.
    What waits is watched, and rolled back where it is shown to be worse."""


class MonitoringSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[monitoring]`."""

    drift_window_rows: int = 2000
    """Rows that one drift verdict looks at."""
    drift_psi: float = 0.2
    """Population stability index from which a feature has drifted."""
    drift_windows: int = 3
    """Windows in a row that must show drift before it is sustained."""
    drift_season_s: float = 604_800.0
    """Traffic has hours and weekdays: another mix of known values is sustained once all traffic of
    so long shows it. 86400 for traffic without weekdays, 0 for traffic without hours. Faults
    (missing or unknown values, changed units, swapped columns) do not wait."""
    quality_window_rows: int = 500
    """Labelled rows that one quality verdict looks at; up to four times as many where these leave
    it open whether quality is lost."""
    quality_loss_share: float = 0.15
    """Rise of the loss, as a share of the reference's, from which quality is lost."""
    alpha: float = 0.01
    """Chance that a verdict on steady traffic is a false alarm."""


class HealSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[heal]`: when and how a new version is made by itself."""

    enabled: bool = True
    """Whether new versions are made without being asked for."""
    on: tuple[Literal["drift", "quality", "age", "schedule", "burn"], ...] = ("drift", "quality")
    """What a new version is made for: sustained drift, lost quality, the champion's age
    (`max_age_s`), a time of the week (`schedule`), an objective whose error budget burns so fast
    that it pages."""
    way: Literal["auto", "recalibrate", "fine_tune", "retrain"] = "auto"
    """`recalibrate` fits the calibration anew and keeps the network, `fine_tune` goes on from its
    weights, `retrain` trains anew. `auto` recalibrates where labels show that the order of rows is
    intact, goes on from the weights where recent rows are few beside those of training, trains
    anew otherwise, and takes the next stronger way where one has failed."""
    min_labelled_rows: int = 1000
    """Labelled rows of the changed world that a new version needs."""
    max_rows: int = 100_000
    """Most recent labelled rows that it is made of."""
    label_span_s: float = 86_400.0
    """How late labels may come and still find rows, however many are logged: beyond the newest
    2 x `max_rows`, `max_rows` that wait for a label are kept, drawn evenly from this time."""
    window_s: float | None = None
    """Rows that were answered longer ago are not used."""
    old_rows: int | None = None
    """Rows from before the change that also train; unless set as many as fill twice
    `min_labelled_rows`."""
    influenced: Literal["drop", "weight", "keep"] = "drop"
    """What becomes of rows whose label the answer itself brought about (feedback with
    `influenced = true`, as a payment that was blocked): left out, counted by `influenced_weight`
    in the fit and left out of the comparison, or used as any other."""
    influenced_weight: float = 0.2
    """What such a row counts in the fit where they are weighted."""
    holdout_share: float = 0.3
    """Share of the newest labelled rows kept to compare challenger and champion."""
    check_labels: bool = True
    """Whether labels are looked at before anything is trained on them: equal rows that contradict
    each other and sudden shifts are noted, a source unlike all others refuses."""
    source_column: str | None = None
    """The column that says where a row's label came from, as the shop or the feed; it must be a
    feature."""
    must_stay_right: str | None = None
    """A CSV file of rows with the answers that a new version must give, in columns named as the
    table's. A number must lie within its interval."""
    max_latency_ratio: float = 2.0
    """One row may take the challenger so many times as long as the champion (less than half a
    millisecond more does not matter)."""
    max_size_ratio: float = 4.0
    """The challenger's graph may have so many times the champion's bytes (less than 16 MB do not
    matter)."""
    cooldown_s: float = 3600.0
    """Shortest time between two attempts."""
    runs_per_day: int = 12
    """Most attempts within 24 hours."""
    cpu_hours_per_day: float = 24.0
    """Processor hours of attempts within 24 hours, after which no other is begun."""
    max_failures: int = 3
    """Failed attempts in a row after which healing stops and pages."""
    timeout_s: float = 3600.0
    """Longest time of an attempt."""
    max_age_s: float = 30 * 86_400.0
    """The champion's age from which a new version is made, where `on` names `age`."""
    schedule: tuple[str, ...] = ()
    """When one is made, where `on` names `schedule`, as `["Sun 03:00", "daily 04:30"]`."""
    freeze: tuple[str, ...] = ()
    """When none is begun, as `["Fri 16:00 - Mon 08:00", "daily 22:00 - 06:00"]`; a person may."""
    time_zone: str = "UTC"
    """Whose clock `schedule` and `freeze` mean, as `Europe/Berlin`."""
    approval: bool = False
    """Let a healed version wait for `steadynet rollout promote` after its last step."""


class AlertsSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[alerts]`."""

    webhook: str | None = None
    """URL that gets alerts by POST; of Alertmanager its address, as `http://localhost:9093`."""
    format: AlertFormat = "standard"
    """What it takes: `standard` (JSON, signed after Standard Webhooks where
    `$STEADYNET_WEBHOOK_SECRET` is set), `slack` (an incoming webhook) or `alertmanager`."""
    runbooks: str = RUNBOOKS_AT
    """Where the runbook pages lie that alerts name, as `https://wiki.example.com/steadynet`; or the
    address of each, as `https://wiki.example.com/{model}/{alert}`, where `{alert}` is the page's
    name, as `slo-latency`."""
