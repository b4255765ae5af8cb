"""The documents tell the truth: links lead somewhere, tutorials run, references are complete."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_text import ROOT, anchors, commands, documents, links
from metrics_scene import COUNTED, FOUND
from prometheus_client.parser import text_string_to_metric_families

from steadynet.serving.metrics import render

TUTORIALS = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
PORT = "8080"
"""The port in the tutorials; the tests exchange it for a free one."""
TUTORIAL_TIMEOUT_S = 280


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", documents(), ids=_name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    broken = []
    for link in links(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    assert not broken, f"{_name(document)} has links that lead nowhere"


@pytest.mark.slow
@pytest.mark.timeout(TUTORIAL_TIMEOUT_S + 20)
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=_name)
def test_every_command_of_a_tutorial_works(tutorial: Path, tmp_path: Path) -> None:
    """Run the commands in one shell, as a reader would, in a folder of their own.

    Processes that a tutorial leaves in the background are ended with the shell's process group.
    """
    steps = commands(tutorial.read_text())
    assert steps, f"{_name(tutorial)} has no commands"
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = tmp_path / "tutorial.sh"
    script.write_text(_script(steps, _free_port()))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    environment.pop("STEADYNET_HOME", None)
    process = subprocess.Popen(
        ["bash", str(script)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TUTORIAL_TIMEOUT_S)
    finally:
        _end_group(process)
    assert process.returncode == 0, f"{_name(tutorial)} fails:\n{output[-6000:]}"


def _script(steps: list[tuple[int, str]], port: int) -> str:
    """Return a shell script that says which line it is at and stops at the first failure.

    It ends its own background jobs, so that nothing holds its output open.
    """
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT"]
    for number, command in steps:
        lines.append(f"echo {shlex.quote(f'line {number}: $ {command}')}")
        lines.append(command.replace(PORT, str(port)))
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _end_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_the_command_line_reference_is_what_the_commands_say() -> None:
    """Every command, argument and option is in the reference, as `--help` words it."""
    written = (ROOT / "docs" / "reference" / "cli.md").read_text()
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "reference"), "cli"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert written == made, "run: scripts/reference cli > docs/reference/cli.md"


def test_the_spec_reference_is_what_the_spec_says() -> None:
    """Every key of steadynet.toml is in the reference with its default."""
    written = (ROOT / "docs" / "reference" / "spec.md").read_text()
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "reference"), "spec"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert written == made, "run: scripts/reference spec > docs/reference/spec.md"


def test_every_metric_is_documented() -> None:
    """The page names exactly the metrics that a worker shows, with their labels."""
    shown: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(render(COUNTED, [FOUND]).decode()):
        suffix = "_total" if family.type == "counter" else ""
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        shown[f"{family.name}{suffix}"] = labels
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|([\w, ]*)\|", page, flags=re.MULTILINE)
    assert {name: set(labels.replace(" ", "").split(",")) - {""} for name, labels in rows} == shown
