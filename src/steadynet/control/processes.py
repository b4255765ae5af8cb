"""Subprocesses that outlive the controller, and are found again by the next one.

A job has a folder. `pid.json` names its process and when that process began, so that another
process that got the same number is not taken for it; `outcome.json` is written atomically by the
job itself at its end. A job without an outcome whose process is gone was lost.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from steadynet.environment import WEBHOOK, without
from steadynet.files import write_atomic

PID = "pid.json"
OUTCOME = "outcome.json"
LOG = "log.txt"

ProcessState = Literal["running", "ended", "lost"]


class ProcessMark(msgspec.Struct, frozen=True, kw_only=True):
    """A process that cannot be mistaken for another."""

    pid: int
    began: str
    """When the kernel started it, in its own count."""


def start_process(command: Sequence[str], folder: Path, *, environment: Mapping[str, str]) -> int:
    """Start a job in a session of its own, with low priority; return its process id.

    It has this process's environment and what `environment` adds, without the webhook's secret: no
    job tells anybody of alerts. Its output goes to `log.txt`. It is nobody's to wait for: it
    outlives the caller, who may `reap` it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    nice = shutil.which("nice")
    full = [nice, "-n", "10", *command] if nice else [*command]
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(
            full[0],
            full,
            {**without(WEBHOOK), **environment},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(log)
        os.close(null)
    mark = ProcessMark(pid=pid, began=_began(pid) or "")
    write_atomic(folder / PID, msgspec.json.encode(mark))
    return pid


def reap(pid: int) -> int | None:
    """Return the exit code of a child that has ended, -1 where it is not ours; None: it runs."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return -1
    return None if found == 0 else os.waitstatus_to_exitcode(status)


def process_state(folder: Path) -> ProcessState:
    """Tell whether a job runs, has ended with an outcome, or was lost."""
    if (folder / OUTCOME).exists():
        return "ended"
    mark = _read_mark(folder)
    if mark is not None and _began(mark.pid) == mark.began:
        return "running"
    # It may have ended between the two looks.
    return "ended" if (folder / OUTCOME).exists() else "lost"


def kill_process(folder: Path) -> None:
    """Kill a job's whole session, where it runs."""
    mark = _read_mark(folder)
    if mark is not None and _began(mark.pid) == mark.began:
        with suppress(ProcessLookupError):
            os.killpg(mark.pid, signal.SIGKILL)


def last_lines(folder: Path, count: int) -> str:
    """Return the end of a job's log."""
    try:
        lines = (folder / LOG).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-count:])


def _read_mark(folder: Path) -> ProcessMark | None:
    try:
        return msgspec.json.decode((folder / PID).read_bytes(), type=ProcessMark)
    except FileNotFoundError:
        return None


def _began(pid: int) -> str | None:
    """Return the process's start time from /proc; None where it is gone or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, began = fields[0], fields[19]
    return None if state in ("Z", "X") else began
