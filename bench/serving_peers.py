"""What steadynet's server is compared with: how each peer is installed, started and asked."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers import free_port

Row = dict[str, Any]
APPS = Path(__file__).parent / "peer_apps"
RUNTIME = ("onnxruntime", "numpy")


@dataclass(frozen=True)
class Way:
    """How one row is asked for, and where the answer has its probabilities."""

    path: str
    body: Callable[[Row], object]
    read: Callable[[Any], list[float]]


@dataclass(frozen=True)
class Peer:
    """A server of someone else."""

    name: str
    requirements: tuple[str, ...]
    start: Callable[[Path, int, Path], list[str]]
    """Its command, of its programs, a port and a folder to write to."""
    numbers: Way
    mixed: Way
    environment: dict[str, str] = field(default_factory=dict)


def tensors(row: Row) -> dict[str, Any]:
    """Return an Open Inference Protocol body with one tensor per column."""
    return {
        "inputs": [
            {
                "name": name,
                "shape": [1, 1],
                "datatype": "BYTES" if isinstance(value, str) else "FP32",
                "data": [value],
            }
            for name, value in row.items()
        ]
    }


def matrix(row: Row) -> dict[str, Any]:
    """Return an Open Inference Protocol body with all numbers in one tensor."""
    values = list(row.values())
    return {
        "inputs": [{"name": "x", "shape": [1, len(values)], "datatype": "FP32", "data": values}]
    }


def _features(row: Row) -> dict[str, Any]:
    return {"features": list(row.values())}


def _first(answer: Any) -> list[float]:
    found: list[float] = answer["probabilities"][0]
    return found


def tensor_output(answer: Any) -> list[float]:
    """Return the probabilities of an Open Inference Protocol answer."""
    found: list[float] = next(
        one["data"] for one in answer["outputs"] if one["name"] == "probabilities"
    )
    return found


def record_output(answer: Any) -> list[float]:
    """Return the probabilities of an answer of MLflow's format."""
    first = answer["predictions"][0]
    cells = first.values() if isinstance(first, dict) else first
    return [cell for cell in cells if isinstance(cell, float)]


STEADYNET = {
    "numbers": {"steadynet": Way("/v2/models/bench/infer", matrix, tensor_output)},
    "mixed": {
        "steadynet": Way("/invocations", lambda row: {"dataframe_records": [row]}, record_output),
        "steadynet, a tensor per column": Way("/v2/models/bench/infer", tensors, tensor_output),
    },
}


def _fastapi(programs: Path, port: int, _: Path, *options: str) -> list[str]:
    return [str(programs / "python"), str(APPS / "fastapi_app.py"), str(port), *options]


def _bentoml(programs: Path, port: int, _: Path) -> list[str]:
    program = str(programs / "bentoml")
    return [program, "serve", "bentoml_app:Bench", f"--port={port}", f"--working-dir={APPS}"]


def _mlserver(programs: Path, port: int, folder: Path) -> list[str]:
    # A neighbour of a free port need not be free, and MLServer ends where one is taken.
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    # Its own process for a model would add a hop; the quicker way is measured.
    settings |= {"parallel_workers": 0, "host": "127.0.0.1", "debug": False}
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "bench", "implementation": "mlserver_app.Bench"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(programs / "mlserver"), "start", str(folder)]


def _mlflow(programs: Path, port: int, folder: Path) -> list[str]:
    model = f"{tempfile.mkdtemp(dir=folder)}/model"
    subprocess.run(
        [str(programs / "python"), str(APPS / "mlflow_app.py"), "save", model],
        check=True,
        capture_output=True,
        env={**os.environ, "BENCH_APPS": str(APPS), "PYTHONPATH": str(APPS)},
        cwd=folder,
    )
    serve = ["models", "serve", "-m", model, "--env-manager", "local", "--port", str(port)]
    return [str(programs / "mlflow"), *serve]


_FASTAPI = ("fastapi", "uvicorn[standard]", *RUNTIME)
_FASTAPI_WAYS = (Way("/predict", _features, _first), Way("/predict", lambda row: row, _first))

PEERS = (
    Peer("FastAPI", _FASTAPI, _fastapi, *_FASTAPI_WAYS),
    Peer("FastAPI, async", _FASTAPI, lambda *of: _fastapi(*of, "async"), *_FASTAPI_WAYS),
    Peer(
        "LitServe",
        ("litserve", *RUNTIME),
        lambda programs, port, _: [
            str(programs / "python"),
            str(APPS / "litserve_app.py"),
            str(port),
        ],
        *_FASTAPI_WAYS,
    ),
    Peer(
        "BentoML",
        ("bentoml", *RUNTIME),
        _bentoml,
        Way("/predict", _features, _first),
        Way("/record", lambda row: {"row": row}, _first),
        {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Peer(
        "MLServer",
        ("mlserver", *RUNTIME),
        _mlserver,
        Way("/v2/models/bench/infer", matrix, tensor_output),
        Way("/v2/models/bench/infer", tensors, tensor_output),
    ),
    Peer(
        "MLflow",
        ("mlflow", *RUNTIME),
        _mlflow,
        Way("/invocations", lambda row: {"inputs": [list(row.values())]}, record_output),
        Way("/invocations", lambda row: {"dataframe_records": [row]}, record_output),
        {"MLFLOW_DISABLE_TELEMETRY": "true"},
    ),
)
