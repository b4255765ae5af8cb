"""Each way of healing by the command line: a real model, real labels, the gate, a new version."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steadynet.bundle.manifest import WEIGHTS
from steadynet.bundle.read import verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.control.settings import controller_spec
from steadynet.control.world import publish_route
from steadynet.home import Home
from steadynet.monitoring.records import Feedback, LoggedRow
from steadynet.registry.local import LocalRegistry
from steadynet.rollout.route import Endpoint, Route
from steadynet.runtime.spool import SpoolWriter

pytestmark = pytest.mark.slow

SPEC = """
[table]
target = "fraud"

[training]
max_epochs = 4
members = 2
width = 16
trees = "never"
pictures = false

[rollout]
slices = ["country"]

[heal]
min_labelled_rows = 300
old_rows = 0
must_stay_right = "right.csv"
"""
RIGHT = "amount,country,new_card,fraud\n1.0,DE,false,legit\n2.0,FR,false,legit\n"


def payment(draw: random.Random, *, base: float) -> tuple[dict[str, Any], str]:
    """Return a payment and whether it was a fraud; large ones are, `base` scales how often."""
    amount = round(draw.uniform(1, 200), 2)
    row = {"amount": amount, "country": draw.choice(["DE", "FR"]), "new_card": draw.random() < 0.5}
    fraud = draw.random() < base * (0.9 if amount > 120 else 0.1)
    return row, "fraud" if fraud else "legit"


def run(home: Home, folder: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "steadynet.cli.main", *arguments, "--json"],
        env={**os.environ, "STEADYNET_HOME": str(home.root), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    answer["exit_code"] = done.returncode
    return answer


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a home, whose version 1 learnt a world in which frauds are frequent."""
    folder = tmp_path_factory.mktemp("ways")
    draw = random.Random(1)
    with (folder / "payments.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["amount", "country", "new_card", "fraud"])
        for _ in range(800):
            row, label = payment(draw, base=1.0)
            writer.writerow([row["amount"], row["country"], str(row["new_card"]).lower(), label])
    (folder / "steadynet.toml").write_text(SPEC)
    (folder / "right.csv").write_text(RIGHT)
    answer = run(Home(folder / "home"), folder, "train", "payments.csv")
    assert answer["exit_code"] == 0, answer
    return folder


@pytest.fixture
def labelled(trained: Path, tmp_path: Path) -> Callable[[float], tuple[Home, Path]]:
    """Makes a copy of the home in which frauds are rarer or more frequent, and labels have come."""

    def make(base: float) -> tuple[Home, Path]:
        folder = tmp_path / "copy"
        shutil.copytree(trained, folder)
        home = Home(folder / "home")
        found = LocalRegistry(home).resolve("payments")
        endpoint = Endpoint(
            version="1", bundle=str(found.bundle), manifest_sha256=found.manifest_sha256
        )
        publish_route(home, Route(model="payments", generation=1, champion=endpoint))
        controller_spec(home, "payments", folder / "steadynet.toml")
        draw, began = random.Random(2), time.time() - 1000
        rows, labels = [], []
        for number in range(900):
            row, label = payment(draw, base=base)
            rows.append(
                LoggedRow(
                    id=f"r{number}",
                    at=began + number,
                    version="1",
                    role="champion",
                    row=row,
                    probabilities=(0.5, 0.5),
                )
            )
            labels.append(Feedback(id=f"r{number}", label=label, influenced=number % 9 == 0))
        for kind, records in (("rows", rows), ("feedback", labels)):
            writer = SpoolWriter(home.spool("payments", kind), "test")
            writer.append(records)
            writer.close()
        return home, folder

    return make


@pytest.mark.timeout(200)
@pytest.mark.parametrize("way", ["recalibrate", "fine-tune", "retrain"])
def test_each_way_ends_in_a_version_that_passed_its_gate(
    labelled: Callable[[float], tuple[Home, Path]], way: str
) -> None:
    home, folder = labelled(0.25)
    answer = run(home, folder, "retrain", "payments", "--way", way, "--wait")
    attempt = answer["attempt"]
    assert attempt["version"] == "2", (answer, [*home.runs.glob("retrain*/log.txt")])
    assert attempt["way"] == way.replace("-", "_")
    assert attempt["cpu_s"] > 0
    outcome = json.loads(next(home.runs.glob("retrain-*/outcome.json")).read_text())
    gate = outcome["gate"]
    assert gate["passed"], gate
    assert gate["challenger"]["log_loss"] < gate["champion"]["log_loss"] - 0.05
    assert outcome["left_out"] == 100
    public = signing_key(home).public
    parent, child = (
        verify_bundle(LocalRegistry(home).version("payments", version).bundle, public)
        for version in ("1", "2")
    )
    assert child.manifest.provenance.parent == parent.manifest_sha256
    assert (child.read(WEIGHTS) == parent.read(WEIGHTS)) == (way == "recalibrate")
    told = run(home, folder, "why", "payments")
    assert told["problems"] == []
    assert any("a person named this way" in item["text"] for item in told["decisions"])


@pytest.mark.timeout(200)
def test_a_version_that_gives_a_wrong_answer_that_must_stay_right_fails(
    labelled: Callable[[float], tuple[Home, Path]],
) -> None:
    home, folder = labelled(0.25)
    (folder / "right.csv").write_text(RIGHT + "1.0,DE,false,fraud\n")
    answer = run(home, folder, "retrain", "payments", "--way", "recalibrate", "--wait")
    assert answer["exit_code"] == 4
    assert answer["attempt"]["outcome"] == "failed"
    assert "1 of 3 rows that must stay right do not (lines 4)" in answer["attempt"]["reason"]
