"""Three targets, one with prediction sets, by the command line: raw graph, HTTP, protocol, MLflow
and files agree."""

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
import onnxruntime
import polars as pl
import pytest

from steadynet.bundle.manifest import MANIFEST, MODEL, decode_manifest
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry
from steadynet.runtime.answers import as_columns

pytestmark = pytest.mark.slow

ROWS = 300
TOLERANCE = 1e-5
NUMBERS = ("x", "y")
TARGETS = ("--target", "left", "--target", "spend", "--target", "tier")
SPEC = """
[training]
max_epochs = 3
width = 16
members = 2
folds = 2
threads = 1
[calibration]
prediction_sets = true
"""

Raw = dict[str, np.ndarray]


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a champion of three targets."""
    folder = tmp_path_factory.mktemp("several")
    random = np.random.default_rng(3)
    x, y = random.normal(size=(2, ROWS))
    score = x + 0.5 * y
    spend = (50 + 9 * score + random.normal(size=ROWS)).round(2)
    pl.DataFrame(
        {
            "x": x,
            "y": y,
            "left": np.where(score + 0.5 * random.normal(size=ROWS) > 0, "yes", "no"),
            "spend": [None if row % 4 == 0 else value for row, value in enumerate(spend)],
            "tier": np.array(["a", "b", "c"])[np.digitize(score, [-0.5, 0.5])],
        }
    ).write_csv(folder / "clients.csv")
    (folder / "steadynet.toml").write_text(SPEC)
    report = run(folder, "train", "clients.csv", *TARGETS, "--name", "clients")
    assert set(report["more_targets"]) == {"spend", "tier"}
    assert report["more_targets"]["spend"]["metrics"]["test"]["r2"] > 0.5
    return folder


@pytest.fixture(scope="module")
def raw(folder: Path) -> Raw:
    """Raw onnxruntime, nothing of ours between."""
    bundle = LocalRegistry(Home(folder / "home")).resolve("clients@champion").bundle
    session = onnxruntime.InferenceSession(str(bundle / MODEL))
    table = pl.read_csv(folder / "clients.csv")
    feed = {name: table[name].to_numpy().astype(np.float32)[:, None] for name in NUMBERS}
    names = [node.name for node in session.get_outputs() if not node.name.startswith("steadynet/")]
    assert names[:3] == ["label", "probabilities", "prediction_set"]
    assert names[3:] == [
        *("spend/prediction", "spend/lower", "spend/upper"),
        *("tier/label", "tier/probabilities"),
    ]
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.fixture(scope="module")
def port(
    folder: Path, serve_model: Callable[[Home, str], AbstractContextManager[int]]
) -> Iterator[int]:
    with serve_model(Home(folder / "home"), "clients") as port:
        yield port


def ask(port: int, method: str, path: str, body: object = None) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, text[:500]
    found: dict[str, Any] = json.loads(text)
    return found


def test_http_answers_every_target_by_its_name(folder: Path, raw: Raw, port: int) -> None:
    rows = pl.read_csv(folder / "clients.csv").select(NUMBERS).to_dicts()
    found = ask(port, "POST", "/invocations", {"dataframe_records": rows})["predictions"]
    bundle = LocalRegistry(Home(folder / "home")).resolve("clients@champion").bundle
    columns = as_columns(raw, decode_manifest((bundle / MANIFEST).read_bytes()).schema)
    assert list(found[0]) == list(columns)
    for name, values in columns.items():
        got = [row[name] for row in found]
        if values.dtype.kind in "Ob":
            assert got == values.tolist()
        else:
            np.testing.assert_allclose(np.array(got), values, atol=TOLERANCE, rtol=TOLERANCE)


def test_the_inference_protocol_lists_and_answers_them(folder: Path, raw: Raw, port: int) -> None:
    listed = ask(port, "GET", "/v2/models/clients")["outputs"]
    assert [item["name"] for item in listed] == list(raw)
    shapes = {item["name"]: item["shape"] for item in listed}
    assert shapes["tier/probabilities"] == [-1, 3]
    kinds = {item["name"]: item["datatype"] for item in listed}
    assert (kinds["prediction_set"], shapes["prediction_set"]) == ("BOOL", [-1, 2])
    assert shapes["spend/lower"] == [-1]
    table = pl.read_csv(folder / "clients.csv")
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [ROWS], "data": table[name].to_list()}
        for name in NUMBERS
    ]
    body = {"inputs": inputs, "outputs": [{"name": "tier/probabilities"}, {"name": "spend/upper"}]}
    first, second = ask(port, "POST", "/v2/models/clients/infer", body)["outputs"]
    got = np.array(first["data"]).reshape(first["shape"])
    np.testing.assert_allclose(got, raw["tier/probabilities"], atol=TOLERANCE)
    np.testing.assert_allclose(np.array(second["data"]), raw["spend/upper"], rtol=TOLERANCE)


def test_mlflow_answers_them_as_columns(folder: Path, raw: Raw) -> None:
    code = (
        "import sys, mlflow, pandas as pd\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model('models:/clients@champion')\n"
        "names = [column.name for column in model.metadata.signature.outputs]\n"
        "found = model.predict(pd.read_csv('clients.csv')[['x', 'y']])\n"
        "assert list(found) == names, (list(found), names)\n"
        "found.to_csv('by_mlflow.csv', index=False)\n"
    )
    uri = f"sqlite:///{folder / 'home' / 'mlflow' / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, "-c", code, uri],
        cwd=folder,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    table = pl.read_csv(folder / "by_mlflow.csv")
    got = table.select(f"tier/probability_{name}" for name in "abc").to_numpy()
    np.testing.assert_allclose(got, raw["tier/probabilities"], atol=TOLERANCE)
    for place, name in enumerate(("no", "yes")):
        assert table[f"in_set_{name}"].to_list() == raw["prediction_set"][:, place].tolist()
    np.testing.assert_allclose(
        table["spend/prediction"].to_numpy(), raw["spend/prediction"], rtol=TOLERANCE
    )


def test_scored_files_and_evaluations_hold_them(folder: Path, raw: Raw) -> None:
    run(folder, "predict", "clients", "clients.csv", "-o", "scored.parquet")
    scored = pl.read_parquet(folder / "scored.parquet")
    np.testing.assert_allclose(scored["spend/lower"].to_numpy(), raw["spend/lower"], rtol=1e-6)
    assert scored["tier/prediction"].to_list() == raw["tier/label"].tolist()
    found = run(folder, "evaluate", "clients", "clients.csv")["more_targets"]
    assert found["spend"]["rows"] == ROWS - ROWS // 4
    truth = scored.filter(pl.col("spend").is_not_null())
    spent = truth["spend"].cast(pl.Float64)  # CSV cells are kept as they were read
    error = (spent - truth["spend/prediction"]).to_numpy()
    assert found["spend"]["metrics"]["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
    assert "d2" not in found["spend"]["metrics"]
