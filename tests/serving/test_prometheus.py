"""A real Prometheus scrapes a real server, with a key, while a worker dies; promtool agrees.

Skipped where the two programs are not installed (`apt-get install prometheus`).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import msgspec
import pytest
from prometheus_server import PROMETHEUS, PROMTOOL, REASON, prometheus, query
from serving_scene import ROW

from steadynet.home import Home
from steadynet.rollout.route import Endpoint
from steadynet.serving.keys import KeyRole, changing_keys, make_key
from steadynet.serving.settings import ServerInfo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROMETHEUS is None or PROMTOOL is None, reason=REASON),
]

ServeProcess = Callable[..., AbstractContextManager[tuple[ServerInfo, "subprocess.Popen[bytes]"]]]
WaitUntil = Callable[[Callable[[], bool]], None]


def add_key(home: Home, role: KeyRole) -> str:
    """Make a key."""
    key, kept = make_key(role, role, now=0.0)
    with changing_keys(home) as keys:
        keys.append(kept)
    return key


def test_a_prometheus_counts_what_callers_were_answered(
    serve_process: ServeProcess,
    make_endpoint: Callable[..., Endpoint],
    home: Home,
    tmp_path: Path,
    wait_until: WaitUntil,
) -> None:
    caller, viewer = add_key(home, "caller"), add_key(home, "viewer")
    total = "sum(steadynet_requests_total)"
    with (
        serve_process(make_endpoint("1").bundle, workers=2, auth="keys", window_s=0.2) as (info, _),
        prometheus(tmp_path, f"{info.host}:{info.port}", viewer) as url,
    ):

        def predict(count: int) -> None:
            for _ in range(count):
                answer = httpx.post(
                    f"{info.url}/invocations",
                    json={"instances": [ROW]},
                    headers={"authorization": f"Bearer {caller}"},
                    timeout=60,
                )
                assert answer.status_code == 200

        predict(30)
        wait_until(lambda: query(url, total) == 30)
        before = msgspec.json.decode(home.server("payments").read_bytes(), type=ServerInfo)
        # What the victim had counted is published before it dies, so none of it may be missing.
        os.kill(before.workers[0], signal.SIGKILL)
        wait_until(lambda: query(url, "min_over_time(up[3s])") == 1.0)
        predict(30)
        wait_until(lambda: query(url, total) == 60)
        assert query(url, "sum(resets(steadynet_requests_total[5m]))") == 0
        assert query(url, "sum(steadynet_request_seconds_count)") == 60
        assert query(url, 'sum(steadynet_http_responses_total{status="401"})') is None
        p99 = query(url, "histogram_quantile(0.99, sum by (le) (steadynet_request_seconds_bucket))")
        assert p99 is not None
        assert 0 < p99 < 60
        answer = httpx.get(f"{info.url}/metrics", headers={"x-api-key": viewer}, timeout=60)
        assert viewer[16:] not in answer.text
        promtool(answer.content)


def promtool(text: bytes) -> None:
    """Fail where promtool finds anything to say of the metrics."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
