"""What commands say: JSON and results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
import time
import traceback as traceback_module
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from steadynet.errors import SteadynetError
from steadynet.home import Home

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from steadynet.table.findings import Finding

_COLORS = MappingProxyType({"error": "bold red", "warning": "yellow", "note": "dim"})


def stdout() -> Console:
    """Return the console for results."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def stderr() -> Console:
    """Return the console for progress, notes and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(answer: object) -> None:
    """Write a command's answer as one indented JSON document to stdout."""
    data = msgspec.json.format(msgspec.json.encode(answer, order="sorted"), indent=2)
    sys.stdout.write(data.decode() + "\n")
    sys.stdout.flush()


def show_findings(console: Console, findings: Iterable[Finding]) -> None:
    """Say what was found in a table."""
    for finding in findings:
        console.print(f"[{_COLORS[finding.level]}]{finding.level}[/] {_plain(finding.message)}")


def clock_time(at: float) -> str:
    """Return a moment (seconds UTC) in the reader's time zone, to the second."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def report_error(error: SteadynetError, *, as_json: bool, traceback: bool) -> None:
    """Say an error that was raised on purpose."""
    if traceback:
        stderr().print("".join(traceback_module.format_exception(error)), markup=False)
    stderr().print(f"[bold red]Error:[/] {_plain(str(error))}")
    if as_json:
        print_json({"error": str(error)})


def report_surprise(error: Exception, *, as_json: bool, traceback: bool) -> None:
    """Say an error that nobody foresaw, and keep its traceback where it can be found."""
    text = "".join(traceback_module.format_exception(error))
    if traceback:
        stderr().print(text, markup=False)
    summary = f"something unexpected happened ({type(error).__name__})"
    log = _keep(text)
    where = f"The traceback is in {log}." if log else "Run it again with --debug to see more."
    stderr().print(f"[bold red]Error:[/] {_plain(summary)}. {_plain(where)}")
    if as_json:
        print_json({"error": f"{summary}. {where}"})


def _keep(text: str) -> Path | None:
    folder = Home.default().root / "logs"
    path = folder / f"error-{time.strftime('%Y%m%dT%H%M%S')}-{time.monotonic_ns()}.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError:
        return None
    return path


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
