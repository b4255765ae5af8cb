"""What the controller found, as Prometheus reads it; promtool has nothing to say."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from metrics_scene import FOUND, NOW
from prometheus_client.parser import text_string_to_metric_families

from steadynet.home import Home
from steadynet.monitoring.windows import LATENCY_BUCKETS, Window
from steadynet.serving.controller_metrics import SILENT_AFTER_S, read_findings
from steadynet.serving.metrics import Snapshot, add_up, render

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: bytes) -> Samples:
    """Return (name, labels) → value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float | None:
    """Return one sample's value."""
    return found.get((name, frozenset({"model": "payments", **labels}.items())))


def test_states_say_what_holds_and_what_does_not() -> None:
    found = samples(render(Snapshot(workers=()), [FOUND], now=NOW))
    assert of(found, "steadynet_champion_info", version="3") == 1
    assert of(found, "steadynet_quality_state", state="lost") == 1
    assert of(found, "steadynet_quality_state", state="ok") == 0
    assert of(found, "steadynet_drift_state", state="drifted") == 1
    assert of(found, "steadynet_drift_psi", feature="amount") == 0.4
    assert of(found, "steadynet_drift_sustained", feature="amount") == 1
    assert of(found, "steadynet_drift_sustained", feature="(output)") is None
    assert of(found, "steadynet_rollout_phase", phase="canary") == 1
    assert of(found, "steadynet_rollout_share_ratio") == 0.25
    assert of(found, "steadynet_healing_state", state="running") == 1
    assert of(found, "steadynet_objective_bad_seconds_total", objective="quality") == 300
    assert of(found, "steadynet_alerts_open", kind="page") == 1
    assert of(found, "steadynet_alerts_open", kind="ticket") == 0
    assert of(found, "steadynet_quality_metric", metric="auc") == 0.7


def test_what_is_estimated_of_quality_stands_beside_its_interval() -> None:
    found = samples(render(Snapshot(workers=()), [FOUND], now=NOW))
    told = [
        of(found, f"steadynet_quality_estimate{name}", metric="auc")
        for name in ("", "_low", "_high", "_reference")
    ]
    assert told == [0.8, 0.7, 0.9, 0.85]


def test_labels_are_counted_once_each_and_their_delay_is_a_histogram() -> None:
    found = samples(render(Snapshot(workers=()), [FOUND], now=NOW))
    outcomes = {"new": 5, "duplicate": 2, "contradictory": 1}
    for outcome, number in outcomes.items():
        assert of(found, "steadynet_labels_total", outcome=outcome) == number
    assert of(found, "steadynet_labels_late_total") == 1
    below = {
        float(dict(labels)["le"]): value
        for (name, labels), value in found.items()
        if name == "steadynet_label_delay_seconds_bucket"
    }
    counts = [below[bound] for bound in sorted(below)]
    assert counts == sorted(counts), "cumulative"
    assert (below[1.0], below[max(below)]) == (1, 4)
    assert min(bound for bound, count in below.items() if count == 3) > 60.0
    assert of(found, "steadynet_label_delay_seconds_count") == 4


def test_rates_of_features_stand_beside_those_of_training() -> None:
    found = samples(render(Snapshot(workers=()), [FOUND], now=NOW))
    assert of(found, "steadynet_feature_missing_ratio", feature="amount") == 0.2
    assert of(found, "steadynet_feature_missing_training_ratio", feature="amount") == 0.01
    assert of(found, "steadynet_feature_unseen_ratio", feature="country") == 0.1
    assert of(found, "steadynet_feature_unseen_training_ratio", feature="country") == 0


def test_rollouts_and_heals_are_counted_by_how_they_ended() -> None:
    found = samples(render(Snapshot(workers=()), [FOUND], now=NOW))
    assert of(found, "steadynet_rollouts_total", outcome="promoted") == 2
    assert of(found, "steadynet_heals_total", outcome="failed") == 1


def test_a_silent_controller_tells_when_it_last_looked_and_nothing_else() -> None:
    later = NOW + SILENT_AFTER_S + 1
    found = samples(render(Snapshot(workers=()), [FOUND], now=later))
    told = {name for name, labels in found if ("model", "payments") in labels}
    assert told == {"steadynet_controller_last_look_timestamp_seconds"}


def test_findings_that_are_not_there_or_broken_are_none(home: Home) -> None:
    assert read_findings(home, "payments") is None
    path = home.findings("payments")
    path.parent.mkdir(parents=True)
    path.write_text('{"model": "payments"')
    assert read_findings(home, "payments") is None


def test_slow_answers_are_counted_by_each_versions_own_objective() -> None:
    latency = [0] * (LATENCY_BUCKETS + 1)
    latency[10], latency[-1] = 5, 2
    windows = tuple(
        Window(
            model="payments",
            version=version,
            role="champion",
            start=0.0,
            end=1.0,
            requests=7,
            latency=tuple(latency),
        )
        for version in ("1", "2")
    )
    total = add_up(
        [
            Snapshot(workers=("a",), windows=windows[:1], slow_s={"payments/1": 0.1}),
            Snapshot(workers=("b",), windows=windows[1:], slow_s={"payments/2": 1e-9}),
        ]
    )
    found = samples(render(total))
    name = "steadynet_slow_requests_total"
    assert of(found, name, version="1", role="champion") == 2
    assert of(found, name, version="2", role="champion") == pytest.approx(7)


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (package prometheus)"
)
def test_promtool_has_nothing_to_say() -> None:
    text = render(Snapshot(workers=()), [FOUND], now=NOW)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
