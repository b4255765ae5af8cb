"""What the controller found, as Prometheus metrics. Times are told as the moment, never as an age.

Findings that are old say nothing of now: of a controller that is silent only its last look is
told, so that its silence can be an alert, and no state that may be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from steadynet.home import Home
from steadynet.monitoring.findings import (
    DRIFT_VERDICTS,
    HEALING_STATES,
    QUALITY_VERDICTS,
    ROLLOUT_PHASES,
    Findings,
    Rate,
)
from steadynet.monitoring.label_flow import DELAY_BUCKETS, DELAY_GROWTH

if TYPE_CHECKING:
    from prometheus_client.core import Metric

SILENT_AFTER_S = 60.0
SHOWN_DELAYS = tuple(range(0, DELAY_BUCKETS - 1, 4))
"""Buckets of label delay that are shown: each 5.06 times the one before, 1 s to 1.8 years."""


def read_findings(home: Home, model: str) -> Findings | None:
    """Return a model's newest findings; None where there are none that can be read."""
    try:
        return msgspec.json.decode(home.findings(model).read_bytes(), type=Findings)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def finding_families(found: Iterable[Findings], now: float) -> Iterator[Metric]:
    """Yield the metrics of all models; `now` in seconds UTC."""
    every = list(found)
    fresh = [item for item in every if now - item.at <= SILENT_AFTER_S]
    yield _gauge(
        "steadynet_controller_last_look_timestamp_seconds",
        "When the controller last looked at the model.",
        [({"model": item.model}, item.at) for item in every],
    )
    yield from _champions(fresh)
    yield from _states(fresh)
    yield from _quality(fresh)
    yield from _estimates(fresh)
    yield from _labels(fresh)
    yield from _drift(fresh)
    yield from _objectives(fresh)
    yield from _done(fresh)
    yield from _alerts(fresh)


def _champions(found: Sequence[Findings]) -> Iterator[Metric]:
    yield _gauge(
        "steadynet_champion_info",
        "The version that answers.",
        [({"model": item.model, "version": item.champion}, 1) for item in found],
    )
    yield _gauge(
        "steadynet_champion_trained_timestamp_seconds",
        "When the champion was trained.",
        [({"model": item.model}, item.trained) for item in found],
    )
    yield _gauge(
        "steadynet_rollout_share_ratio",
        "Share of the traffic that a challenger answers.",
        [({"model": item.model}, item.share) for item in found],
    )
    yield _gauge(
        "steadynet_retrains_failed_in_a_row",
        "Retrains that failed since the last one that did not.",
        [({"model": item.model}, item.failed_retrains) for item in found],
    )


def _states(found: Sequence[Findings]) -> Iterator[Metric]:
    """Yield one family for each state: 1 for what holds, 0 for all else that could."""
    for name, meaning, choices, field in (
        ("quality_state", "Verdict on the labelled rows.", QUALITY_VERDICTS, "quality"),
        ("drift_state", "Verdict on the traffic.", DRIFT_VERDICTS, "drift"),
        ("rollout_phase", "Where the newest rollout stands.", ROLLOUT_PHASES, "phase"),
        ("healing_state", "What the healing does.", HEALING_STATES, "healing"),
    ):
        label = name.rpartition("_")[2]
        yield _gauge(
            f"steadynet_{name}",
            meaning,
            [
                ({"model": item.model, label: choice}, float(_said(item, field) == choice))
                for item in found
                for choice in choices
            ],
        )


def _said(item: Findings, field: str) -> str:
    return {
        "quality": item.quality,
        "drift": item.drift,
        "phase": item.phase,
        "healing": item.healing,
    }[field]


def _quality(found: Sequence[Findings]) -> Iterator[Metric]:
    yield _gauge(
        "steadynet_quality_rows",
        "Labelled rows that quality was last judged on.",
        [({"model": item.model}, item.labelled_rows) for item in found],
    )
    yield _gauge(
        "steadynet_quality_loss",
        "Mean loss on them.",
        [({"model": item.model}, item.loss) for item in found if item.loss is not None],
    )
    yield _gauge(
        "steadynet_quality_reference_loss",
        "Mean loss on the test part of the training table.",
        [
            ({"model": item.model}, item.loss_reference)
            for item in found
            if item.loss_reference is not None
        ],
    )
    yield _gauge(
        "steadynet_quality_metric",
        "Metrics on the labelled rows, by name.",
        [
            ({"model": item.model, "metric": name}, value)
            for item in found
            for name, value in sorted(item.metrics.items())
        ],
    )


def _estimates(found: Sequence[Findings]) -> Iterator[Metric]:
    for name, meaning, field in (
        ("", "Metrics as estimated without labels.", "value"),
        ("_low", "Lower ends of the estimates' 95 % intervals.", "low"),
        ("_high", "Upper ends of the estimates' 95 % intervals.", "high"),
        ("_reference", "What the estimates give for the test part.", "reference"),
    ):
        yield _gauge(
            f"steadynet_quality_estimate{name}",
            meaning,
            [
                ({"model": item.model, "metric": metric}, msgspec.structs.asdict(estimate)[field])
                for item in found
                for metric, estimate in sorted(item.estimated.items())
            ],
        )


def _labels(found: Sequence[Findings]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    labels = CounterMetricFamily(
        "steadynet_labels",
        "Labels by what they said: something new, the same again, something else.",
        labels=["model", "outcome"],
    )
    late = CounterMetricFamily(
        "steadynet_labels_late",
        "Labels that came more than a week after the answer.",
        labels=["model"],
    )
    delays = HistogramMetricFamily(
        "steadynet_label_delay_seconds",
        "Seconds from an answer to its label, as counted in buckets of 50 %.",
        labels=["model"],
    )
    for item in found:
        flow = item.labels
        new = flow.received - flow.duplicates - flow.contradictory
        labels.add_metric([item.model, "new"], new)
        labels.add_metric([item.model, "duplicate"], flow.duplicates)
        labels.add_metric([item.model, "contradictory"], flow.contradictory)
        late.add_metric([item.model], flow.late)
        if flow.delays:
            below = [(f"{DELAY_GROWTH**at:.6g}", sum(flow.delays[: at + 1])) for at in SHOWN_DELAYS]
            total = sum(count * DELAY_GROWTH**at for at, count in enumerate(flow.delays))
            delays.add_metric([item.model], [*below, ("+Inf", sum(flow.delays))], total)
    yield labels
    yield late
    yield delays


def _drift(found: Sequence[Findings]) -> Iterator[Metric]:
    yield _gauge(
        "steadynet_drift_psi",
        "Population stability index of a feature's last window.",
        [
            ({"model": item.model, "feature": name}, value)
            for item in found
            for name, value in sorted(item.psi.items())
        ],
    )
    yield _gauge(
        "steadynet_drift_sustained",
        "Features whose drift is sustained.",
        [({"model": item.model, "feature": name}, 1) for item in found for name in item.drifted],
    )

    for name, meaning, rates in (
        ("missing", "Share of missing values", lambda item: item.missing),
        ("unseen", "Share of categories that training did not know", lambda item: item.unseen),
    ):
        yield from _rates(found, name, meaning, rates)


def _rates(
    found: Sequence[Findings], name: str, meaning: str, rates: Callable[[Findings], dict[str, Rate]]
) -> Iterator[Metric]:
    """Yield a share of each feature's values, now and in training."""
    shares = [
        ({"model": item.model, "feature": feature}, rate)
        for item in found
        for feature, rate in sorted(rates(item).items())
    ]
    yield _gauge(
        f"steadynet_feature_{name}_ratio",
        f"{meaning}, in a feature's last window.",
        [(labels, rate.now) for labels, rate in shares],
    )
    yield _gauge(
        f"steadynet_feature_{name}_training_ratio",
        f"{meaning}, in training.",
        [(labels, rate.training) for labels, rate in shares],
    )


def _objectives(found: Sequence[Findings]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    labels = ["model", "objective"]
    measured = CounterMetricFamily(
        "steadynet_objective_seconds", "Seconds in which an objective was measured.", labels=labels
    )
    bad = CounterMetricFamily(
        "steadynet_objective_bad_seconds", "Seconds in which it was not kept.", labels=labels
    )
    for item in found:
        for objective, spent in sorted(item.spent.items()):
            measured.add_metric([item.model, objective], spent.measured)
            bad.add_metric([item.model, objective], spent.bad)
    yield measured
    yield bad


def _done(found: Sequence[Findings]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    labels = ["model", "outcome"]
    rollouts = CounterMetricFamily(
        "steadynet_rollouts", "Rollouts that the journal tells of.", labels=labels
    )
    heals = CounterMetricFamily(
        "steadynet_heals", "Versions made by healing that the journal tells of.", labels=labels
    )
    for item in found:
        for outcome, number in item.rollouts.items():
            rollouts.add_metric([item.model, outcome], number)
        for outcome, number in item.heals.items():
            heals.add_metric([item.model, outcome], number)
    yield rollouts
    yield heals


def _alerts(found: Sequence[Findings]) -> Iterator[Metric]:
    yield _gauge(
        "steadynet_alerts_open",
        "Alerts that are open.",
        [
            ({"model": item.model, "kind": kind}, item.alerts.get(kind, 0))
            for item in found
            for kind in ("page", "ticket")
        ],
    )
    yield _gauge(
        "steadynet_alerts_silenced",
        "Alerts that are open and that a person has silenced.",
        [
            ({"model": item.model, "kind": kind}, item.silenced.get(kind, 0))
            for item in found
            for kind in ("page", "ticket")
        ],
    )
    yield _gauge(
        "steadynet_alert_messages_waiting",
        "Messages that wait for a receiver.",
        [({"model": item.model}, item.undelivered) for item in found],
    )
    yield _gauge(
        "steadynet_alert_messages_given_up",
        "Messages that no receiver took in the end.",
        [({"model": item.model}, item.given_up) for item in found],
    )


def _gauge(
    name: str, meaning: str, samples: Iterable[tuple[dict[str, str], float | None]]
) -> Metric:
    """Return a gauge; all samples have the same label names."""
    from prometheus_client.core import GaugeMetricFamily

    given = list(samples)
    family = GaugeMetricFamily(name, meaning, labels=list(given[0][0]) if given else [])
    for labels, value in given:
        family.add_metric(list(labels.values()), value)
    return family
