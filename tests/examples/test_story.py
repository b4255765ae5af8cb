"""The story as a user runs it: a process, its folder, its promises, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

import story
from results import Results, broken_promises
from stage import opened

SCRIPT = Path(story.__file__)


def _processes_of(folder: Path) -> list[str]:
    """Return the command lines of living processes that name the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and str(os.getpid()) != entry.parent.name:
            found.append(words)
    return found


def _start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "--fast", "--folder", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(290)
def test_the_fast_story_keeps_every_promise(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = _start(folder)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    results = msgspec.json.decode((folder / "results.json").read_bytes(), type=Results)
    assert broken_promises(results) == []
    assert results.traffic.failed == 0
    assert len(results.rollbacks) == 4
    assert _processes_of(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_story_leaves_no_process_behind(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "demo"
    process = _start(folder)
    deadline = time.monotonic() + 120
    while not (folder / "traffic.json").exists():  # the callers run: so does everything else
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(_processes_of(folder)) >= 3
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert _processes_of(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_wish_to_stop_that_python_loses_is_followed_all_the_same(
    tmp_path: Path, number: int
) -> None:
    with opened(tmp_path, Console(quiet=True)) as stage:
        with pytest.raises(KeyboardInterrupt):  # as a callback of the garbage collector loses it
            os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            next(stage.looks(60.0))
        with pytest.raises(KeyboardInterrupt):
            stage.say("on with the story")


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    process = _start(tmp_path)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not of an earlier story" in " ".join(output.split())
    assert (tmp_path / "thesis.tex").read_text() == "ten years of work"
