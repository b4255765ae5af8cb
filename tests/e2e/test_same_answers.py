"""One bundle, five ways to ask it: the answers agree to 1e-5.

The table is messy on purpose: a number stored as text with blanks, a date, flags, an identifier,
missing cells, a category that is too rare to be in every part.
"""

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

import numpy as np
import numpy.typing as npt
import onnxruntime
import polars as pl
import pytest

import steadynet
from steadynet.bundle.manifest import MODEL
from steadynet.bundle.read import verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry
from steadynet.spec.load import load_spec
from steadynet.table.convert import to_columns
from steadynet.table.read import read_table
from steadynet.table.split import split_rows

pytestmark = pytest.mark.slow

ROWS = 900
TOLERANCE = 1e-5
Answers = npt.NDArray[np.float64]


def messy(path: Path) -> None:
    random = np.random.default_rng(7)
    tenure = random.integers(0, 72, ROWS)
    monthly = random.gamma(4.0, 15.0, ROWS).round(2)
    plan = random.choice(["basic", "plus", "Größe XL", ""], ROWS, p=[0.5, 0.3, 0.15, 0.05])
    score = -0.05 * tenure + 0.03 * monthly + 1.5 * (plan == "basic") - 1.0
    leaves = random.random(ROWS) < 1 / (1 + np.exp(-score))
    total = [" " if t == 0 else f"{t * m:.2f}" for t, m in zip(tenure, monthly, strict=True)]
    day = np.datetime64("2024-01-01") + random.integers(0, 500, ROWS)
    pl.DataFrame(
        {
            "customer id": [f"C-{number:06d}" for number in random.permutation(ROWS)],
            "tenure": tenure,
            "monthly, €": monthly,
            "total": total,
            "plan": plan,
            "paperless": random.choice(["yes", "no", "?"], ROWS, p=[0.6, 0.35, 0.05]),
            "signed": [str(value) for value in day],
            "label": random.choice(["a", "b"], ROWS),
            "left": np.where(leaves, "Yes", "No"),
        }
    ).write_csv(path)


def run(folder: Path, *arguments: str) -> dict[str, Any]:
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


class Trained:
    """A model trained by the command line, and what it said of itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder / "home")
        self.csv = folder / "clients.csv"
        messy(self.csv)
        (folder / "steadynet.toml").write_text("[training]\nmax_epochs = 4\nthreads = 1\n")
        self.report = run(folder, "train", "clients.csv", "--target", "left", "--name", "leaving")
        version = LocalRegistry(self.home).resolve("leaving@champion")
        self.bundle = verify_bundle(version.bundle, signing_key(self.home).public)
        self.frame = pl.read_csv(self.csv, infer_schema=False)

    def cells(self) -> list[dict[str, str | None]]:
        return self.frame.drop("left", "customer id").to_dicts()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("same"))


@pytest.fixture(scope="module")
def raw(trained: Trained) -> Answers:
    """Raw onnxruntime with plain NumPy inputs, nothing of ours between."""
    session = onnxruntime.InferenceSession(
        str(trained.bundle.path / MODEL), providers=["CPUExecutionProvider"]
    )
    frame = trained.frame

    def number(name: str) -> npt.NDArray[np.float32]:
        texts = [value.strip() if value else "" for value in frame[name].to_list()]
        values = [float(text) if text else np.nan for text in texts]
        return np.array(values, np.float32)[:, None]

    def text(name: str) -> npt.NDArray[np.object_]:
        return np.array([value or "" for value in frame[name].to_list()], object)[:, None]

    flags = {"yes": 1.0, "no": 0.0}
    days = np.array(frame["signed"].to_list(), "datetime64[s]").astype(np.int64)
    inputs: dict[str, npt.NDArray[Any]] = {
        "tenure": number("tenure"),
        "monthly, €": number("monthly, €"),
        "total": number("total"),
        "plan": text("plan"),
        "paperless": np.array(
            [flags.get(value, np.nan) for value in frame["paperless"].to_list()], np.float32
        )[:, None],
        "signed": days[:, None],
        "column:label": text("label"),
    }
    assert {entry.name for entry in session.get_inputs()} == set(inputs)
    (probabilities,) = session.run(["probabilities"], inputs)
    answers: Answers = np.asarray(probabilities, np.float64)
    assert answers.shape == (ROWS, 2)
    assert answers[:, 1].std() > 0.05
    return answers


@pytest.fixture(scope="module")
def port(
    trained: Trained, serve_model: Callable[[Home, str], AbstractContextManager[int]]
) -> Iterator[int]:
    with serve_model(trained.home, "leaving") as port:
        yield port


def test_by_python(trained: Trained, raw: Answers) -> None:
    model = steadynet.load("leaving@champion", home=trained.home)
    np.testing.assert_allclose(model.predict_proba(trained.csv), raw, atol=TOLERANCE)
    np.testing.assert_allclose(model.predict_proba(trained.cells()), raw, atol=TOLERANCE)
    np.testing.assert_allclose(model.predict_proba(trained.frame.to_pandas()), raw, atol=TOLERANCE)


def test_by_http(trained: Trained, raw: Answers, port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    got: list[list[float]] = []
    rows = trained.cells()
    for start in range(0, ROWS, 300):
        body = json.dumps({"dataframe_records": rows[start : start + 300]})
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text[:500]
        classes = trained.bundle.manifest.schema.target.classes
        got += [
            [entry[f"probability_{name}"] for name in classes]
            for entry in json.loads(text)["predictions"]
        ]
    connection.close()
    np.testing.assert_allclose(np.array(got), raw, atol=TOLERANCE)


def test_by_open_inference_protocol(trained: Trained, raw: Answers, port: int) -> None:
    schema = trained.bundle.manifest.schema
    columns = to_columns(read_table(trained.csv, load_spec(None).table), schema)
    kinds = {"number": "FP32", "boolean": "FP32", "category": "BYTES", "datetime": "INT64"}
    inputs = []
    for column in schema.features:
        values = columns[column.name][:, 0].tolist()
        if column.kind in ("number", "boolean"):
            values = [None if np.isnan(value) else value for value in values]
        inputs.append(
            {
                "name": column.name,
                "datatype": kinds[column.kind],
                "shape": [ROWS, 1],
                "data": values,
            }
        )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v2/models/leaving/infer", json.dumps({"inputs": inputs}))
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, text[:500]
    outputs = {output["name"]: output for output in json.loads(text)["outputs"]}
    got = np.array(outputs["probabilities"]["data"]).reshape(ROWS, 2)
    np.testing.assert_allclose(got, raw, atol=TOLERANCE)


def test_by_mlflow(trained: Trained, raw: Answers) -> None:
    """In a process of its own, as MLflow's user has it: its import warns of foreign things."""
    code = (
        "import sys, mlflow, pandas as pd\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model('models:/leaving@champion')\n"
        "table = pd.read_csv('clients.csv', dtype=str)\n"
        "model.predict(table).to_csv('by_mlflow.csv', index=False)\n"
    )
    uri = f"sqlite:///{trained.home.mlflow / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, "-c", code, uri],
        cwd=trained.folder,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    table = pl.read_csv(trained.folder / "by_mlflow.csv")
    got = table.select("probability_No", "probability_Yes").to_numpy()
    np.testing.assert_allclose(got, raw, atol=TOLERANCE)


def test_in_trainings_own_evaluation(trained: Trained, raw: Answers) -> None:
    """The metrics that training reported are those of the served graph on the same rows."""
    schema = trained.bundle.manifest.schema
    spec = load_spec(None)
    frame = read_table(trained.csv, spec.table)
    test = split_rows(frame, schema, spec.split).test
    truth = (frame["left"].to_numpy()[test] == "Yes").astype(np.float64)
    given = raw[test, 1]
    loss = -np.mean(truth * np.log(given) + (1 - truth) * np.log(1 - given))
    reported = trained.report["metrics"]["test"]
    assert reported["log_loss"] == pytest.approx(loss, abs=1e-4)
    order = given[truth == 1][:, None] - given[truth == 0][None, :]
    auc = float(np.mean((order > 0) + 0.5 * (order == 0)))
    assert reported["auc"] == pytest.approx(auc, abs=1e-4)
    assert reported["accuracy"] == pytest.approx(
        np.mean((given >= (trained.bundle.manifest.decision_threshold or 0.5)) == truth), abs=1e-9
    )


def test_scored_files_hold_them_too(trained: Trained, raw: Answers) -> None:
    run(trained.folder, "predict", "leaving@champion", "clients.csv", "-o", "scored.parquet")
    scored = pl.read_parquet(trained.folder / "scored.parquet")
    assert scored["customer id"].to_list() == trained.frame["customer id"].to_list()
    got = scored.select("probability_No", "probability_Yes").to_numpy()
    np.testing.assert_allclose(got, raw, atol=TOLERANCE)
