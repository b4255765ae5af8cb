"""Ctrl-C and kill -9 on `steadynet train`: nothing is harmed, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from steadynet.home import Home
from steadynet.registry.local import LocalRegistry
from steadynet.training.checkpoint import NAME as CHECKPOINT

pytestmark = pytest.mark.slow

ROWS = 1500
SPEC = """
[training]
threads = 1
width = 64
members = 4
folds = 1
max_epochs = 120
patience = 80
"""
COMMAND = (sys.executable, "-m", "steadynet.cli.main", "train", "table.csv", "--target", "y")


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "STEADYNET_HOME": str(folder / "home")}


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    first, second = random.normal(size=(2, ROWS))
    pl.DataFrame(
        {
            "a": first,
            "b": second,
            "c": random.choice(["x", "y", "z"], ROWS),
            "y": np.where(first * second + random.normal(size=ROWS) > 0, "yes", "no"),
        }
    ).write_csv(tmp_path / "table.csv")
    (tmp_path / "steadynet.toml").write_text(SPEC)
    return tmp_path


def break_off(folder: Path, how: signal.Signals, *options: str) -> tuple[int, str]:
    """Start training, break it off once it has kept a checkpoint, return what it said."""
    child = subprocess.Popen(
        [*COMMAND, *options],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    assert child.stdout is not None
    said = ""
    for line in child.stderr:
        said += line
        if line.startswith("epoch ") and any(Home(folder / "home").runs.rglob(CHECKPOINT)):
            child.send_signal(how)
            break
    said += child.stderr.read()
    child.wait(timeout=120)
    child.stderr.close()
    child.stdout.close()
    return child.returncode, said


def finish(folder: Path, *options: str) -> tuple[dict[str, object], str]:
    done = subprocess.run(
        [*COMMAND, *options, "--json"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, object] = json.loads(done.stdout)
    return answer, done.stderr


def test_an_interrupt_discards_by_default_and_says_how_to_go_on(workshop: Path) -> None:
    code, said = break_off(workshop, signal.SIGINT)
    assert code == 130, said
    assert "The same command goes on" in said
    assert "Traceback" not in said
    assert LocalRegistry(Home(workshop / "home")).names() == ()


def test_an_interrupt_keeps_the_best_so_far_on_request(workshop: Path) -> None:
    code, said = break_off(workshop, signal.SIGINT, "--on-interrupt", "keep", "--name", "kept")
    assert code == 0, said
    assert LocalRegistry(Home(workshop / "home")).versions("kept") == ("1",)


def test_a_killed_training_goes_on_by_the_same_command(workshop: Path) -> None:
    code, _ = break_off(workshop, signal.SIGKILL)
    assert code == -signal.SIGKILL
    home = Home(workshop / "home")
    assert LocalRegistry(home).names() == ()
    answer, said = finish(workshop)
    assert answer["version"] == "1"
    assert "an interrupted run goes on after epoch" in said
    assert LocalRegistry(home).aliases("table")["champion"] == "1"
