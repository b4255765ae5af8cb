"""From a finding to a receiver: real controller, real store, real HTTP."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator

import msgspec
import pytest
from control_scene import NAME, Scene
from standardwebhooks import Webhook
from webhook_receiver import Receiver, running_receiver

from steadynet.control.controller import Controller
from steadynet.control.signing import VARIABLE, WebhookKeys
from steadynet.spec.model import AlertsSpec

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
PATIENCE_S = 30.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def alerting(scene: Scene, alerts: AlertsSpec) -> Controller:
    """Return a controller that signs, at the clock's own time, since receivers look at theirs."""
    scene.clock.advance(time.time() - scene.clock.now())
    scene.spec = msgspec.structs.replace(scene.spec, alerts=alerts)
    keys = WebhookKeys.of({VARIABLE: SECRET})
    made = Controller(
        scene.home, NAME, scene.store, scene.spec, clock=scene.clock, webhook_keys=keys
    )
    scene.controllers.append(made)
    return made


def tick_until_taken(scene: Scene, controller: Controller, receiver: Receiver, count: int) -> None:
    """Go on until the receiver got so many requests and the controller knows the answers.

    While a message is on its way the clock stands still: receivers look at their own.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with scene.store.read() as tx:
            due = tx.deliveries.due(NAME, scene.clock.now(), limit=1)
        if len(receiver.taken) >= count and not due:
            return
        assert time.monotonic() < deadline, f"{len(receiver.taken)} of {count} requests came"
        scene.clock.advance(0.0 if due else 1.0)
        controller.tick()


def test_a_message_is_signed_anew_in_each_attempt_and_keeps_its_id(
    scene: Scene, receiver: Receiver
) -> None:
    controller = alerting(scene, AlertsSpec(webhook=receiver.url))
    receiver.status = 503
    scene.traffic("1", "champion", 300, failed=200)
    tick_until_taken(scene, controller, receiver, 2)
    receiver.status = 204
    tick_until_taken(scene, controller, receiver, 3)
    first, second, *_ = receiver.taken
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] < second.headers["webhook-timestamp"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    for taken in receiver.taken:
        assert Webhook(SECRET).verify(taken.body, taken.headers)
