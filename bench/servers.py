"""Servers under measurement: started on a core of their own, watched, ended by their ids."""

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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from models import rows_of

from steadynet.table.schema import Schema

HERE = Path(__file__).parent
SERVE = "import sys; from steadynet.cli.main import run; sys.exit(run(sys.argv[1:]))"
"""`python -c SERVE serve ...` is the command `steadynet serve ...`."""
START_S = 90.0
END_S = 15.0


def bodies_of(schema: Schema, count: int = 256, *, matrix: bool = False) -> bytes:
    """Return one Open Inference Protocol body per line."""
    lines = []
    for row in rows_of(schema, count, seed=1):
        inputs = [
            {
                "name": name,
                "shape": [1, 1],
                "datatype": "BYTES" if isinstance(value, str) else "FP32",
                "data": [value],
            }
            for name, value in row.items()
        ]
        if matrix:
            values = list(row.values())
            inputs = [{"name": "x", "shape": [1, len(values)], "datatype": "FP32", "data": values}]
        lines.append(json.dumps({"inputs": inputs}, separators=(",", ":")).encode())
    return b"\n".join(lines) + b"\n"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str],
    *,
    cores: str,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    log: Path = Path(os.devnull),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on some cores, in a process group of its own that is ended with it.

    What it prints goes to the file `log`.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", cores, *command],
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        # Whatever a server leaves behind is in the group that was made for it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(
    port: int,
    path: str = "/ping",
    *,
    process: subprocess.Popen[bytes] | None = None,
    log: Path = Path(os.devnull),
) -> None:
    """Wait until something answers on the port.

    Raises `ChildProcessError` where `process` ends meanwhile, and `TimeoutError`; both tell the
    last line of `log`.
    """
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process is not None and (code := process.poll()) is not None:
            raise ChildProcessError(f"the server ended with {code}{_last_line(log)}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).read()
            return
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"the server did not start{_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")


def post(port: int, path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """Return the body of the answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body, {"Content-Type": content_type}
    )
    answer: bytes = urllib.request.urlopen(request, timeout=30).read()
    return answer


def family(pid: int) -> list[int]:
    """Return a process and its children, and theirs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def cpu_s(pid: int) -> float:
    """Return the processor seconds of a process and its children, which a busy machine leaves as
    they are."""
    total = 0.0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def memory_mb(pid: int) -> float:
    """Return the megabytes of a process and its children, shared pages counted once."""
    total = 0.0
    for one in family(pid):
        for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) / 1024
    return total


def steadynet(bundle: Path, port: int, *options: str) -> list[str]:
    """Return the command that serves a bundle, with everything on but the controller."""
    serve = ["serve", str(bundle), f"--port={port}", "--no-controller"]
    return [sys.executable, "-c", SERVE, *serve, *options]
