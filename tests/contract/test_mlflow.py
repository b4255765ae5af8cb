"""MLflow's own tools load and serve our bundles, with the predictor's answers to 1e-5."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from steadynet.bundle.read import Bundle
from steadynet.bundle.sign import ensure_key
from steadynet.home import Home
from steadynet.registry.mlflow_registry import Registry, _quiet
from steadynet.registry.record import RunRecord
from steadynet.runtime.predictor import Predictor

pytestmark = pytest.mark.slow

Rows = list[dict[str, Any]]
START_S = 60


@pytest.fixture
def registry(home: Home, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The registry of a fresh home, as a user has it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return Registry(home)


def expected(bundle: Bundle, rows: Rows) -> pd.DataFrame:
    """Return the predictor's answers in MLflow's form."""
    predictor = Predictor(bundle)
    answers = predictor.run(predictor.decoder.rows(rows))
    classes = bundle.manifest.schema.target.classes
    if not classes:
        return pd.DataFrame(answers)
    columns = {
        f"probability_{name}": answers["probabilities"][:, at] for at, name in enumerate(classes)
    }
    return pd.DataFrame({"label": answers["label"], **columns})


def assert_equal_answers(got: pd.DataFrame, wanted: pd.DataFrame) -> None:
    assert list(got.columns) == list(wanted.columns)
    for name in wanted.columns:
        if name == "label":
            assert list(got[name]) == list(wanted[name])
        else:
            np.testing.assert_allclose(
                got[name].astype(float), wanted[name].astype(float), rtol=0, atol=1e-5
            )


def load(registry: Registry, uri: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking_uri)
    with _quiet():
        import mlflow.pyfunc

        return mlflow.pyfunc.load_model(uri)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_pyfunc_answers_as_the_predictor(
    registry: Registry,
    make_bundle: Callable[..., Bundle],
    make_rows: Callable[[int, int], Rows],
    monkeypatch: pytest.MonkeyPatch,
    task: str,
) -> None:
    bundle = make_bundle(task=task)
    registry.register(bundle, run=RunRecord())
    model = load(registry, "models:/payments@champion", monkeypatch)
    rows = make_rows(60, 1)
    frame = pd.DataFrame(rows).drop(columns="id")
    assert_equal_answers(model.predict(frame), expected(bundle, rows))
    assert [column.name for column in model.metadata.signature.inputs] == [
        column.name for column in bundle.manifest.schema.features
    ]
    answers = [column.name for column in model.metadata.signature.outputs]
    assert answers == list(expected(bundle, rows).columns)


def test_pyfunc_takes_the_values_that_every_other_way_takes(
    registry: Registry,
    tiny_bundle: Bundle,
    make_rows: Callable[[int, int], Rows],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.register(tiny_bundle, run=RunRecord())
    model = load(registry, "models:/payments/1", monkeypatch)
    [row] = make_rows(1, 1)
    rows: Rows = [
        row | {"amount": " 12.5 ", "new_card": "yes", "paid_at": 1_767_225_600},
        row | {"amount": 7, "new_card": 0, "paid_at": "2026-01-01T00:00:00Z"},
        row | {"amount": None, "new_card": None, "paid_at": None, "country": None},
        row | {"amount": "NA", "country": "?", "label": float("inf")},
    ]
    frame = pd.DataFrame(rows).drop(columns="id")
    assert_equal_answers(model.predict(frame), expected(tiny_bundle, rows))
    times = frame.assign(
        paid_at=pd.to_datetime(pd.Series(["2026-01-01", "2026-02-01", None, "2026-03-01"]))
    )
    told = [
        row | {"paid_at": text}
        for row, text in zip(rows, ["2026-01-01", "2026-02-01", None, "2026-03-01"], strict=True)
    ]
    assert_equal_answers(model.predict(times), expected(tiny_bundle, told))


def test_pyfunc_verifies_the_signature_where_a_key_is_named(
    registry: Registry,
    tiny_bundle: Bundle,
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from steadynet.errors import BundleTampered

    registry.register(tiny_bundle, run=RunRecord())
    monkeypatch.setenv("STEADYNET_PUBLIC_KEY", str(ensure_key(home).public))
    assert load(registry, "models:/payments/1", monkeypatch)
    stranger = ensure_key(Home(tmp_path / "other"))
    monkeypatch.setenv("STEADYNET_PUBLIC_KEY", str(stranger.public))
    with pytest.raises(BundleTampered, match="another key"):
        load(registry, "models:/payments/1", monkeypatch)


@pytest.fixture
def invocations(
    registry: Registry, tiny_bundle: Bundle, tmp_path: Path
) -> Iterator[Callable[[dict[str, Any]], tuple[int, Any]]]:
    """`mlflow models serve` of the champion; gives a function that posts to /invocations."""
    registry.register(tiny_bundle, run=RunRecord())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["-m", "mlflow", "models", "serve", "-m", "models:/payments@champion"]
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    log = (tmp_path / "serve.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, *command, *options, "--workers", "1"],
        # MLflow looks for uvicorn on the path, where it is not unless the environment is activated.
        env=os.environ
        | {
            "MLFLOW_TRACKING_URI": registry.tracking_uri,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        stdout=log,
        stderr=subprocess.STDOUT,
        # A group of its own: the command starts the real server as its child.
        start_new_session=True,
    )

    def post(body: dict[str, Any]) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    try:
        wait_until_up(port, server, tmp_path / "serve.log")
        yield post
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(15)
        log.close()


def wait_until_up(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server answers; fail with its log when it does not."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"mlflow models serve does not answer:\n{log.read_text()[-3000:]}")


def test_mlflow_serves_what_the_predictor_answers(
    invocations: Callable[[dict[str, Any]], tuple[int, Any]],
    tiny_bundle: Bundle,
    make_rows: Callable[[int, int], Rows],
) -> None:
    rows = make_rows(20, 5)
    names = [column.name for column in tiny_bundle.manifest.schema.features]
    split = {"columns": names, "data": [[row[name] for name in names] for row in rows]}
    records = [{name: row[name] for name in names} for row in rows]
    for body in ({"dataframe_split": split}, {"dataframe_records": records}):
        status, answer = invocations(body)
        assert status == 200, answer
        assert_equal_answers(pd.DataFrame(answer["predictions"]), expected(tiny_bundle, rows))
    status, answer = invocations({"dataframe_records": [{"amount": 1.0}]})
    assert status == 400
