"""A real server of small real bundles, its controller beside it, and a client that drives it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest

from steadynet.bundle.read import Bundle
from steadynet.control.processes import kill_process
from steadynet.control.report import ModelStatus, journal, model_status
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry

NAME = "payments"
PATIENCE_S = 120.0

SPEC = """
[serve]
window_s = 0.25
challenger_deadline_ms = 200.0

[slo]
latency_ms = 1000.0

[rollout]
steps = [0.2]
min_requests = 60
min_step_s = 0.5
max_step_s = 60.0
min_labels = 0
error_tolerance = 0.02
latency_tolerance = 0.3

[monitoring]
drift_window_rows = 100000

[heal]
min_labelled_rows = 200
cooldown_s = 5.0
max_failures = 2
"""


class MakeBundle(Protocol):
    """What these tests ask of the shared fixture."""

    def __call__(
        self,
        name: str = ...,
        *,
        variant: Literal["good", "raises", "nan", "slow", "worse"] = ...,
        seed: int = ...,
    ) -> Bundle:
        """Write and sign a bundle."""
        ...


@dataclass
class Load:
    """Requests without end, each answer counted."""

    port: int
    rows: list[dict[str, Any]]
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        number = 0
        while not self._stop.is_set():
            row = self.rows[number % len(self.rows)]
            request_id = f"q{number}"
            number += 1
            body = json.dumps({"dataframe_records": [row]})
            headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
            try:
                connection.request("POST", "/invocations", body, headers)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(type(error).__name__)
                connection.close()
                continue
            if answer.status == 200:
                self.answered += 1
                self.ids.append(request_id)
            else:
                self.failed.append(f"{answer.status} {text[:200]!r}")
            # The pace of a modest caller; the cores are shared with the server.
            self._stop.wait(0.004)
        connection.close()


@dataclass
class Served:
    """A running server."""

    home: Home
    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    def status(self) -> ModelStatus:
        return model_status(self.home, NAME, time.time())

    def told(self) -> list[str]:
        return [f"{e.kind}: {e.text}" for e in journal(self.home, NAME, 1000)[0]]

    def server(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.home.server(NAME).read_bytes())
        return found

    def command(self, *arguments: str) -> dict[str, Any]:
        """Run a command line with --json and return its answer."""
        done = subprocess.run(
            [sys.executable, "-m", "steadynet.cli.main", *arguments, "--json"],
            env={**os.environ, "STEADYNET_HOME": str(self.home.root)},
            cwd=self.folder,
            capture_output=True,
            timeout=120,
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        answer["exit_code"] = done.returncode
        return answer

    def until(self, ready: Callable[[], bool], what: str) -> None:
        """Wait for an event; fail with the journal where it does not come."""
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if time.monotonic() > deadline or self.process.poll() is not None:
                log = (self.folder / "server.log").read_text()[-3000:]
                pytest.fail(f"{what} did not happen; the journal: {self.told()}\n{log}")
            time.sleep(0.05)


@pytest.fixture
def versions(home: Home, make_bundle: MakeBundle) -> Callable[..., None]:
    """Registers bundles of the given variants as versions 1, 2, …"""

    def register(*variants: Literal["good", "raises", "nan", "slow", "worse"]) -> None:
        registry = LocalRegistry(home)
        for number, variant in enumerate(variants, start=1):
            bundle = make_bundle(NAME, variant=variant, seed=number)
            registry.add(bundle, NAME, str(number))

    return register


@pytest.fixture
def serve(home: Home, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts a server with its controller; ends it afterwards."""
    started: list[subprocess.Popen[bytes]] = []

    def start(spec: str = SPEC, workers: int = 1) -> Served:
        (tmp_path / "steadynet.toml").write_text(spec)
        with (tmp_path / "server.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "steadynet.cli.main", "serve", NAME, "--json"),
                    *("--port", "0", "--workers", str(workers)),
                ],
                env={**os.environ, "STEADYNET_HOME": str(home.root), "OMP_NUM_THREADS": "1"},
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        started.append(process)
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.rstrip() == b"}":
                break
        assert lines, (tmp_path / "server.log").read_text()
        answer = json.loads(b"".join(lines))
        assert "port" in answer, (answer, (tmp_path / "server.log").read_text())
        port = answer["port"]
        return Served(home, port, tmp_path, process)

    yield start
    for process in started:
        process.terminate()
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()
    # Jobs outlive the server on purpose.
    for folder in (home.root / "runs").glob("*"):
        kill_process(folder)


def stumbling_rows(
    make_rows: Callable[[int, int], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Return rows of which some make the variants `raises` and `nan` stumble."""
    rows = make_rows(200, 0)
    for position, row in enumerate(rows):
        if position % 5 == 0:
            row["country"] = "XX"
        if position % 5 == 1:
            row["amount"] = -5.0
    return rows


@pytest.fixture
def load(make_rows: Callable[[int, int], list[dict[str, Any]]]) -> Iterator[Callable[..., Load]]:
    """Starts a load on a server; stops it afterwards."""
    running: list[Load] = []

    def start(served: Served, rows: list[dict[str, Any]] | None = None) -> Load:
        made = Load(served.port, stumbling_rows(make_rows) if rows is None else rows)
        made.start()
        running.append(made)
        return made

    yield start
    for item in running:
        item.stop()


@pytest.fixture(scope="session")
def serve_model() -> Callable[[Home, str], AbstractContextManager[int]]:
    """Serves a model of a home by the command, with its controller; yields the port."""
    return _serve_model


@contextmanager
def _serve_model(home: Home, name: str) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "steadynet.cli.main", "serve", name, "--port", "0", "--json"],
        cwd=home.root.parent,
        env={**os.environ, "STEADYNET_HOME": str(home.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        text = b""
        while not text or text.count(b"{") != text.count(b"}"):
            line = process.stdout.readline()
            assert line, "the server ended"
            text += line
        yield int(json.loads(text)["port"])
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stdout.close()
