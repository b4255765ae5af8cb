"""Thousands of generated requests to a real server: no 5xx, no crash, no growth.

`bench/fuzz.py` sends a million of the same kind.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from fuzz import fuzz, fuzz_orders, metadata
from fuzz_grpc import fuzz_grpc
from one_server import memory_of

from steadynet.home import Home
from steadynet.rollout.route import Endpoint
from steadynet.serving.settings import ServerInfo

MODEL = "payments"
SEED = int(os.environ.get("STEADYNET_FUZZ_SEED", "20261125"))

pytestmark = pytest.mark.slow


def test_no_generated_request_brings_a_server_out_of_step(
    serve_process: Callable[..., AbstractContextManager[tuple[ServerInfo, Any]]],
    make_endpoint: Callable[..., Endpoint],
    home: Home,
) -> None:
    bundle = make_endpoint("1").bundle
    with serve_process(bundle, grpc_port=0, admin_port=0) as (info, _):
        fuzz(info.url, MODEL, 1500, SEED + 1)
        before = memory_of(info.workers[0])
        report = fuzz(info.url, MODEL, 3000, SEED)
        assert report.faults == [], f"seed {SEED}"
        assert report.statuses.total() + report.dropped == 3000
        assert report.dropped == 0
        assert report.statuses[200] > 100, "not everything may be refused"
        assert report.statuses[400] > 100
        columns = metadata(info.url, MODEL)
        over_grpc = fuzz_grpc(f"127.0.0.1:{info.grpc_port}", MODEL, columns, 600, SEED)
        assert over_grpc.faults == [], f"seed {SEED}"
        assert over_grpc.codes["OK"] > 20
        admin = f"http://127.0.0.1:{info.admin_port}"
        orders = fuzz_orders(admin, MODEL, (), 200, SEED)
        assert orders.faults == [], f"seed {SEED}"
        assert orders.statuses[200] > 10
        now = msgspec.json.decode(home.server(MODEL).read_bytes(), type=ServerInfo)
        assert now.workers == info.workers, "the worker has died"
        assert memory_of(info.workers[0]) < before + 60_000_000
        assert httpx.get(f"{info.url}/ping", timeout=60).status_code == 200
    log = Path(home.root.parent / "serve.log").read_text()
    assert "Traceback" not in log
    assert '"level":"error"' not in log
