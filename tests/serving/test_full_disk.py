"""A disk that is full while a server runs: it goes on, and counts what it has counted."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import msgspec
from serving_scene import ROW, runs

from steadynet.home import Home
from steadynet.rollout.route import Endpoint
from steadynet.serving.settings import ServerInfo

ServeProcess = Callable[..., AbstractContextManager[tuple[ServerInfo, "subprocess.Popen[bytes]"]]]
MakeEndpoint = Callable[..., Endpoint]
WaitUntil = Callable[[Callable[[], bool]], None]


def leave_room(pid: int, most_bytes: int | None) -> None:
    """Let a process, and what it starts, write no file beyond so many bytes; None: of any size."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if most_bytes is None else most_bytes, hard))


def workers(home: Home) -> tuple[int, ...]:
    """Return the workers that `server.json` names."""
    return msgspec.json.decode(home.server("payments").read_bytes(), type=ServerInfo).workers


def ask(info: ServerInfo) -> float:
    """Ask for a prediction; return how many the metrics show then."""
    answer = httpx.post(f"{info.url}/invocations", json={"instances": [ROW]}, timeout=60)
    assert answer.status_code == 200
    lines = httpx.get(f"{info.url}/metrics", timeout=60).text.splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("steadynet_requests_total")
    )


def test_a_worker_that_dies_while_the_disk_is_full_is_replaced_and_its_counts_stay(
    serve_process: ServeProcess, make_endpoint: MakeEndpoint, home: Home, wait_until: WaitUntil
) -> None:
    with serve_process(make_endpoint("1").bundle) as (info, process):
        assert ask(info) == 1
        leave_room(process.pid, 0)
        os.kill(info.workers[0], signal.SIGKILL)
        wait_until(lambda: not runs(info.workers[0]))
        # Another worker takes the connection. It can write down no more than the supervisor.
        assert ask(info) == 1
        assert workers(home) == info.workers
        leave_room(process.pid, None)
        wait_until(lambda: workers(home) not in ((), info.workers))
        leave_room(workers(home)[0], None)
        assert ask(info) == 3, "the dead one's, and both of the other"
