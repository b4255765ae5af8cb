"""The checks pass on a server that does what the standard says, and each finds its fault."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from steadynet.cli.main import run
from steadynet.conformance.checks import Outcome, run_checks
from steadynet.conformance.http_checks import HTTP_CHECKS
from steadynet.conformance.target import HttpTarget

METADATA = {
    "name": "sums",
    "versions": ["1"],
    "platform": "python",
    "inputs": [
        {"name": "a", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "b", "datatype": "INT64", "shape": [-1]},
    ],
    "outputs": [
        {"name": "sum", "datatype": "FP64", "shape": [-1]},
        {"name": "words", "datatype": "BYTES", "shape": [-1]},
    ],
}


class Refused(Exception):
    """A request that the small server does not take."""


class SumsServer(ThreadingHTTPServer):
    """A small server of the protocol, whose one fault can be chosen."""

    fault = ""


class Handler(BaseHTTPRequestHandler):
    """Answers as the standard says, but for the server's fault."""

    server: SumsServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self, status: int, content: Any) -> None:
        """Send one response."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Health and metadata."""
        fault = self.server.fault
        parts = self.path.strip("/").split("/")
        match parts:
            case ["v2"]:
                content = {"name": "sums", "version": "1", "extensions": []}
                self.answer(200, [] if fault == "no object" else content)
            case ["v2", "health", "live"]:
                self.answer(500 if fault == "dead" else 200, {"live": True})
            case ["v2", "health", "ready"]:
                self.answer(503 if fault == "not ready" else 200, {"ready": True})
            case ["v2", "models", "sums"] | ["v2", "models", "sums", "versions", "1"]:
                self.answer(200, {**METADATA, "platform": 5} if fault == "platform" else METADATA)
            case ["v2", "models", "sums", *_, "ready"]:
                self.answer(200, {"name": "sums", "ready": fault != "model not ready"})
            case _:
                self.refuse("no such path")

    def do_POST(self) -> None:
        """Inference."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.strip("/").split("/")
        known = path[2:3] == ["sums"] or self.server.fault == "any model"
        if not known or path[3:-1] not in ([], ["versions", "1"]):
            self.refuse("no such model")
            return
        try:
            self.answer(200, self.infer(json.loads(body)))
        except (Refused, ValueError, KeyError, TypeError, AttributeError) as error:
            self.refuse(type(error).__name__)

    def refuse(self, why: str) -> None:
        """Send an error."""
        fault = self.server.fault
        body: Any = b"sorry" if fault == "bare errors" else {"error": why}
        self.answer(500 if fault == "errors are 500" else 404, body)

    def infer(self, asked: Any) -> Any:
        """Return the sums of two columns, with another's."""
        fault = self.server.fault
        inputs = {item["name"]: self.values(item) for item in asked["inputs"]}
        if set(inputs) != {"a", "b"} and fault != "missing input":
            raise Refused
        rows = range(len(inputs.get("b", [0])))
        sums = [sum(inputs.get("a", [0])[2 * at : 2 * at + 2]) + 1.0 for at in rows]
        outputs = [
            {"name": "sum", "datatype": "FP64", "shape": [len(sums)], "data": sums},
            {"name": "words", "datatype": "BYTES", "shape": [len(sums)], "data": ["w"] * len(sums)},
        ]
        if fault == "wrong count":
            outputs[0]["data"] = [*sums, 1.0]
        if fault == "wrong datatype":
            outputs[0]["datatype"] = "FP32"
        if fault == "wrong elements":
            outputs[0]["data"] = [str(value) for value in sums]
        if fault == "order":
            outputs[0]["data"] = [float(asked["inputs"][0]["name"] == "a")]
        wanted = [item["name"] for item in asked.get("outputs", [])]
        if not set(wanted) <= {"sum", "words"} and fault != "any output":
            raise Refused
        if wanted and fault != "all outputs":
            outputs = [item for item in outputs if item["name"] in wanted]
        identified = {} if fault == "loses ids" else {"id": asked.get("id", "")}
        return {"model_name": "sums", "model_version": "1", "outputs": outputs, **identified}

    def values(self, item: Any) -> list[float]:
        """Return an input's flat values."""
        fault = self.server.fault
        if item["datatype"] not in ("FP32", "INT64") and fault != "any datatype":
            raise Refused
        found: list[float] = []
        for value in item["data"]:
            found += value if isinstance(value, list) and fault != "flat only" else [value]
        if any(not isinstance(value, int | float) for value in found):
            raise Refused
        is_whole = min(item["shape"]) >= 0 and math.prod(item["shape"]) == len(found)
        if not is_whole and fault != "any shape":
            raise Refused
        return found


@contextmanager
def sums_server(fault: str = "") -> Iterator[str]:
    """Run the small server; yield its address."""
    with SumsServer(("127.0.0.1", 0), Handler) as server:
        server.fault = fault
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def outcomes(url: str, model: str = "sums") -> dict[str, Outcome]:
    """Return what comes of each check."""
    return {outcome.name: outcome for outcome in run_checks(HTTP_CHECKS, HttpTarget(url, model))}


def failed(found: dict[str, Outcome]) -> set[str]:
    """Return the names of the checks that failed, without `http.`."""
    return {name[5:] for name, outcome in found.items() if outcome.result == "fail"}


def test_a_small_server_passes_and_extensions_are_skipped() -> None:
    with sums_server() as url:
        found = outcomes(url)
    assert not failed(found)
    skipped = {name for name, outcome in found.items() if outcome.result == "skip"}
    assert skipped == {
        "http.binary-input",
        "http.binary-output",
        "http.binary-cut-off",
        "http.repository-index",
    }


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ("dead", {"server-live"}),
        ("not ready", {"server-ready"}),
        ("model not ready", {"model-ready"}),
        ("no object", {"server-metadata"}),
        ("platform", {"model-metadata", "version-metadata"}),
        ("wrong count", {"infer"}),
        ("wrong datatype", {"infer"}),
        ("wrong elements", {"infer"}),
        ("order", {"infer-order"}),
        ("loses ids", {"infer-id"}),
        ("flat only", {"infer-nested"}),
        ("all outputs", {"infer-output"}),
        ("any model", {"unknown-model"}),
        ("any output", {"unknown-output"}),
        ("any datatype", {"unknown-datatype"}),
        ("any shape", {"too-few-elements", "negative-shape"}),
        ("missing input", {"missing-input"}),
        ("bare errors", {"unknown-model", "not-json", "wrong-elements", "no-inputs"}),
        ("errors are 500", {"unknown-version", "not-json", "missing-input"}),
    ],
)
def test_each_fault_is_found(fault: str, names: set[str]) -> None:
    with sums_server(fault) as url:
        found = outcomes(url)
    assert names <= failed(found)
    for name in names:
        outcome = found[f"http.{name}"]
        assert outcome.expected
        assert outcome.got


def test_a_server_that_is_not_there_fails_every_check() -> None:
    with sums_server() as url:
        pass
    found = outcomes(url)
    assert failed(found) == {name[5:] for name in found}
    assert "ConnectionRefusedError" in found["http.server-live"].got


def test_names_are_unique() -> None:
    names = [check.name for check in HTTP_CHECKS]
    assert len(set(names)) == len(names)


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with sums_server() as url:
        assert run(["conformance", url, "--model", "sums", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["counts"] == {"pass": 25, "fail": 0, "skip": 4}
        assert {item["name"] for item in report["outcomes"]} == {c.name for c in HTTP_CHECKS}
        assert run(["conformance", url]) == 2, "this server lists no models"
        assert "--model" in capsys.readouterr().err
        path = tmp_path / "request.json"
        path.write_text('{"inputs": 5')
        assert run(["conformance", url, "--model", "sums", "--request", str(path)]) == 2
        path.write_text(
            '{"inputs": [{"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 3.0]},'
            ' {"name": "b", "datatype": "INT64", "shape": [1], "data": [1]}]}'
        )
        assert run(["conformance", url, "--model", "sums", "--request", str(path)]) == 0
    assert run(["conformance", "localhost:8080"]) == 2
    with sums_server("loses ids") as url:
        capsys.readouterr()
        assert run(["conformance", url, "--model", "sums"]) == 1
        assert "1 failed" in capsys.readouterr().out
