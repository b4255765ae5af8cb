"""A model's objectives as Prometheus rules, and routes for Alertmanager: plain data, to be written.

The rules decide what `monitoring.slo` decides: the same windows, limits and smallest counts, on
the metrics that the server shows. Names of series and labels are those of Sloth (slok/sloth), so
that its dashboards and habits fit. A Prometheus with these rules also alerts where this program is
gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from steadynet.monitoring.reports import AlertKind, Objective
from steadynet.monitoring.runbooks import command_of, runbook_of, runbook_url
from steadynet.monitoring.slo import (
    FEWEST_BAD_SHORT,
    QUIET_S,
    RULES,
    BurnRule,
    budgets_of,
    fewest,
    rules_of,
)
from steadynet.spec.model import Slo
from steadynet.spec.operating import RUNBOOKS_AT

PERIOD_DAYS = 30
"""Over which the budget of `slo:period_error_budget_remaining:ratio` is counted."""
SILENT_S = 300
"""Silence of the controller from which nothing is watched any more."""

Rule = dict[str, Any]
"""One entry of a Prometheus rule group."""

KINDS: tuple[AlertKind, ...] = ("page", "ticket")
_UNITS: tuple[tuple[str, int], ...] = (("d", 86_400), ("h", 3600), ("m", 60))
_BAD = MappingProxyType(
    {
        "availability": 'steadynet_failed_requests_total{model="%s",role!="shadow"}',
        "latency": 'steadynet_slow_requests_total{model="%s",role="champion"}',
        "quality": 'steadynet_objective_bad_seconds_total{model="%s",objective="quality"}',
        "freshness": 'steadynet_objective_bad_seconds_total{model="%s",objective="freshness"}',
    }
)
_ALL = MappingProxyType(
    {
        "availability": 'steadynet_requests_total{model="%s",role!="shadow"}',
        "latency": 'steadynet_requests_total{model="%s",role="champion"}',
        "quality": 'steadynet_objective_seconds_total{model="%s",objective="quality"}',
        "freshness": 'steadynet_objective_seconds_total{model="%s",objective="freshness"}',
    }
)
"""What is counted. Shadow answers reach no user; quality and freshness are told once, not by each
worker, so that their sum over scraped addresses would count them again."""
RAISED: Mapping[str, tuple[str, AlertKind, str]] = MappingProxyType(
    {
        "controller": ("1m", "ticket", "nobody judges, watches or heals: the controller is silent"),
        "quality": ("0m", "page", "late labels show that quality is lost"),
        "drift": ("0m", "ticket", "traffic has drifted away from training"),
        "heal": ("0m", "page", "retrains have failed again and again; none is tried any more"),
    }
)
"""Key of an alert on what the controller found → how long it must hold, kind, summary."""


def prometheus_rules(model: str, slo: Slo, runbooks: str = RUNBOOKS_AT) -> dict[str, Any]:
    """Return the content of a rule file for a model: error ratios, budgets, alerts.

    `runbooks` is `[alerts] runbooks`, where the pages lie that alerts name.
    """
    groups: list[dict[str, Any]] = []
    for objective, budget in budgets_of(slo).items():
        name = f"steadynet-{model}-{objective}"
        groups.append({"name": f"{name}-sli", "rules": list(_ratios(model, objective))})
        groups.append({"name": f"{name}-meta", "rules": list(_meta(model, objective, budget))})
        groups.append(
            {"name": f"{name}-alerts", "rules": list(_burns(model, objective, budget, runbooks))}
        )
    groups.append(
        {"name": f"steadynet-{model}-findings", "rules": list(_findings(model, runbooks))}
    )
    return {"groups": groups}


def alertmanager_config(urls: dict[AlertKind, str]) -> dict[str, Any]:
    """Return Alertmanager's configuration: pages and tickets apart, a page silencing its tickets.

    `urls` names the webhooks that take them; a kind without one is shown by Alertmanager alone.
    """
    return {
        "route": {
            "receiver": "ticket",
            "group_by": ["model", "cause"],
            "group_wait": "10s",
            "group_interval": "5m",
            "repeat_interval": "12h",
            "routes": [
                {
                    "matchers": ['severity="page"'],
                    "receiver": "page",
                    "repeat_interval": "1h",
                }
            ],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['severity="page"'],
                "target_matchers": ['severity="ticket"'],
                "equal": ["model", "cause"],
            }
        ],
        "receivers": [
            {"name": kind, "webhook_configs": [{"url": urls[kind]}] if kind in urls else []}
            for kind in KINDS
        ],
    }


def _ratios(model: str, objective: Objective) -> Iterator[Rule]:
    """Yield the share of bad events in each window that a rule or the period needs."""
    windows = sorted({window for rule in RULES for window in (rule.short_s, rule.long_s)})
    for window in windows:
        span = span_of(window)
        yield {
            "record": f"slo:sli_error:ratio_rate{span}",
            "expr": (
                f"{_sum(_BAD, model, objective, span)} / ({_sum(_ALL, model, objective, span)} > 0)"
            ),
            "labels": {**_labels(model, objective), "sloth_window": span},
        }
    yield {
        "record": f"slo:sli_error:ratio_rate{PERIOD_DAYS}d",
        "expr": (
            f"sum_over_time({_series('slo:sli_error:ratio_rate5m', model, objective)}"
            f"[{PERIOD_DAYS}d]) / ignoring (sloth_window) "
            f"count_over_time({_series('slo:sli_error:ratio_rate5m', model, objective)}"
            f"[{PERIOD_DAYS}d])"
        ),
        "labels": {**_labels(model, objective), "sloth_window": f"{PERIOD_DAYS}d"},
    }


def _meta(model: str, objective: Objective, budget: float) -> Iterator[Rule]:
    labels = _labels(model, objective)

    def burn(window: str) -> str:
        ratio = _series(f"slo:sli_error:ratio_rate{window}", model, objective)
        allowed = _series("slo:error_budget:ratio", model, objective)
        on = "sloth_id, sloth_slo, sloth_service"
        return f"{ratio} / on ({on}) group_left {allowed}"

    period = f"{PERIOD_DAYS}d"
    remaining = f"1 - {_series('slo:period_burn_rate:ratio', model, objective)}"
    for name, expression in (
        ("slo:objective:ratio", f"vector({1 - budget:.12g})"),
        ("slo:error_budget:ratio", f"vector({budget:.12g})"),
        ("slo:time_period:days", f"vector({PERIOD_DAYS})"),
        ("slo:current_burn_rate:ratio", burn("5m")),
        ("slo:period_burn_rate:ratio", burn(period)),
        ("slo:period_error_budget_remaining:ratio", remaining),
    ):
        yield {"record": name, "expr": expression, "labels": labels}


def _burns(model: str, objective: Objective, budget: float, runbooks: str) -> Iterator[Rule]:
    """Yield an alert for each kind that the objective has."""
    for kind in KINDS:
        fired = [
            _fires(model, objective, rule, budget)
            for rule in rules_of(objective)
            if rule.kind == kind
        ]
        if fired:
            yield {
                "alert": runbook_of(f"slo/{objective}").alertname,
                "expr": "\nor\n".join(fired),
                "keep_firing_for": span_of(QUIET_S[kind]),
                "labels": {**_alert_labels(model, kind, objective), "sloth_severity": kind},
                "annotations": {
                    "summary": f"{model}: the error budget of {objective} burns too fast",
                    "description": (
                        f"Of {model}, more than {budget:.3g} of what counts for {objective} is bad,"
                        " in a long window and still in a short one."
                    ),
                    **_advice(model, f"slo/{objective}", runbooks),
                },
            }


def _fires(model: str, objective: Objective, rule: BurnRule, budget: float) -> str:
    """Return what holds where `monitoring.slo.fires` says so."""
    parts = []
    for window, count in ((rule.long_s, rule.fewest_bad), (rule.short_s, FEWEST_BAD_SHORT)):
        span = span_of(window)
        ratio = _series(f"slo:sli_error:ratio_rate{span}", model, objective)
        limit = f"{rule.limit:g} * {budget:.12g}"
        parts.append(f"max({ratio} > ({limit})) without (sloth_window)")
        bad = _sum(_BAD, model, objective, span, "increase")
        # A counter's increase over a window is extrapolated: ten may be told as 9.99.
        parts.append(f"on () ({bad} > {fewest(objective, count) - 0.5:g})")
    return "(" + " and ".join(parts) + ")"


def _findings(model: str, runbooks: str) -> Iterator[Rule]:
    """Yield alerts on what the controller found."""
    chosen = f'model="{model}"'
    look = f"steadynet_controller_last_look_timestamp_seconds{{{chosen}}}"
    silent = f"time() - max by (model) ({look}) > {SILENT_S}"

    def holds(metric: str, state: str) -> str:
        return f'max by (model) (steadynet_{metric}_state{{{chosen},state="{state}"}}) == 1'

    found = {
        "controller": silent,
        "quality": holds("quality", "lost"),
        "drift": holds("drift", "drifted"),
        "heal": holds("healing", "stopped"),
    }
    for key, (wait, kind, summary) in RAISED.items():
        yield {
            "alert": runbook_of(key).alertname,
            "expr": found[key],
            "for": wait,
            "labels": {"severity": kind, "model": model, "cause": runbook_of(key).cause},
            "annotations": {"summary": f"{model}: {summary}", **_advice(model, key, runbooks)},
        }


def _advice(model: str, key: str, runbooks: str) -> dict[str, str]:
    return {
        "todo": runbook_of(key).todo,
        "command": command_of(model),
        "runbook_url": runbook_url(runbooks, key, model),
    }


def _labels(model: str, objective: Objective) -> dict[str, str]:
    return {
        "sloth_id": f"{model}-{objective}",
        "sloth_service": model,
        "sloth_slo": str(objective),
    }


def _alert_labels(model: str, kind: AlertKind, objective: Objective) -> dict[str, str]:
    return {"severity": str(kind), "model": model, "cause": str(objective)}


def _series(name: str, model: str, objective: Objective) -> str:
    chosen = ",".join(f'{key}="{value}"' for key, value in _labels(model, objective).items())
    return f"{name}{{{chosen}}}"


def _sum(
    counted: MappingProxyType[str, str],
    model: str,
    objective: Objective,
    span: str,
    how: str = "rate",
) -> str:
    add = "max" if objective in ("quality", "freshness") else "sum"
    return f"{add}({how}({counted[objective] % model}[{span}]))"


def span_of(seconds: float) -> str:
    """Return a length as Prometheus writes it."""
    return next(f"{round(seconds / size)}{unit}" for unit, size in _UNITS if seconds % size == 0)
