"""The receiver of docs/how-to/alerts.md, as it stands there, takes what the program sends."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time

from markdown_text import ROOT, blocks

from steadynet.control.signing import WebhookKeys
from steadynet.control.webhook import post_json
from steadynet.environment import WEBHOOK
from steadynet.monitoring.alerts import decide_alerts
from steadynet.monitoring.messages import body_of, gather
from steadynet.monitoring.reports import Condition

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"t" * 32).decode()
PATIENCE_S = 30.0


LISTEN = 'HTTPServer(("127.0.0.1", 9000), Receiver)'
LISTEN_ANYWHERE = """
server = HTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
server"""


def receiver_program() -> str:
    """Return the page's program, listening on a free port that it tells instead of its own."""
    page = (ROOT / "docs" / "how-to" / "alerts.md").read_text()
    [block] = [block for block in blocks(page) if block.language == "python"]
    program = "\n".join(block.lines)
    assert program.count(LISTEN) == 1
    return program.replace(LISTEN, LISTEN_ANYWHERE)


def test_the_receiver_of_the_page_takes_ours_and_refuses_others() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", receiver_program()],
        env={**os.environ, WEBHOOK: SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        condition = Condition(key="drift", active=True, cause="drift", summary="amount drifted")
        opened = decide_alerts("payments", (), [condition], time.time()).opened
        body = body_of(gather(None, "opened", opened, time.time()), "standard", "r", time.time())

        def post(secret: str) -> str | None:
            headers = WebhookKeys.of({WEBHOOK: secret}).headers("msg_1", body, time.time())
            return post_json(f"http://127.0.0.1:{port}/", body, headers, timeout_s=PATIENCE_S)

        assert post(SECRET) is None
        assert "answered 401" in (post(OTHER) or "")
        assert process.stdout.readline() == "alert.opened ticket amount drifted\n"
    finally:
        process.kill()
        process.communicate()
