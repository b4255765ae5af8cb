"""What must hold among the spec's values: a broken rule for each."""

from __future__ import annotations

import re
from typing import Any

import pytest

from steadynet.errors import SpecError
from steadynet.spec.check import check
from steadynet.spec.load import load_spec
from steadynet.spec.model import Spec

BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"split.validation_share": 0.0}, "split.validation_share"),
    ({"split.test_share": 1.0}, "split.test_share"),
    ({"split.validation_share": 0.5, "split.test_share": 0.4}, "split.validation_share + split"),
    ({"split.time_column": "t", "split.group_column": "g"}, "split.group_column"),
    ({"split.seed": -1}, "split.seed"),
    ({"table.target": "y", "table.drop": ["y"]}, "table.drop"),
    ({"table.target": "y", "table.kinds": {"y": "number"}}, "table.kinds"),
    ({"table.labels_separator": ""}, "table.labels_separator"),
    ({"table.labels": ["a", "b"]}, "table.labels"),
    ({"table.labels_separator": "|", "table.labels": ["a"]}, "table.labels"),
    ({"table.labels_separator": "|", "table.labels": ["a", "a"]}, "table.labels"),
    ({"table.target": "y", "table.labels_separator": "|", "table.more_targets": ["z"]}, "table.mo"),
    ({"table.labels_separator": "|", "table.task": "multiclass"}, "table.task"),
    ({"table.labels_separator": "|", "table.positive_class": "a"}, "table.positive_class"),
    ({"table.labels_separator": "|", "table.classes": ["a", "b"]}, "table.classes"),
    ({"training.width": 0}, "training.width"),
    ({"training.depth": 0}, "training.depth"),
    ({"training.members": 0}, "training.members"),
    ({"training.max_epochs": 0}, "training.max_epochs"),
    ({"training.patience": 0}, "training.patience"),
    ({"training.batch_rows": 0}, "training.batch_rows"),
    ({"training.dropout": 1.0}, "training.dropout"),
    ({"training.learning_rate": 0.0}, "training.learning_rate"),
    ({"training.weight_decay": -0.1}, "training.weight_decay"),
    ({"training.gradient_clip": 0.0}, "training.gradient_clip"),
    ({"training.threads": 0}, "training.threads"),
    ({"training.seed": -1}, "training.seed"),
    ({"training.time_limit_s": 0.0}, "training.time_limit_s"),
    ({"calibration.coverage": 1.0}, "calibration.coverage"),
    ({"gates.minimum": {"acu": 0.7}}, "gates.minimum"),
    ({"gates.maximum": {"loss": 0.7}}, "gates.maximum"),
    ({"slo.latency_ms": 0.0}, "slo.latency_ms"),
    ({"slo.latency_share": 99.0}, "slo.latency_share"),
    ({"slo.availability_share": 1.0}, "slo.availability_share"),
    ({"serve.port": 70_000}, "serve.port"),
    ({"serve.workers": 0}, "serve.workers"),
    ({"serve.max_batch_rows": 0}, "serve.max_batch_rows"),
    ({"serve.max_queue_rows": 10}, "serve.max_queue_rows"),
    ({"serve.max_body_bytes": 0}, "serve.max_body_bytes"),
    ({"serve.deadline_ms": 0.0}, "serve.deadline_ms"),
    ({"serve.challenger_deadline_ms": 0.0}, "serve.challenger_deadline_ms"),
    ({"serve.challenger_deadline_ms": 5000.0}, "serve.challenger_deadline_ms"),
    ({"serve.window_s": 0.0}, "serve.window_s"),
    ({"serve.log_share": 1.1}, "serve.log_share"),
    ({"serve.drain_s": -1.0}, "serve.drain_s"),
    ({"serve.host": ""}, "serve.host"),
    ({"serve.max_request_rows": 0}, "serve.max_request_rows"),
    ({"serve.admin_port": -1}, "serve.admin_port"),
    ({"serve.admin_port": 8080}, "serve.admin_port"),
    ({"serve.max_inflight_bytes": 1000}, "serve.max_inflight_bytes"),
    ({"serve.max_connections": 0}, "serve.max_connections"),
    ({"serve.read_timeout_s": 0.0}, "serve.read_timeout_s"),
    ({"serve.trace_share": 2.0}, "serve.trace_share"),
    ({"serve.trace_endpoint": "localhost:4318"}, "serve.trace_endpoint"),
    ({"serve.redact": ["name"]}, "serve.redact"),
    ({"serve.rate_per_key": 10.0}, "serve.rate_per_key"),
    ({"serve.auth": "keys", "serve.rate_per_key": -1.0}, "serve.rate_per_key"),
    ({"serve.rate_per_model": -1.0}, "serve.rate_per_model"),
    ({"serve.tls_cert": "cert.pem"}, "serve.tls_key"),
    ({"serve.tls_key": "key.pem"}, "serve.tls_key"),
    ({"serve.tls_client_ca": "ca.pem"}, "serve.tls_client_ca"),
    ({"rollout.shadow_share": -0.1}, "rollout.shadow_share"),
    ({"rollout.steps": [0.5, 0.25]}, "rollout.steps"),
    ({"rollout.steps": [0.5, 0.5]}, "rollout.steps"),
    ({"rollout.steps": [0.0, 0.5]}, "rollout.steps"),
    ({"rollout.steps": [0.5, 1.0]}, "rollout.steps"),
    ({"rollout.min_requests": 0}, "rollout.min_requests"),
    ({"rollout.min_step_s": -1.0}, "rollout.min_step_s"),
    ({"rollout.max_step_s": 5.0}, "rollout.max_step_s"),
    ({"rollout.alpha": 0.0}, "rollout.alpha"),
    ({"rollout.error_tolerance": -0.1}, "rollout.error_tolerance"),
    ({"rollout.latency_tolerance": -0.1}, "rollout.latency_tolerance"),
    ({"rollout.output_tolerance": -0.1}, "rollout.output_tolerance"),
    ({"rollout.loss_tolerance": -0.1}, "rollout.loss_tolerance"),
    ({"monitoring.drift_window_rows": 0}, "monitoring.drift_window_rows"),
    ({"monitoring.drift_psi": 0.0}, "monitoring.drift_psi"),
    ({"monitoring.drift_windows": 0}, "monitoring.drift_windows"),
    ({"monitoring.quality_window_rows": 0}, "monitoring.quality_window_rows"),
    ({"monitoring.quality_loss_share": 0.0}, "monitoring.quality_loss_share"),
    ({"monitoring.alpha": 1.0}, "monitoring.alpha"),
    ({"heal.min_labelled_rows": 0}, "heal.min_labelled_rows"),
    ({"heal.max_rows": 999}, "heal.max_rows"),
    ({"heal.holdout_share": 1.0}, "heal.holdout_share"),
    ({"heal.cooldown_s": -1.0}, "heal.cooldown_s"),
    ({"heal.max_failures": 0}, "heal.max_failures"),
    ({"heal.timeout_s": 0.0}, "heal.timeout_s"),
    ({"slo.quality_share": 1.0}, "slo.quality_share"),
    ({"slo.max_age_s": 0.0}, "slo.max_age_s"),
    ({"slo.freshness_share": 0.0}, "slo.freshness_share"),
    ({"alerts.webhook": "hooks.example"}, "alerts.webhook"),
    ({"alerts.format": "slack"}, "alerts.format"),
    ({"alerts.runbooks": " "}, "alerts.runbooks"),
    ({"alerts.runbooks": "https://w.example/{team}/{alert}"}, "alerts.runbooks"),
    ({"alerts.runbooks": "https://w.example/{model}"}, "alerts.runbooks"),
]


def test_the_defaults_fit() -> None:
    assert check(Spec()) == Spec()


@pytest.mark.parametrize(("overrides", "path"), BROKEN)
def test_a_broken_rule_is_named(overrides: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError, match=f"^{re.escape(path)}"):
        load_spec(None, overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        {"rollout.steps": []},
        {"rollout.shadow_share": 0.0},
        {"serve.port": 0},
        {"serve.log_share": 0.0},
        {"training.dropout": 0.0},
        {"training.threads": 4},
        {"training.time_limit_s": 10.0},
        {"alerts.webhook": "https://hooks.example/x"},
        {"alerts.runbooks": "https://w.example/{model}/{alert}"},
        {"gates.minimum": {"auc": 0.7}, "gates.maximum": {"ece": 0.1}},
        {"split.time_column": "t"},
        {"split.time_column": "t", "training.folds": 4},
    ],
)
def test_values_at_the_edge_fit(overrides: dict[str, Any]) -> None:
    assert load_spec(None, overrides) != Spec()


def test_a_secret_address_is_not_shown() -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(None, {"alerts.webhook": "hooks.example/T0K3N"})
    assert "T0K3N" not in str(caught.value)


def test_a_metric_that_is_nearly_known() -> None:
    with pytest.raises(SpecError, match="Did you mean 'auc'"):
        load_spec(None, {"gates.minimum": {"acu": 0.7}})
