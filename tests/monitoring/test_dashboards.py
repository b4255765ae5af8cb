"""Dashboards ask for metrics that exist, in words that Prometheus and Grafana understand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from dashboard_queries import expressions
from metrics_scene import COUNTED, FOUND, NOW
from prometheus_client.parser import text_string_to_metric_families

from steadynet.monitoring.dashboards import Subject, dashboards, provisioning, uid_of
from steadynet.monitoring.rules import prometheus_rules
from steadynet.serving.metrics import render
from steadynet.spec.kinds import Task
from steadynet.spec.model import Slo

TESTED = {"auc": 0.91, "accuracy": 0.95, "log_loss": 0.2, "rmse": 3.0, "mae": 2.0}
SLO = Slo(max_age_s=86_400.0)
ALL = ("executive", "on-call", "debug")


def subject(task: Task = "binary", slo: Slo = SLO, model: str = FOUND.model) -> Subject:
    return Subject(model=model, task=task, slo=slo, tested=TESTED)


def panels(made: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a dashboard's panels, its rows left out."""
    return (panel for panel in made["panels"] if panel["type"] != "row")


def test_every_metric_that_is_asked_for_is_shown_or_recorded() -> None:
    shown = {
        sample.name
        for family in text_string_to_metric_families(render(COUNTED, [FOUND], now=NOW).decode())
        for sample in family.samples
    }
    recorded = {
        rule["record"]
        for group in prometheus_rules(FOUND.model, SLO)["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    asked: set[str] = set()
    for made in dashboards(subject()).values():
        for expression in expressions(made):
            asked |= set(re.findall(r"\b(?:steadynet_\w+|slo:[\w:]+|ALERTS)", expression))
    assert len(asked) > 40
    assert asked - shown - recorded == {"ALERTS"}


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (package prometheus)"
)
@pytest.mark.parametrize("model", ["payments", "a.b-c_1"])
def test_prometheus_parses_every_expression(tmp_path: Path, model: str) -> None:
    rules = [
        {"record": f"asked:{number}", "expr": expression}
        for made in dashboards(subject(model=model)).values()
        for number, expression in enumerate(expressions(made))
    ]
    path = tmp_path / "asked.yml"
    path.write_text(json.dumps({"groups": [{"name": "asked", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_grafanas_own_model_knows_every_key(task: Task) -> None:
    """What Grafana's types do not know is lost on the way through them: nothing may be."""
    reason = "the package grafana-foundation-sdk is not installed"
    plugins = pytest.importorskip("grafana_foundation_sdk.cog.plugins", reason=reason)
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder", reason=reason)
    types = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason=reason)
    plugins.register_default_plugins()
    for made in dashboards(subject(task)).values():
        plain = json.loads(json.dumps(made))
        back = json.loads(encoder.JSONEncoder().encode(types.Dashboard.from_json(plain)))
        unknown = {re.sub(r"\d+", "N", path) for path in lost(plain, back)}
        # These belong to Prometheus' data source, not to the dashboard.
        assert unknown == {
            f".annotations.list.N.{key}" for key in ("step", "titleFormat", "textFormat")
        }


def lost(given: object, kept: object, path: str = "") -> Iterator[str]:
    """Yield where something that was given was not kept."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key in kept:
                yield from lost(value, kept[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for number, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{path}.{number}")
    elif given != kept:
        yield path


@pytest.mark.parametrize("name", ALL)
def test_panels_stand_in_the_grid_and_beside_each_other(name: str) -> None:
    made = dashboards(subject())[name]
    numbers = [panel["id"] for panel in made["panels"]]
    assert len(numbers) == len(set(numbers))
    places = [panel["gridPos"] for panel in made["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        ), (one, other)


@pytest.mark.parametrize("name", ALL)
def test_every_panel_says_what_it_shows_and_asks_the_chosen_prometheus(name: str) -> None:
    made = dashboards(subject())[name]
    assert made["templating"]["list"][0]["name"] == "datasource"
    for panel in panels(made):
        assert panel["title"]
        assert panel["description"].endswith(".")
        if panel["type"] == "text":
            continue
        assert panel["targets"]
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"]
        steps = [step["value"] for step in defaults["thresholds"]["steps"]]
        assert steps[0] is None
        assert steps[1:] == sorted(steps[1:])


def test_what_is_not_promised_has_no_panel() -> None:
    for made in dashboards(subject(slo=Slo())).values():
        assert "freshness" not in json.dumps(made).lower()
    with_freshness = json.dumps(dashboards(subject()))
    assert "payments-freshness" in with_freshness
    assert "younger than 1 days" in with_freshness


@pytest.mark.parametrize(
    ("task", "there", "not_there"),
    [
        ("binary", {"auc", "accuracy", "log_loss"}, {"rmse"}),
        ("multiclass", {"accuracy", "log_loss"}, {"auc", "rmse"}),
        ("regression", {"rmse", "mae"}, {"auc", "accuracy"}),
    ],
)
def test_quality_is_told_in_the_tasks_own_metrics(
    task: Task, there: set[str], not_there: set[str]
) -> None:
    asked = "\n".join(expressions(dashboards(subject(task))["executive"]))
    metrics = set(re.findall(r'steadynet_quality_estimate\{model="payments",metric="(\w+)"', asked))
    assert metrics == there
    assert not metrics & not_there


def test_on_call_names_the_runbooks_of_the_alerts_that_may_come() -> None:
    wiki = "https://wiki.example.com/steadynet"
    made = dashboards(Subject(model="m", task="binary", slo=Slo(), runbooks=wiki))["on-call"]
    (told,) = (panel for panel in panels(made) if panel["title"] == "Runbooks")
    content = told["options"]["content"]
    assert f"[drift]({wiki}/drift.md)" in content
    alerts = {
        rule["alert"]
        for group in prometheus_rules("m", Slo())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert {alert for alert in alerts if f"| {alert} |" not in content} == set()
    linked = {panel["title"]: panel["links"] for panel in panels(made) if "links" in panel}
    assert linked.keys() == {"Availability", "Latency", "Quality"}
    assert linked["Quality"][0]["url"] == f"{wiki}/slo-quality.md"
    in_a_folder = json.dumps(dashboards(subject())["on-call"])
    assert "`docs/runbooks/drift.md`" in in_a_folder
    assert "](docs" not in in_a_folder


def test_burn_rates_stand_beside_the_limits_of_the_rules() -> None:
    made = dashboards(subject())["on-call"]
    limits = {
        panel["title"]: [
            step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        ]
        for panel in panels(made)
        if any("slo:error_budget:ratio" in target["expr"] for target in panel.get("targets", ()))
    }
    all_rules = [None, 1.0, 3.0, 6.0, 14.4]
    assert limits == {
        "Availability": all_rules,
        "Latency": all_rules,
        "Quality": all_rules,
        "Freshness": [None, 1.0, 3.0],
    }


def test_the_same_model_gives_the_same_bytes() -> None:
    assert json.dumps(dashboards(subject())) == json.dumps(dashboards(subject()))


def test_dashboards_are_known_again_by_their_model() -> None:
    names = ["a", "a.b", "a-b", "A", "m" * 100]
    uids = [uid_of(name, kind) for name in names for kind in ALL]
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{8,40}", uid) for uid in uids)
    assert uid_of("payments", "on-call") == "steadynet-on-call-df384ae97c77"


def test_provisioning_names_the_prometheus_and_the_folder() -> None:
    made = provisioning("/srv/$x/dashboards", "http://prometheus:9090")
    (source,) = made["datasources/steadynet.yml"]["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = made["dashboards/steadynet.yml"]["providers"]
    # Grafana puts variables of the environment in place of what follows a dollar.
    assert provider["options"]["path"] == "/srv/$$x/dashboards"
