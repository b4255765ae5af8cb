"""Logs are lines of JSON, and no secret stands in them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.home import Home
from steadynet.log import JsonLines, mask
from steadynet.serving.keys import make_key

SECRETS = [
    ("postgresql+psycopg://anna:s3cr3t@db:5432/x", "s3cr3t"),
    ("https://anna:s3cr3t@hooks.example/T1", "s3cr3t"),
    ("Authorization: Bearer abc.def-ghi", "abc.def-ghi"),
    ("connection failed: password=hunter2 host=db", "hunter2"),
    ("https://mlflow.example/api?token=hunter2&x=1", "hunter2"),
    ("api_key: hunter2", "hunter2"),
    ("STEADYNET_WEBHOOK_SECRET is whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqr"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_secrets_are_masked(text: str, secret: str) -> None:
    shown = mask(f"before {text} after")
    assert secret not in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")


@given(st.text(max_size=30), st.text(max_size=30))
def test_of_a_key_only_its_id_is_left(before: str, after: str) -> None:
    key, kept = make_key("shop", "caller", now=0.0)
    shown = mask(f"{before} {key} {after}")
    assert key.rpartition("_")[2] not in shown
    assert kept.id in shown


def test_what_is_no_secret_stays() -> None:
    text = "version 3 of payments is loaded from /home/a/models/payments/3 by http://a:8080/v2"
    assert mask(text) == text


def test_an_exception_is_a_line_too() -> None:
    try:
        raise ValueError("no connection to postgresql://anna:s3cr3t@db/x")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "", 0, "it %s", ("failed",), sys.exc_info())
    line = JsonLines("controller of payments").format(record)
    assert "\n" not in line
    told = json.loads(line)
    assert told["event"] == "it failed"
    assert told["process"] == "controller of payments"
    assert "ValueError" in told["traceback"]
    assert "s3cr3t" not in line


def test_the_controller_logs_lines_of_json(home: Home) -> None:
    """A spec that does not hold ends it at once; what it holds is not told."""
    spec = home.root / "steadynet.toml"
    home.root.mkdir(parents=True, exist_ok=True)
    spec.write_text('[alerts]\nwebhook = "password=s3cr3t"\n')
    arguments = ["--name", "payments", "--home", str(home.root), "--spec", str(spec)]
    done = subprocess.run(
        [sys.executable, "-m", "steadynet.control.main", *arguments],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode != 0
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["process"] for line in lines} == {"controller of payments"}
    assert any(line["level"] == "error" for line in lines)
    assert "s3cr3t" not in done.stderr
