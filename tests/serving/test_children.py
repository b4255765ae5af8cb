"""Children: what dies is started again, with patience for what dies at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from steadynet.serving.children import (
    FIRST_BACKOFF_S,
    LONGEST_BACKOFF_S,
    STEADY_S,
    Child,
    Children,
    next_backoff_s,
)

WaitUntil = Callable[[Callable[[], bool]], None]
SLEEP = "import time; time.sleep(600)"
DEAF = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "open(sys.argv[1], 'w').close(); time.sleep(600)"
)


def child(code: str, started: list[int], *arguments: str) -> Child:
    """Return a place that runs a piece of Python."""

    def start() -> tuple[str, subprocess.Popen[bytes]]:
        process = subprocess.Popen([sys.executable, "-c", code, *arguments])
        started.append(process.pid)
        return f"c{len(started)}", process

    return Child("worker", start)


@given(st.floats(0, 100), st.floats(0, 1000))
def test_patience_grows_up_to_a_bound_and_is_forgotten_by_what_ran_long(
    before: float, ran: float
) -> None:
    wait = next_backoff_s(before, ran)
    if ran >= STEADY_S:
        assert wait == 0.0
    else:
        assert FIRST_BACKOFF_S <= wait <= LONGEST_BACKOFF_S
        assert wait >= min(before, LONGEST_BACKOFF_S)


def test_what_dies_is_started_again_under_another_name(wait_until: WaitUntil) -> None:
    started: list[int] = []
    ended: list[str] = []
    children = Children(lambda place: ended.append(place.name))
    children.add(child(SLEEP, started))
    try:
        assert children.pids("worker") == started
        assert not children.look()
        os.kill(started[0], signal.SIGKILL)
        wait_until(lambda: children.look() or len(started) == 2)
        wait_until(lambda: not children.look() and len(started) == 2)
        assert ended == ["c1"]
        assert children.pids("worker") == started[1:]
        assert children.pids("controller") == []
    finally:
        children.end(60)
    assert ended == ["c1", "c2"]


def test_what_dies_at_once_is_not_started_in_a_hurry() -> None:
    started: list[int] = []
    children = Children(lambda place: None)
    children.add(child("raise SystemExit(1)", started))
    begun = time.monotonic()
    while time.monotonic() - begun < 1.0:
        children.look()
        time.sleep(0.01)
    children.end(60)
    assert 1 <= len(started) <= 4, "0.2, 0.4, 0.8 seconds apart"


def test_what_does_not_end_is_killed(tmp_path: Path, wait_until: WaitUntil) -> None:
    deaf = tmp_path / "deaf"
    place = child(DEAF, [], str(deaf))
    children = Children(lambda place: None)
    children.add(place)
    wait_until(deaf.exists)
    process = place.process
    assert process is not None
    children.end(0.1)
    assert process.returncode == -signal.SIGKILL


def test_a_child_ends_with_its_parent_however_that_ends(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    note = tmp_path / "child.pid"
    (tmp_path / "sleeper.py").write_text(
        "import os, sys, time\n"
        "open(sys.argv[1] + '.new', 'w').write(str(os.getpid()))\n"
        "os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "time.sleep(600)\n"
    )
    code = (
        "import sys, time; from steadynet.serving.children import spawn;"
        "spawn('sleeper', [sys.argv[1]]); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(note)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    wait_until(note.exists)
    pid = int(note.read_text())
    parent.kill()
    parent.wait()
    wait_until(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
