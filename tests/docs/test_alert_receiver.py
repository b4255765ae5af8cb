"""The receiver of docs/how-to/alerts.md, as it stands there, takes what the program sends."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

from markdown_text import ROOT, blocks

from steadynet.control.signing import VARIABLE, WebhookKeys
from steadynet.control.webhook import post_json
from steadynet.monitoring.alerts import decide_alerts
from steadynet.monitoring.messages import body_of, gather
from steadynet.monitoring.reports import Condition

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"t" * 32).decode()
PATIENCE_S = 30.0


def receiver_program(port: int) -> str:
    """Return the page's program, listening on a free port instead of its own."""
    page = (ROOT / "docs" / "how-to" / "alerts.md").read_text()
    [block] = [block for block in blocks(page) if block.language == "python"]
    return "\n".join(block.lines).replace("9000", str(port))


def free_port() -> int:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return server.server_port


def test_the_receiver_of_the_page_takes_ours_and_refuses_others() -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", receiver_program(port)],
        env={**os.environ, VARIABLE: SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        condition = Condition(key="drift", active=True, cause="drift", summary="amount drifted")
        opened = decide_alerts("payments", (), [condition], time.time()).opened
        body = body_of(gather(None, "opened", opened, time.time()), "standard", "r", time.time())

        def post(secret: str) -> str | None:
            headers = WebhookKeys.of({VARIABLE: secret}).headers("msg_1", body, time.time())
            return post_json(f"http://127.0.0.1:{port}/", body, headers, timeout_s=PATIENCE_S)

        deadline = time.monotonic() + PATIENCE_S
        while (problem := post(SECRET)) is not None:
            assert "could not be reached" in problem
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "answered 401" in (post(OTHER) or "")
        assert process.stdout is not None
        assert process.stdout.readline() == "alert.opened ticket amount drifted\n"
    finally:
        process.kill()
        process.communicate()
