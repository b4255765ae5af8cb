"""What is kept of rows: nothing of redacted columns, and all but the last window after kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from steadynet.errors import UserError
from steadynet.home import Home
from steadynet.monitoring.records import LoggedRow
from steadynet.rollout.route import Endpoint
from steadynet.runtime.spool import read_spool
from steadynet.serving.first_route import check_redacted
from steadynet.serving.settings import ServerInfo

ServeProcess = Callable[..., AbstractContextManager[tuple[ServerInfo, "subprocess.Popen[bytes]"]]]
WaitUntil = Callable[[Callable[[], bool]], None]

MODEL = "payments"
ROW: dict[str, Any] = {
    "amount": 987654.25,
    "label": 0.5,
    "country": "ATLANTIS",
    "new_card": True,
    "paid_at": "2026-01-01T10:00:00",
}


def logged(home: Home) -> list[LoggedRow]:
    """Return all rows that were kept."""
    rows, _ = read_spool(home.spool(MODEL, "rows"), {}, LoggedRow, 100_000)
    return rows


def test_a_redacted_column_is_kept_nowhere(
    serve_process: ServeProcess,
    make_endpoint: Callable[..., Endpoint],
    home: Home,
    tmp_path: Path,
) -> None:
    options = {"redact": ["country", "amount"], "heal": False}
    with serve_process(make_endpoint("1").bundle, **options) as (info, _):
        good = httpx.post(f"{info.url}/invocations", json={"instances": [ROW]}, timeout=60)
        wrong = {**ROW, "new_card": "MU"}
        bad = httpx.post(f"{info.url}/invocations", json={"instances": [wrong]}, timeout=60)
        assert (good.status_code, bad.status_code) == (200, 400)
    (row,) = logged(home)
    assert row.row == {**ROW, "country": None, "amount": None}
    assert row.probabilities, "outputs are kept"
    for folder in (home.root, tmp_path):
        for path in folder.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                assert b"ATLANTIS" not in data, path
                assert b"987654" not in data, path


def test_a_redacted_column_must_exist() -> None:
    check_redacted(("country",), ["amount", "country"])
    with pytest.raises(UserError, match="Did you mean 'country'"):
        check_redacted(("contry",), ["amount", "country"])


def test_kill_9_loses_the_last_window_at_most(
    serve_process: ServeProcess,
    make_endpoint: Callable[..., Endpoint],
    home: Home,
    wait_until: WaitUntil,
) -> None:
    with serve_process(make_endpoint("1").bundle, window_s=0.3) as (info, _):

        def predict(first: int, count: int) -> None:
            with httpx.Client(base_url=info.url, timeout=60) as client:
                for number in range(first, first + count):
                    headers = {"x-request-id": f"r{number}"}
                    answer = client.post("/invocations", json={"instances": [ROW]}, headers=headers)
                    assert answer.status_code == 200

        predict(0, 50)
        wait_until(lambda: len(logged(home)) == 50)
        predict(50, 50)
        os.kill(info.workers[0], signal.SIGKILL)

        def replaced() -> bool:
            now = msgspec.json.decode(home.server(MODEL).read_bytes(), type=ServerInfo)
            return bool(now.workers) and now.workers != info.workers

        wait_until(replaced)
        predict(100, 10)
    ids = [row.id for row in logged(home)]
    assert len(set(ids)) == len(ids)
    kept = set(ids)
    assert {f"r{number}" for number in (*range(50), *range(100, 110))} <= kept
    # What is missing is the end of what was answered: nothing before a row that was kept.
    between = [number for number in range(50, 100) if f"r{number}" in kept]
    assert between == list(range(50, 50 + len(between)))
