"""A killed search goes on, an interrupted one gives a bundle, and neither leaves workers behind.

Workers hold the pipes that the search writes to: `communicate` returns once all of them are gone.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from steadynet.home import Home
from steadynet.registry.local import LocalRegistry

pytestmark = pytest.mark.slow

ROWS = 300
TRIALS = 6
SPEC = """
[training]
threads = 1
width = 8
members = 2
folds = 1
max_epochs = 3
search_networks = ["resnet", "ensemble"]
"""
COMMAND = (
    *(sys.executable, "-m", "steadynet.cli.main", "train", "table.csv", "--target", "y"),
    *("--search", str(TRIALS)),
)


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    first, second = random.normal(size=(2, ROWS))
    target = np.where(first + second + random.normal(size=ROWS) > 0, "yes", "no")
    pl.DataFrame({"a": first, "b": second, "y": target}).write_csv(tmp_path / "table.csv")
    (tmp_path / "steadynet.toml").write_text(SPEC)
    return tmp_path


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start a search in a process group of its own, as a shell does."""
    return subprocess.Popen(
        [*COMMAND, *options],
        cwd=folder,
        env={**os.environ, "STEADYNET_HOME": str(folder / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def await_trial(child: subprocess.Popen[str]) -> str:
    """Return what was said until the first trial ended."""
    said = ""
    assert child.stderr is not None
    for line in child.stderr:
        said += line
        if line.startswith("trial "):
            return said
    raise AssertionError(said)


def test_a_killed_search_leaves_no_workers_and_runs_no_trial_twice(
    workshop: Path,
) -> None:
    child = start(workshop)
    await_trial(child)
    child.kill()
    child.communicate(timeout=60)

    again = start(workshop, "--json")
    out, said = again.communicate(timeout=400)
    assert again.returncode == 0, said
    ended = [int(number) for number in re.findall(r"^trial (\d+) of 6", said, re.MULTILINE)]
    assert ended[0] > 1
    assert ended[-1] == TRIALS
    assert len(ended) < TRIALS
    report = json.loads(out)["search"]
    assert report["trials"] == TRIALS
    journals = list(Home(workshop / "home").runs.glob("table-search-*/search.journal"))
    assert len(journals) == 1


def test_ctrl_c_ends_a_search_and_keeps_a_fitted_bundle(
    workshop: Path,
) -> None:
    child = start(workshop, "--on-interrupt", "keep")
    said = await_trial(child)
    os.killpg(child.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches every process of the group
    out, rest = child.communicate(timeout=400)
    assert child.returncode == 0, said + rest
    assert "Traceback" not in rest
    assert re.search(r"search +[1-5] trials", out), out
    assert "epoch 1/" in rest, "the network is fitted after the search"
    assert LocalRegistry(Home(workshop / "home")).versions("table") == ("1",)
