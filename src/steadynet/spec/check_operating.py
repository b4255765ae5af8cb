"""What must hold among the values of `steadynet.spec.operating`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from steadynet.errors import SpecError
from steadynet.spec.calendar import read_moment, read_span, time_zone
from steadynet.spec.model import Spec
from steadynet.spec.operating import AlertsSpec, HealSpec, MonitoringSpec, RolloutSpec, Slo
from steadynet.spec.rules import Rule, at_least, part, positive, share


def operating_rules(spec: Spec) -> Iterator[Rule]:
    """Yield the rules on promises, rollouts, watching, alerts and healing."""
    yield from _slo(spec.slo)
    yield from _rollout(spec.rollout)
    yield from _monitoring(spec.monitoring)
    yield from _heal(spec.heal)
    yield from _alerts(spec.alerts)


def _slo(slo: Slo) -> Iterator[Rule]:
    yield positive("slo.latency_ms", slo.latency_ms)
    yield share("slo.latency_share", slo.latency_share)
    yield share("slo.availability_share", slo.availability_share)
    yield share("slo.quality_share", slo.quality_share)
    yield positive("slo.max_age_s", slo.max_age_s)
    yield share("slo.freshness_share", slo.freshness_share)


def _rollout(rollout: RolloutSpec) -> Iterator[Rule]:
    steps = rollout.steps
    yield part("rollout.shadow_share", rollout.shadow_share)
    rising = all(before < after for before, after in pairwise(steps))
    yield Rule(
        "rollout.steps",
        list(steps),
        rising and all(0 < share < 1 for share in steps),
        "shares above 0 and below 1, each larger than the one before: what passes the last step "
        "gets all traffic",
    )
    yield at_least("rollout.min_requests", rollout.min_requests, 1)
    yield at_least("rollout.min_step_s", rollout.min_step_s, 0)
    yield Rule(
        "rollout.max_step_s",
        rollout.max_step_s,
        rollout.max_step_s > rollout.min_step_s,
        "more than rollout.min_step_s",
    )
    yield share("rollout.alpha", rollout.alpha)
    yield at_least("rollout.error_tolerance", rollout.error_tolerance, 0)
    yield at_least("rollout.latency_tolerance", rollout.latency_tolerance, 0)
    yield at_least("rollout.tail_tolerance", rollout.tail_tolerance, 0)
    yield at_least("rollout.output_tolerance", rollout.output_tolerance, 0)
    yield part("rollout.distribution_tolerance", rollout.distribution_tolerance)
    yield part("rollout.disagreement_tolerance", rollout.disagreement_tolerance)
    yield at_least("rollout.loss_tolerance", rollout.loss_tolerance, 0)
    yield at_least("rollout.calibration_tolerance", rollout.calibration_tolerance, 0)
    yield at_least("rollout.slice_tolerance", rollout.slice_tolerance, 0)
    yield Rule(
        "rollout.value_tolerance",
        rollout.value_tolerance,
        rollout.value_tolerance > 0 if rollout.value != "none" else rollout.value_tolerance >= 0,
        "more than 0 where rollout.value is judged, in the unit of the number itself",
    )
    yield at_least("rollout.min_labels", rollout.min_labels, 0)


def _monitoring(monitoring: MonitoringSpec) -> Iterator[Rule]:
    yield at_least("monitoring.drift_window_rows", monitoring.drift_window_rows, 1)
    yield positive("monitoring.drift_psi", monitoring.drift_psi)
    yield at_least("monitoring.drift_windows", monitoring.drift_windows, 1)
    yield at_least("monitoring.drift_season_s", monitoring.drift_season_s, 0)
    yield at_least("monitoring.quality_window_rows", monitoring.quality_window_rows, 1)
    yield positive("monitoring.quality_loss_share", monitoring.quality_loss_share)
    yield share("monitoring.alpha", monitoring.alpha)


def _heal(heal: HealSpec) -> Iterator[Rule]:
    yield at_least("heal.min_labelled_rows", heal.min_labelled_rows, 1)
    yield at_least("heal.max_rows", heal.max_rows, heal.min_labelled_rows)
    yield positive("heal.label_span_s", heal.label_span_s)
    yield positive("heal.window_s", heal.window_s)
    yield at_least("heal.old_rows", heal.old_rows, 0)
    yield share("heal.influenced_weight", heal.influenced_weight)
    yield share("heal.holdout_share", heal.holdout_share)
    yield at_least("heal.max_latency_ratio", heal.max_latency_ratio, 1)
    yield at_least("heal.max_size_ratio", heal.max_size_ratio, 1)
    yield at_least("heal.cooldown_s", heal.cooldown_s, 0)
    yield Rule("heal.runs_per_day", heal.runs_per_day, 1 <= heal.runs_per_day <= 100, "1 to 100")
    yield positive("heal.cpu_hours_per_day", heal.cpu_hours_per_day)
    yield at_least("heal.max_failures", heal.max_failures, 1)
    yield positive("heal.timeout_s", heal.timeout_s)
    yield positive("heal.max_age_s", heal.max_age_s)
    yield Rule(
        "heal.schedule",
        list(heal.schedule),
        bool(heal.schedule) == ("schedule" in heal.on),
        'times where heal.on names "schedule", and none otherwise',
    )
    yield from _times(heal)


def _times(heal: HealSpec) -> Iterator[Rule]:
    for path, texts, read in (
        ("heal.schedule", heal.schedule, read_moment),
        ("heal.freeze", heal.freeze, read_span),
        ("heal.time_zone", (heal.time_zone,), time_zone),
    ):
        for text in texts:
            try:
                read(text)
            except SpecError as error:
                yield Rule(path, text, False, error.expected or "")


def _alerts(alerts: AlertsSpec) -> Iterator[Rule]:
    webhook = alerts.webhook
    fits = webhook is None or webhook.startswith(("http://", "https://"))
    # A webhook's path is often a secret: the value is not shown.
    yield Rule("alerts.webhook", "another text", fits, "a URL that begins with http or https")
    yield Rule(
        "alerts.format",
        alerts.format,
        alerts.format == "standard" or webhook is not None,
        "alerts.webhook beside it: where messages of that format go",
    )
    named = bool(alerts.runbooks.strip())
    yield Rule("alerts.runbooks", alerts.runbooks, named, "a URL or a folder, as docs/runbooks")
    left = alerts.runbooks.replace("{model}", "").replace("{alert}", "")
    apart = "{alert}" in alerts.runbooks or left == alerts.runbooks
    yield Rule(
        "alerts.runbooks",
        alerts.runbooks,
        apart and not {"{", "}"} & set(left),
        "an address with {alert}, and {model} where it shall be, or one without braces",
    )
