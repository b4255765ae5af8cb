"""The soak, shortened: memory does not grow with the requests that were answered."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak import ALLOWED_BYTES, soak
from trust_cost import KEYS, start

pytestmark = pytest.mark.slow


def test_memory_stays_while_requests_go_by(tmp_path: Path) -> None:
    served = start(tmp_path, KEYS)
    try:
        levels = soak(served.server.worker, served.server.port, served.requests, 20_000, 0.5)
    finally:
        served.server.end()
    assert max(levels[2:]) - levels[1] < ALLOWED_BYTES
