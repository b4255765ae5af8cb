"""The conformance checks, against our own server over both protocols."""

from __future__ import annotations

import json
from typing import Any

import pytest

from steadynet.cli.main import run


def test_our_server_conforms(served: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    grpc = f"127.0.0.1:{served['grpc_port']}"
    code = run(["conformance", served["url"], "--grpc", grpc, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert [item for item in report["outcomes"] if item["result"] != "pass"] == []
    assert len(report["outcomes"]) == 44
    assert code == 0
