"""Every panel of the dashboards gets data from a real Prometheus that scrapes a real server."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import msgspec
import pytest
from dashboard_queries import expressions
from metrics_scene import FOUND
from prometheus_server import PROMETHEUS, PROMTOOL, REASON, prometheus, samples
from serving_scene import POISON, ROW

from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.monitoring.dashboards import Subject, dashboards
from steadynet.monitoring.findings import Findings, SecondsSpent
from steadynet.monitoring.rules import prometheus_rules
from steadynet.rollout.route import Endpoint, Route
from steadynet.serving.keys import changing_keys, make_key
from steadynet.serving.settings import ServerInfo
from steadynet.spec.model import Slo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROMETHEUS is None or PROMTOOL is None, reason=REASON),
]

ServeProcess = Callable[..., AbstractContextManager[tuple[ServerInfo, "subprocess.Popen[bytes]"]]]
SLO = Slo(max_age_s=86_400.0)
BY_NAME = f"v2/models/{FOUND.model}/versions/2/infer"
KINDS = {bool: "BOOL", float: "FP64", str: "BYTES"}
POISONED = [
    {"name": name, "shape": [1], "datatype": KINDS[type(value)], "data": [value]}
    for name, value in POISON.items()
]


def roll_out(home: Home, challenger: Endpoint) -> None:
    """Let the challenger answer half of the requests, and mirror the others to it."""
    path = home.route(FOUND.model)
    route = msgspec.json.decode(path.read_bytes(), type=Route)
    after = msgspec.structs.replace(
        route,
        generation=route.generation + 1,
        challenger=challenger,
        share=0.5,
        mirror=1.0,
        salt="rollout-1",
    )
    write_atomic(path, msgspec.json.encode(after))


def findings(step: int) -> Findings:
    """Return what a controller finds as time goes on: what it counts rises."""
    spent = SecondsSpent(900.0 + step, 300.0 + step)
    return msgspec.structs.replace(
        FOUND,
        at=time.time(),
        spent={"quality": spent, "freshness": spent},
        rollouts={name: number + step for name, number in FOUND.rollouts.items()},
        heals={name: number + step for name, number in FOUND.heals.items()},
    )


def test_a_prometheus_has_data_for_every_expression(
    serve_process: ServeProcess,
    make_endpoint: Callable[..., Endpoint],
    home: Home,
    tmp_path: Path,
    wait_until: Callable[[Callable[[], bool]], None],
) -> None:
    key, kept = make_key("caller", "caller", now=0.0)
    with changing_keys(home) as keys:
        keys.append(kept)
    subject = Subject(model=FOUND.model, task="binary", slo=SLO)
    asked = {
        # What changed within a minute is told after a minute; the test does not wait so long.
        text.replace("offset 1m", "offset 5s")
        for made in dashboards(subject).values()
        for text in expressions(made)
    }
    step = 0
    with (
        serve_process(make_endpoint("1").bundle, auth="keys", window_s=0.2) as (info, _),
        prometheus(
            tmp_path,
            f"{info.host}:{info.port}",
            key,
            rules=msgspec.json.encode(prometheus_rules(FOUND.model, SLO)).decode(),
        ) as url,
    ):
        roll_out(home, make_endpoint("2", variant="raises"))

        def post(path: str, body: dict[str, object]) -> int:
            headers = {"authorization": f"Bearer {key}"}
            return httpx.post(
                f"{info.url}/{path}", json=body, headers=headers, timeout=60, verify=False
            ).status_code

        def all_are_told() -> bool:
            nonlocal step
            step += 1
            write_atomic(home.findings(FOUND.model), msgspec.json.encode(findings(step)))
            for row in (ROW, POISON):
                assert post("invocations", {"instances": [row]}) == 200
            # Of the challenger itself, which raises, or is not loaded yet.
            assert post(BY_NAME, {"inputs": POISONED}) in (404, 500)
            asked.difference_update([text for text in asked if samples(url, text)])
            return not asked

        try:
            wait_until(all_are_told)
        finally:
            assert not asked, "\n".join(sorted(asked))
