"""Signatures of messages, verified by the reference library of Standard Webhooks."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from steadynet.control.signing import LONGEST, SHORTEST, WebhookKeys
from steadynet.environment import WEBHOOK
from steadynet.errors import UserError

BODY = '{"type":"alert.opened","city":"Zürich"}'.encode()


def secret(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


OLD, NEW = secret(b"o" * 32), secret(b"n" * 32)


def keys(*secrets: str) -> WebhookKeys:
    return WebhookKeys.of({WEBHOOK: " ".join(secrets)})


@given(
    key=st.binary(min_size=SHORTEST, max_size=LONGEST), data=st.dictionaries(st.text(), st.text())
)
def test_what_is_signed_verifies_whatever_key_and_body(key: bytes, data: dict[str, str]) -> None:
    body = json.dumps(data, ensure_ascii=False).encode()
    headers = keys(secret(key)).headers("msg_1", body, time.time())
    assert Webhook(secret(key)).verify(body, headers) == json.loads(body)


def test_while_a_secret_is_replaced_both_verify() -> None:
    headers = keys(NEW, OLD).headers("msg_1", BODY, time.time())
    for known in (OLD, NEW):
        assert Webhook(known).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret(b"x" * 32)).verify(BODY, headers)


@pytest.mark.parametrize("header", ["webhook-id", "webhook-timestamp", "body"])
def test_what_was_changed_on_its_way_is_refused(header: str) -> None:
    headers = keys(OLD).headers("msg_1", BODY, time.time())
    body = BODY + b" " if header == "body" else BODY
    if header != "body":
        headers[header] = {"webhook-id": "msg_2"}.get(header, str(int(time.time()) - 1))
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(body, headers)


def test_what_was_recorded_is_refused_later() -> None:
    headers = keys(OLD).headers("msg_1", BODY, time.time() - 600)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(OLD).verify(BODY, headers)


def test_without_a_secret_messages_are_named_and_not_signed() -> None:
    made = WebhookKeys.of({})
    assert not made
    assert made.headers("msg_1", BODY, 7.9) == {"webhook-id": "msg_1", "webhook-timestamp": "7"}


@pytest.mark.parametrize(
    "text",
    [
        "SECRETSECRETSECRETSECRETSECRETSECRET",
        "whsec_",
        "whsec_SECRET!SECRET!SECRET!SECRET!SECRET!SECRET",
        secret(b"SECRET" * 3),
        secret(b"SECRET" * 20),
        "wrong_" + OLD.removeprefix("whsec_"),
    ],
)
def test_a_malformed_secret_is_an_error_that_does_not_show_it(text: str) -> None:
    with pytest.raises(UserError, match=r"secret 2 of 2 in \$STEADYNET_WEBHOOK_SECRET") as caught:
        keys(OLD, text)
    said = str(caught.value)
    assert "SECRET" not in said.replace(WEBHOOK, "")
    assert OLD.removeprefix("whsec_") not in said
    assert caught.value.__context__ is None or text not in repr(caught.value.__context__)


def test_a_server_does_not_start_with_a_malformed_secret(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "steadynet.cli.main", "serve", "m"],
        env={**os.environ, "STEADYNET_HOME": str(tmp_path), WEBHOOK: "whsec_SECRET"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "secret 1 of 1 in $STEADYNET_WEBHOOK_SECRET is malformed" in " ".join(
        done.stderr.split()
    )
    assert "whsec_SECRET" not in done.stderr + done.stdout


def test_keys_show_nothing_of_themselves() -> None:
    assert repr(keys(OLD, NEW)) == "WebhookKeys(2)"
    assert "o" * 8 not in f"{keys(OLD)}"
