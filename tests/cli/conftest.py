"""A small table, a model trained on it once by the real command line, and a runner of commands."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from steadynet.cli import main

SPEC = """
[table]
target = "left"

[training]
max_epochs = 4
members = 4
width = 32
threads = 1

[gates]
minimum = { auc = 0.6 }
"""


def write_table(path: Path, rows: int, seed: int) -> None:
    """Write customers of whom those with short contracts and high fees leave."""
    draw = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["customer", "months", "fee", "plan", "paperless", "since", "left"])
        for number in range(rows):
            months, fee = draw.randint(1, 72), round(draw.uniform(10, 120), 2)
            plan = draw.choice(["basic", "plus", "family"])
            leaves = draw.random() < (0.85 if months < 24 and fee > 60 else 0.1)
            writer.writerow(
                [
                    f"c-{seed}-{number}-{draw.getrandbits(40):x}",
                    months,
                    "" if number % 29 == 0 else fee,
                    plan,
                    draw.choice(["yes", "no"]),
                    f"20{draw.randint(10, 24)}-0{draw.randint(1, 9)}-1{draw.randint(0, 9)}",
                    "yes" if leaves else "no",
                ]
            )


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Return stdout, which must be one JSON document and nothing else."""
        answer: dict[str, Any] = json.loads(self.out)
        return answer


Run = Callable[..., Done]


def run_command(folder: Path, home: Path, *arguments: str, timeout: float = 120.0) -> Done:
    """Run the command line in a folder with a home."""
    done = subprocess.run(
        [sys.executable, "-m", "steadynet.cli.main", *arguments],
        cwd=folder,
        env={**os.environ, "STEADYNET_HOME": str(home), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Workshop:
    """A folder with a table, a spec and a home in which version 1 is champion."""

    folder: Path
    home: Path
    trained: Done


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Train `customers` once. Tests must leave versions and aliases as they are."""
    folder = tmp_path_factory.mktemp("workshop")
    write_table(folder / "customers.csv", 600, seed=1)
    write_table(folder / "fresh.csv", 200, seed=2)
    (folder / "steadynet.toml").write_text(SPEC)
    home = folder / "home"
    trained = run_command(folder, home, "train", "customers.csv", "--json")
    assert trained.code == 0, trained.err
    return Workshop(folder, home, trained)


@pytest.fixture
def run(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs commands in the workshop, in this process: `run("status", "--json")`."""
    monkeypatch.chdir(workshop.folder)
    monkeypatch.setenv("STEADYNET_HOME", str(workshop.home))

    def in_this_process(*arguments: str) -> Done:
        capsys.readouterr()
        code = main.run(arguments)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return in_this_process


@pytest.fixture
def run_apart(tmp_path: Path) -> Run:
    """Runs commands in an empty folder with a home of its own."""
    return lambda *arguments: run_command(tmp_path, tmp_path / "home", *arguments)
