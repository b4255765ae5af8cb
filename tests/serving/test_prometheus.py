"""A real Prometheus scrapes a real server, with a key, while a worker dies; promtool agrees.

Skipped where the two programs are not installed (`apt-get install prometheus`).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from serving_scene import ROW

from steadynet.home import Home
from steadynet.rollout.route import Endpoint
from steadynet.serving.keys import KeyRole, changing_keys, make_key
from steadynet.serving.settings import ServerInfo

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PROMETHEUS is None or PROMTOOL is None,
        reason="prometheus and promtool are not installed (Debian package prometheus)",
    ),
]

ServeProcess = Callable[..., AbstractContextManager[tuple[ServerInfo, "subprocess.Popen[bytes]"]]]
WaitUntil = Callable[[Callable[[], bool]], None]


def add_key(home: Home, role: KeyRole) -> str:
    """Make a key."""
    key, kept = make_key(role, role, now=0.0)
    with changing_keys(home) as keys:
        keys.append(kept)
    return key


@contextmanager
def prometheus(folder: Path, target: str, key: str) -> Iterator[str]:
    """Run a Prometheus that scrapes the target each half second; yield its URL."""
    assert PROMETHEUS is not None
    (folder / "key").write_text(key)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
        "scrape_configs:\n"
        "  - job_name: steadynet\n"
        f"    authorization: {{credentials_file: {folder / 'key'}}}\n"
        f"    static_configs: [{{targets: ['{target}']}}]\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(60)


def query(url: str, expression: str) -> float | None:
    """Return the only value of an instant query; None where there is none yet."""
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": expression}, timeout=60)
    except httpx.TransportError:
        return None
    if answer.status_code != 200:
        return None
    result = answer.json()["data"]["result"]
    return float(result[0]["value"][1]) if result else None


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
