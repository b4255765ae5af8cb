"""Every alert has its page, and every command on a page is one that exists."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown_text import ROOT, commands
from typer.core import TyperGroup
from typer.exceptions import TyperException

from steadynet.cli.main import app
from steadynet.monitoring.rules import prometheus_rules
from steadynet.monitoring.runbooks import RUNBOOKS, Runbook, runbook_of, runbook_url
from steadynet.spec.model import AlertsSpec, Slo

PAGES = ROOT / AlertsSpec().runbooks
INDEX = PAGES / "README.md"
METRICS = (ROOT / "docs" / "reference" / "metrics.md").read_text()
SECTIONS = ["What it means", "Look", "Mitigate", "Silence"]


def _page(runbook: Runbook) -> str:
    return (PAGES / f"{runbook.page}.md").read_text()


def _keys_in_the_code() -> set[str]:
    """Return the key, or its fixed beginning, of every condition that any module makes."""
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text()
        for call in ast.walk(ast.parse(text if "Condition(" in text else "")):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "Condition":
                found |= {_fixed(word.value) for word in call.keywords if word.arg == "key"}
    return found


def _fixed(key: ast.expr) -> str:
    if isinstance(key, ast.JoinedStr):
        key = key.values[0]
    assert isinstance(key, ast.Constant), "write a condition's key out, so that it is found"
    return str(key.value)


def test_every_alert_that_the_code_can_raise_has_a_page() -> None:
    raised = _keys_in_the_code()
    assert {"drift", "quality", "heal", "slo/", "rollout/"} <= raised
    for key in raised:
        keys = [key + name for name in ("availability", "latency", "quality", "freshness")]
        for named in keys if key == "slo/" else [key]:
            assert _page(runbook_of(named)).startswith("# ")


def test_every_alert_of_the_rules_has_a_page() -> None:
    names = {runbook.alertname: runbook.page for runbook in RUNBOOKS.values()}
    seen = set()
    for group in prometheus_rules("m", Slo(max_age_s=9.0), "https://w.example/r/")["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                page = f"{names[rule['alert']]}.md"
                assert rule["annotations"]["runbook_url"] == f"https://w.example/r/{page}"
                seen.add(page)
    assert len(seen) == 8


@pytest.mark.parametrize("key", RUNBOOKS)
def test_a_page_says_what_how_and_what_not(key: str) -> None:
    runbook = RUNBOOKS[key]
    text = _page(runbook)
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == SECTIONS
    assert f"`{runbook.alertname}`" in text
    assert f"alertname={runbook.alertname} " in text
    [row] = [line for line in INDEX.read_text().splitlines() if f"({runbook.page}.md)" in line]
    assert runbook.alertname in row


def test_there_is_no_page_without_an_alert() -> None:
    pages = {path.stem for path in PAGES.glob("*.md")} - {"README"}
    assert pages == {runbook.page for runbook in RUNBOOKS.values()}


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    for number, line in commands(page.read_text()):
        words = shlex.split(line)
        where = f"{page.name}:{number}: {line}"
        if words[0] == "steadynet":
            _parse(typer.main.get_command(app), words[1:], where)
        elif words[0] == "curl":
            _check_metrics(line, where)
        else:
            assert words[:3] == ["amtool", "silence", "add"] or words == ["uptime"], where


def _parse(command: Any, words: list[str], where: str) -> None:
    """Parse the words as the command line does, running nothing."""
    while isinstance(command, TyperGroup):
        assert words, where
        assert words[0] in command.commands, where
        command, words = command.commands[words[0]], words[1:]
    try:
        command.make_context(command.name, list(words))
    except TyperException as error:
        pytest.fail(f"{where}: {error}")


@pytest.mark.parametrize(
    "line", ["status m --nope", "rollout stop m", "why", "retrain m --way x", "observe m --to"]
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    with pytest.raises(pytest.fail.Exception if "rollout" not in line else AssertionError):
        _parse(typer.main.get_command(app), line.split(), "page")


def _check_metrics(line: str, where: str) -> None:
    """Check that what is searched for finds a metric of the reference."""
    assert line.startswith("curl -s localhost:8080/metrics | grep "), where
    pattern = shlex.split(line)[-1]
    shown = re.findall(r"^\| `(\w+)`", METRICS, flags=re.MULTILINE)
    alternatives = re.match(r"steadynet_\((.+)\)(\w*)$", pattern)
    names = (
        [f"steadynet_{name}{alternatives[2]}" for name in alternatives[1].split("|")]
        if alternatives
        else [pattern]
    )
    for name in names:
        assert name.removesuffix("_count") in shown, where


@pytest.mark.skipif(
    shutil.which("amtool") is None,
    reason="amtool is not installed (package prometheus-alertmanager)",
)
def test_amtool_knows_the_options_of_a_silence() -> None:
    said = subprocess.run(
        ["amtool", "silence", "add", "--help"], capture_output=True, text=True, check=False
    )
    options = set(re.findall(r"--([\w.]+)", said.stdout + said.stderr))
    text = "\n".join(_page(runbook) for runbook in RUNBOOKS.values())
    used = re.findall(r"^\$ amtool silence add (.+)$", text, flags=re.MULTILINE)
    assert len(used) == len(RUNBOOKS)
    for line in used:
        assert set(re.findall(r"--([\w.]+)", line)) <= options


@pytest.mark.parametrize("base", ["https://w.example/r", "https://w.example/r/"])
def test_a_page_is_found_below_any_base(base: str) -> None:
    assert runbook_url(base, "rollout/r7", "m") == "https://w.example/r/rollout.md"
    assert runbook_url(base, "quality/estimated", "m") == "https://w.example/r/quality-estimated.md"


def test_an_address_with_places_names_model_and_page() -> None:
    base = "https://wiki.example/{model}/{alert}?team=ml"
    found = runbook_url(base, "slo/latency", "card payments")
    assert found == "https://wiki.example/card%20payments/slo-latency?team=ml"
