"""Several labels a row, joined in a column: from a CSV file to labels that come back and train."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from steadynet.bundle.read import Bundle, verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.cli.labels_file import read_labels
from steadynet.control.candidates import check_replaceable
from steadynet.control.labels import truth_of
from steadynet.control.retrain_plan import RetrainPlan, retrain_spec
from steadynet.control.retrain_table import write_table
from steadynet.control.store import LabelledRow
from steadynet.errors import UserError
from steadynet.home import Home
from steadynet.monitoring.records import Feedback, LoggedRow
from steadynet.registry.local import LocalRegistry
from steadynet.rollout.route import Endpoint
from steadynet.runtime.spool import read_spool
from steadynet.spec.load import load_spec
from steadynet.spec.model import Spec, TableSpec
from steadynet.spec.write import render_spec
from steadynet.training.run import train

pytestmark = pytest.mark.slow

ROWS = 320
UNKNOWN = 20
SPEC = """
[table]
target = "topics"
labels_separator = "|"
[training]
max_epochs = 3
width = 16
members = 2
folds = 2
threads = 1
trees = "never"
pictures = false
"""
NAMES = ("arts", "sports", "politics")


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a command; return its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "steadynet.cli.main", *arguments, "--json"],
        cwd=folder,
        env={**os.environ, "STEADYNET_HOME": str(folder / "home")},
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def cells() -> list[str]:
    """What the column of labels holds: some unknown, some empty, one with a label of its own."""
    random = np.random.default_rng(1)
    x = random.normal(size=(ROWS, 2))
    has = [x[:, 0] > -0.6, x[:, 1] > 0.2, x[:, 0] + x[:, 1] < -0.4]
    rows = zip(*has, strict=True)
    cells = ["|".join(name for name, yes in zip(NAMES, row, strict=True) if yes) for row in rows]
    return ["NA"] * UNKNOWN + [*cells[UNKNOWN:-1], "sports|opera"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> Path:
    """A folder with a table of news and its champion."""
    folder = tmp_path_factory.mktemp("news")
    x = np.random.default_rng(1).normal(size=(ROWS, 2))
    table = pl.DataFrame({"x": x[:, 0], "y": x[:, 1], "topics": cells})
    table.write_csv(folder / "news.csv", quote_style="necessary")
    (folder / "steadynet.toml").write_text(SPEC)
    report = run(folder, "train", "news.csv", "--name", "news", "--no-register")
    assert set(report["more_targets"]) == {"sports", "politics"}
    assert report["rows"] == ROWS - UNKNOWN
    home = Home(folder / "home")
    made = verify_bundle(Path(report["bundle"]), signing_key(home).public)
    LocalRegistry(home).add(made, "news", "1")
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    """The champion."""
    home = Home(folder / "home")
    path = LocalRegistry(home).resolve("news").bundle
    return verify_bundle(path, signing_key(home).public)


@pytest.fixture(scope="module")
def port(
    folder: Path, serve_model: Callable[[Home, str], AbstractContextManager[int]]
) -> Iterator[int]:
    """Its server."""
    with serve_model(Home(folder / "home"), "news") as port:
        yield port


def post(port: int, path: str, body: object) -> dict[str, Any]:
    """Ask the server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, text[:500]
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_table_as_in_training_is_evaluated_and_answered(folder: Path, cells: list[str]) -> None:
    found = run(folder, "evaluate", "news", "news.csv")
    assert (found["rows"], found["rows_without_target"]) == (ROWS - UNKNOWN, UNKNOWN)
    assert found["rows_with_new_labels"] == 0  # training saw "opera", though it does not predict it
    assert found["metrics"]["auc"] > 0.9
    assert found["more_targets"]["sports"]["metrics"]["auc"] > 0.9
    run(folder, "predict", "news", "news.csv", "-o", "p.parquet")
    scored = pl.read_parquet(folder / "p.parquet")
    wanted = [
        "|".join(
            name
            for name, column in zip(
                NAMES, ("prediction", "sports/prediction", "politics/prediction"), strict=True
            )
            if row[column] == "yes"
        )
        for row in scored.iter_rows(named=True)
    ]
    assert scored["predicted_labels"].to_list() == wanted
    right = [a == b for a, b in zip(wanted, cells, strict=True)]
    assert np.mean(right[UNKNOWN:]) > 0.5


def test_the_same_text_comes_back_as_feedback(folder: Path, bundle: Bundle, port: int) -> None:
    rows = [{"x": 1.0, "y": 0.5}]
    answers = post(port, "/invocations", {"dataframe_records": rows})["predictions"]
    assert {"label", "sports/label", "politics/label"} <= set(answers[0])
    texts = ["arts|sports", "sports", "", "sports | arts", "opera", "cricket"]
    sent = [{"id": f"r{number}", "label": text} for number, text in enumerate(texts)]
    assert post(port, "/feedback", sent) == {"accepted": len(texts)}
    labels, _ = read_spool(Home(folder / "home").spool("news", "feedback"), {}, Feedback, 100)
    target = bundle.manifest.schema.target
    assert target.name == "arts"
    truths = {item.id: truth_of(target, item.label) for item in labels}
    # A text of labels that nobody has heard of is none: it may be joined by something else.
    assert list(truths.values()) == [1.0, 0.0, 0.0, 1.0, 0.0, None]
    file = folder / "labels.csv"
    file.write_text("id,label\nr1,arts|politics\nr2,\nr3,arts;politics\n")
    good, bad = read_labels(file, target)
    assert [item.label for item in good] == ["arts|politics", ""]
    assert bad == [(4, "none of the labels was in the training table")]


def test_a_successor_is_trained_on_the_labels_that_came_back(
    folder: Path, bundle: Bundle, cells: list[str], tmp_path: Path
) -> None:
    x = np.random.default_rng(1).normal(size=(ROWS, 2))
    rows = [
        LabelledRow(
            number=number,
            row=LoggedRow(
                id=f"r{number}",
                at=float(number),
                version="1",
                role="champion",
                row={"x": float(x[number, 0]), "y": float(x[number, 1])},
                probabilities=(0.5, 0.5),
            ),
            label=cells[number] if number != UNKNOWN else "cricket",
            labelled_at=0.0,
        )
        for number in range(UNKNOWN, ROWS)
    ]
    plan = RetrainPlan(
        model="news",
        home="",
        champion=Endpoint(version="1", bundle="", manifest_sha256=""),
        reason="",
        spec=load_spec(folder / "steadynet.toml"),
        since=None,
        last_join=0,
    )
    with (tmp_path / "train.csv").open("w", newline="", encoding="utf-8") as file:
        write_table(file, bundle.manifest.schema, rows, plan)
    (tmp_path / "s.toml").write_text(render_spec(retrain_spec(plan, bundle.manifest)))
    home = Home(tmp_path / "home")
    spec = load_spec(tmp_path / "s.toml")
    made = train(tmp_path / "train.csv", spec, home=home, name="news", resume=False)
    assert sum(made.rows.values()) == ROWS - UNKNOWN - 1
    check_replaceable(bundle.manifest, made.manifest)
    again = train(
        tmp_path / "train.csv", Spec(), home=home, name="news", start_from=bundle, resume=False
    )
    check_replaceable(bundle.manifest, again.manifest)
    other = msgspec.structs.replace(Spec(), table=TableSpec(labels=("arts", "opera")))
    with pytest.raises(UserError, match=r"table\.labels are not the parent's.*arts, sports"):
        train(tmp_path / "train.csv", other, home=home, name="news", start_from=bundle)
