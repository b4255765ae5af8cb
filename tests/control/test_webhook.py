"""Webhooks against a real HTTP server on the loopback."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator

import pytest
from webhook_receiver import Receiver, running_receiver

from steadynet.control.store import Delivery
from steadynet.control.webhook import (
    LONGEST_WAIT_S,
    MOST_ATTEMPTS,
    Courier,
    mask_url,
    post_json,
    wait_after,
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver("/hook/SECRET?token=SECRET") as running:
        yield running


def delivery(payload: str) -> Delivery:
    return Delivery(
        number=1,
        model="m",
        message_id="msg_1",
        payload_json=payload,
        created=0.0,
        attempts=0,
        next_at=0.0,
    )


def test_a_message_arrives_as_it_is(receiver: Receiver) -> None:
    assert post_json(receiver.url, b'{"a":1}', {"webhook-id": "msg_1"}) is None
    [taken] = receiver.taken
    assert (taken.path, taken.body) == ("/hook/SECRET?token=SECRET", b'{"a":1}')
    assert taken.headers["content-type"] == "application/json"
    assert taken.headers["webhook-id"] == "msg_1"


def test_user_and_password_of_a_url_are_sent_as_http_has_them(receiver: Receiver) -> None:
    url = receiver.url.replace("http://", "http://anna:p%40ss@")
    assert post_json(url, b"{}", {}) is None
    sent = receiver.taken[0].headers["authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent) == b"anna:p@ss"


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_refusal_names_the_status_and_no_secret(receiver: Receiver, status: int) -> None:
    receiver.status = status
    problem = post_json(receiver.url, b"{}", {})
    assert problem is not None
    assert f"answered {status}" in problem
    assert "SECRET" not in problem


def test_nobody_listening_is_named_without_the_secret() -> None:
    problem = post_json("http://user:SECRET@127.0.0.1:9/SECRET", b"{}", {})
    assert problem is not None
    assert "could not be reached" in problem
    assert "SECRET" not in problem


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/passwd", "nonsense"])
def test_another_scheme_is_refused(url: str) -> None:
    assert "no http or https URL" in (post_json(url, b"{}", {}) or "")


def test_masks() -> None:
    assert mask_url("https://hooks.example/services/T0/B0/x?y=z") == "https://hooks.example/***"
    assert mask_url("http://user:pw@host:8080") == "http://host:8080/***"
    assert mask_url("http://host:8080/") == "http://host:8080"


def test_waits_grow_and_end() -> None:
    waits = [wait_after(attempts) for attempts in range(1, MOST_ATTEMPTS + 1)]
    assert waits == sorted(waits)
    assert waits[0] >= 1.0
    assert waits[-1] == LONGEST_WAIT_S
    assert 3600 <= sum(waits) <= 4 * 3600


def test_the_courier_reports_each_attempt_once(receiver: Receiver) -> None:
    courier = Courier(receiver.url)
    try:
        assert courier.collect() is None
        for status, problem in [(204, None), (503, "answered 503")]:
            receiver.status = status
            courier.post(delivery('{"n":1}'), b'{"n":1}', {})
            outcome = None
            while outcome is None:
                outcome = courier.collect()
                time.sleep(0.001)
            assert outcome[0] == delivery('{"n":1}')
            assert (outcome[1] is None) == (problem is None)
        assert len(receiver.taken) == 2
    finally:
        courier.close()
