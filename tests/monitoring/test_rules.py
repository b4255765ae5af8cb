"""Prometheus decides by the written rules what the program decides itself, on the same series."""

from __future__ import annotations

import shutil
import subprocess
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steadynet.monitoring.rules import alertmanager_config, prometheus_rules
from steadynet.monitoring.slo import QUIET_S, RULES, SloEvents, assess_slo
from steadynet.monitoring.timed import Span, TimeSpent
from steadynet.spec.model import Slo

MODEL = "payments"
SLO = Slo(latency_ms=50.0, max_age_s=86_400.0)
DAY = 24 * 60

Minutes = list[tuple[int, int, int]]
"""Requests, failed and slow ones of each minute."""


def steady(minutes: int, requests: int, failed: int = 0, slow: int = 0) -> Minutes:
    return [(requests, failed, slow)] * minutes


# Each lasts a multiple of the 20 minutes after which Prometheus evaluates, to be cheap.
SCENES: dict[str, Minutes] = {
    "all is well": steady(DAY, 600),
    "one error in a quiet night": [*steady(600, 1), (1, 1, 0), *steady(19, 1)],
    "an outage": [*steady(DAY, 600), *steady(20, 600, failed=600)],
    "an outage that is over": [*steady(DAY, 600), *steady(20, 600, failed=600), *steady(60, 600)],
    "2 % of errors for two hours": [*steady(DAY, 600), *steady(120, 600, failed=12)],
    "0.8 % of errors for six hours": [*steady(DAY, 1000), *steady(360, 1000, failed=8)],
    "0.4 % of errors for a day": [*steady(DAY, 1000), *steady(DAY, 1000, failed=4)],
    "0.05 % of errors for three days": steady(3 * DAY, 2000, failed=1),
    "a third is slow for an hour": [*steady(DAY, 600), *steady(60, 600, slow=200)],
    "few requests, two of them failed": [*steady(56, 0), (5, 2, 0), *steady(3, 0)],
}


def decided(minutes: Minutes) -> set[tuple[str, str]]:
    """Return what the program alerts of at the end: objective and kind."""
    events = [
        SloEvents(
            start=60.0 * number,
            end=60.0 * (number + 1),
            total=total,
            failed=failed,
            timed=total,
            slow=float(slow),
        )
        for number, (total, failed, slow) in enumerate(minutes)
    ]
    report = assess_slo(SLO, events, 60.0 * len(minutes))
    return {(burn.objective, burn.kind) for burn in report.firing}


def series(name: str, counts: list[int], labels: str) -> dict[str, Any]:
    """Return a counter that was 0 at first, one sample a minute."""
    values = " ".join(map(str, accumulate(counts, initial=0)))
    return {"series": f'{name}{{model="{MODEL}",{labels}}}', "values": values}


def scene(minutes: Minutes, role: str = "champion") -> dict[str, Any]:
    """Return promtool's test: at the end these alerts fire, and no others; a shadow has none."""
    labels = f'role="{role}",version="1"'
    return at_the_end(
        len(minutes),
        decided(minutes) if role != "shadow" else set(),
        series("steadynet_requests_total", [total for total, _, _ in minutes], labels),
        series("steadynet_failed_requests_total", [failed for _, failed, _ in minutes], labels),
        series("steadynet_slow_requests_total", [slow for _, _, slow in minutes], labels),
    )


def lost_scene(unjudged: int, kept: int, lost: int) -> dict[str, Any]:
    """Return promtool's test of quality that was kept for some minutes, then lost."""
    begin, change, end = 60.0 * unjudged, 60.0 * (unjudged + kept), 60.0 * (unjudged + kept + lost)
    spans = (Span(begin, change, False), Span(change, end, True))
    report = assess_slo(SLO, (), end, {"quality": TimeSpent(spans=spans)})
    judged, bad = [0] * unjudged + [60] * (kept + lost), [0] * (unjudged + kept) + [60] * lost
    labels = 'objective="quality"'
    return at_the_end(
        len(judged),
        {(burn.objective, burn.kind) for burn in report.firing},
        series("steadynet_objective_seconds_total", judged, labels),
        series("steadynet_objective_bad_seconds_total", bad, labels),
    )


def at_the_end(
    minutes: int, fired: set[tuple[str, str]], *counted: dict[str, Any]
) -> dict[str, Any]:
    """Return promtool's test of counters after so many minutes."""
    wanted = [
        {
            "labels": f'{{__name__="fired",sloth_slo="{objective}",sloth_severity="{kind}"}}',
            "value": 1,
        }
        for objective, kind in sorted(fired)
    ]
    return {
        "interval": "1m",
        "input_series": list(counted),
        "promql_expr_test": [{"expr": "fired", "eval_time": f"{minutes}m", "exp_samples": wanted}],
    }


COLLECT = {
    "name": "collect",
    "rules": [
        {
            "record": "fired",
            "expr": (
                'group by (sloth_slo, sloth_severity) (ALERTS{alertstate="firing",sloth_slo!=""})'
            ),
        }
    ],
}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (package prometheus)"
)


@needs_promtool
def test_prometheus_decides_what_the_program_decides(tmp_path: Path) -> None:
    found = {name: decided(minutes) for name, minutes in SCENES.items()}
    assert found["one error in a quiet night"] == set()
    assert ("availability", "page") in found["an outage"]
    assert ("availability", "page") not in found["an outage that is over"]
    assert ("latency", "page") in found["a third is slow for an hour"]
    assert ("availability", "ticket") in found["0.4 % of errors for a day"]
    rules = prometheus_rules(MODEL, SLO)
    (tmp_path / "rules.yml").write_bytes(
        msgspec.json.encode({"groups": [*rules["groups"], COLLECT]})
    )
    tests = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "20m",
        "group_eval_order": [group["name"] for group in rules["groups"]] + ["collect"],
        "tests": [
            *(scene(minutes) for minutes in SCENES.values()),
            *(scene(SCENES["an outage"], role) for role in ("challenger", "pinned", "shadow")),
            *(lost_scene(*lengths) for lengths in ((17, 0, 3), (0, 153, 7), (0, 130, 30))),
        ],
    }
    (tmp_path / "tests.yml").write_bytes(msgspec.json.encode(tests))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("model", ["payments", "a.b-c_1"])
def test_promtool_finds_the_rules_right(tmp_path: Path, model: str) -> None:
    rules = prometheus_rules(model, SLO)
    path = tmp_path / "rules.yml"
    path.write_bytes(msgspec.json.encode(rules))
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint-fatal", path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_not_promised_has_no_rules_and_freshness_never_pages() -> None:
    def alerts(slo: Slo) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for group in prometheus_rules(MODEL, slo)["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    found.setdefault(rule["labels"]["cause"], set()).add(rule["labels"]["severity"])
        return found

    assert "freshness" not in alerts(Slo())
    assert alerts(SLO)["freshness"] == {"ticket"}
    assert alerts(SLO)["availability"] == {"page", "ticket"}


def test_a_burn_alert_stays_as_long_as_the_programs_own() -> None:
    kept = {
        (rule["labels"]["severity"], rule["keep_firing_for"])
        for group in prometheus_rules(MODEL, SLO)["groups"]
        for rule in group["rules"]
        if "keep_firing_for" in rule
    }
    assert kept == {("page", "5m"), ("ticket", "6h")}
    assert QUIET_S == {"page": 300.0, "ticket": 21_600.0}


def test_every_window_of_the_programs_rules_is_recorded() -> None:
    groups = prometheus_rules(MODEL, SLO)["groups"]
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d"):
        assert f"slo:sli_error:ratio_rate{window}" in recorded
    assert len({rule.long_s for rule in RULES} | {rule.short_s for rule in RULES}) == 7


@pytest.mark.skipif(
    shutil.which("amtool") is None,
    reason="amtool is not installed (package prometheus-alertmanager)",
)
def test_amtool_finds_the_routes_right(tmp_path: Path) -> None:
    path = tmp_path / "alertmanager.yml"
    config = alertmanager_config({"page": "https://hooks.example.com/page"})
    path.write_bytes(msgspec.json.encode(config))
    done = subprocess.run(["amtool", "check-config", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for labels, receiver in ((["severity=page"], "page"), (["severity=ticket"], "ticket")):
        routed = subprocess.run(
            ["amtool", "config", "routes", "test", f"--config.file={path}", "model=m", *labels],
            capture_output=True,
            text=True,
        )
        assert routed.stdout.split() == [receiver], routed.stderr
