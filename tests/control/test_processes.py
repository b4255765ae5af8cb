"""Jobs outlive who started them, are found again, and are never mistaken for others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from steadynet.control.processes import (
    OUTCOME,
    PID,
    ProcessMark,
    kill_process,
    last_lines,
    process_state,
    reap,
    start_process,
)
from steadynet.environment import WEBHOOK
from steadynet.files import write_atomic

SLEEPS = "import time; print('begun', flush=True); time.sleep(60)"


def wait_for(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def sleeper(tmp_path: Path) -> int:
    """The process id of a job that sleeps in `tmp_path`; the test ends it."""
    return start_process([sys.executable, "-c", SLEEPS], tmp_path, environment={"A": "1"})


def test_a_running_job_is_found_by_its_folder_alone(tmp_path: Path, sleeper: int) -> None:
    assert process_state(tmp_path) == "running"
    assert reap(sleeper) is None
    wait_for(lambda: last_lines(tmp_path, 3) == "begun")
    kill_process(tmp_path)
    wait_for(lambda: process_state(tmp_path) == "lost")
    assert reap(sleeper) == -signal.SIGKILL
    assert reap(sleeper) == -1


def test_a_job_sees_its_environment_without_the_webhooks_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEBHOOK, "whsec_unseen")
    monkeypatch.setenv("STEADYNET_NOTED", "seen")
    pid = start_process([sys.executable, "-c", SLEEPS], tmp_path, environment={"A": "1"})
    wait_for(lambda: last_lines(tmp_path, 3) == "begun")
    has = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert {b"A=1", b"STEADYNET_NOTED=seen"} <= set(has)
    assert b"unseen" not in b"\0".join(has)
    kill_process(tmp_path)
    wait_for(lambda: reap(pid) is not None)


def test_a_job_has_a_session_of_its_own_and_low_priority(tmp_path: Path, sleeper: int) -> None:
    wait_for(lambda: last_lines(tmp_path, 3) == "begun")
    assert os.getsid(sleeper) == sleeper != os.getsid(0)
    assert os.getpriority(os.PRIO_PROCESS, sleeper) >= 10
    kill_process(tmp_path)
    wait_for(lambda: reap(sleeper) is not None)


def test_a_job_with_an_outcome_has_ended(tmp_path: Path) -> None:
    write_atomic(tmp_path / OUTCOME, b"{}")
    assert process_state(tmp_path) == "ended"


def test_a_job_that_never_began_is_lost(tmp_path: Path) -> None:
    assert process_state(tmp_path) == "lost"
    kill_process(tmp_path)
    assert last_lines(tmp_path, 3) == ""


def test_another_process_with_the_same_number_is_not_the_job(tmp_path: Path) -> None:
    mark = ProcessMark(pid=os.getpid(), began="1")
    write_atomic(tmp_path / PID, msgspec.json.encode(mark))
    assert process_state(tmp_path) == "lost"
    kill_process(tmp_path)


def test_a_job_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from steadynet.control.processes import start_process;"
        f"start_process([sys.executable, '-c', {SLEEPS!r}], pathlib.Path(sys.argv[1]),"
        "environment={})"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert process_state(tmp_path) == "running"
    kill_process(tmp_path)
    wait_for(lambda: process_state(tmp_path) == "lost")
