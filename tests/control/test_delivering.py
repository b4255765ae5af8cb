"""From a finding to a receiver: real controller, real store, real HTTP."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest
from control_scene import NAME, Scene
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook
from webhook_receiver import Receiver, running_receiver

from steadynet.control.alerting import decide
from steadynet.control.controller import Controller
from steadynet.control.delivering import address_of, next_in_order
from steadynet.control.facts import WatchNotes
from steadynet.control.report import model_status
from steadynet.control.signing import WebhookKeys
from steadynet.control.store import Delivery
from steadynet.control.turn import Turn
from steadynet.environment import WEBHOOK
from steadynet.monitoring.alerts import decide_alerts
from steadynet.monitoring.findings import Findings
from steadynet.monitoring.messages import gather
from steadynet.monitoring.reports import Condition
from steadynet.spec.model import AlertsSpec

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
PATIENCE_S = 30.0
NOTHING = WatchNotes(version="1", drift_since=0.0, labels_since=0)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def alerting(scene: Scene, alerts: AlertsSpec) -> Controller:
    """Return a controller that signs, at the clock's own time, since receivers look at theirs."""
    scene.clock.advance(time.time() - scene.clock.now())
    scene.spec = msgspec.structs.replace(scene.spec, alerts=alerts)
    keys = WebhookKeys.of({WEBHOOK: SECRET})
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


def drifting_and_failing(scene: Scene, controller: Controller) -> None:
    """Let traffic drift, which is a ticket, and within its half minute let requests fail."""
    while not scene.told("alert.opened"):
        scene.obey()
        scene.traffic("1", "champion", 300, skew=True)
        scene.clock.advance(1.0)
        controller.tick()
    scene.traffic("1", "champion", 3000, failed=3000)


def test_what_is_found_together_is_one_message_with_the_page_first(
    scene: Scene, receiver: Receiver
) -> None:
    controller = alerting(scene, AlertsSpec(webhook=receiver.url, runbooks="https://w.example"))
    drifting_and_failing(scene, controller)
    assert receiver.taken == []
    tick_until_taken(scene, controller, receiver, 1)
    message = Webhook(SECRET).verify(receiver.taken[0].body, receiver.taken[0].headers)
    assert message["type"] == "alert.opened"
    told = [(alert["kind"], alert["key"]) for alert in message["data"]["alerts"]]
    assert told == [("page", "slo/availability"), ("ticket", "drift")]
    assert message["data"]["alerts"][0]["runbook_url"] == "https://w.example/slo-availability.md"
    assert len(scene.told("alert.opened")) == 2


def test_slack_is_told_in_its_own_shape_and_without_a_signature(
    scene: Scene, receiver: Receiver
) -> None:
    controller = alerting(scene, AlertsSpec(webhook=receiver.url, format="slack"))
    drifting_and_failing(scene, controller)
    tick_until_taken(scene, controller, receiver, 1)
    body = msgspec.json.decode(receiver.taken[0].body)
    assert body["text"].startswith("page: payments: availability objective, and 1 more")
    assert len(body["blocks"]) == 2
    assert not any(name.startswith("webhook-") for name in receiver.taken[0].headers)


@pytest.mark.parametrize(
    ("webhook", "expected"),
    [
        ("http://am:9093", "http://am:9093/api/v2/alerts"),
        ("http://am:9093/", "http://am:9093/api/v2/alerts"),
        ("http://am/alertmanager", "http://am/alertmanager/api/v2/alerts"),
        ("http://am:9093/api/v2/alerts", "http://am:9093/api/v2/alerts"),
    ],
)
def test_alertmanagers_api_is_found_below_its_address(webhook: str, expected: str) -> None:
    assert address_of(webhook, AlertsSpec(webhook=webhook, format="alertmanager")) == expected
    assert address_of(webhook, AlertsSpec(webhook=webhook)) == webhook


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


def rolling_out(scene: Scene, controller: Controller, *, failed: int) -> None:
    """Play a second of a rollout: some of what the challenger was to answer fails."""
    scene.obey()
    scene.traffic("1", "champion", 400)
    if scene.route().share:
        scene.traffic("2", "challenger", 400, failed=failed)
    elif scene.route().mirror:
        scene.traffic("2", "shadow", 400)
    scene.clock.advance(1.0)
    controller.tick()


def roll_until(
    scene: Scene, controller: Controller, holds: Callable[[], object], *, failed: int
) -> None:
    for _ in range(60):
        if holds():
            return
        rolling_out(scene, controller, failed=failed)
    pytest.fail("it did not come to that within a minute of the rollout")


def test_a_ticket_that_the_candidate_makes_is_told_with_its_rollback(
    scene: Scene, receiver: Receiver
) -> None:
    controller = alerting(scene, AlertsSpec(webhook=receiver.url))
    scene.send("rollout.start", version="2")
    roll_until(scene, controller, lambda: scene.told("alert.held"), failed=3)
    [held] = scene.told("alert.held")
    assert held.startswith("ticket held: availability: ")
    assert held.endswith(
        "it would not fire without the requests of version 2, which is being rolled out"
    )
    assert scene.told("alert.opened") == []
    [shown] = model_status(scene.home, NAME, scene.clock.now()).alerts
    assert shown.held
    findings = msgspec.json.decode(scene.home.findings(NAME).read_bytes(), type=Findings)
    assert findings.alerts == {}

    scene.send("rollout.abort")
    tick_until_taken(scene, controller, receiver, 1)
    message = Webhook(SECRET).verify(receiver.taken[0].body, receiver.taken[0].headers)
    keys = sorted(alert["key"] for alert in message["data"]["alerts"])
    assert keys[0].startswith("rollout/")
    assert keys[1:] == ["slo/availability"]
    assert len(scene.told("alert.opened")) == 2
    assert model_status(scene.home, NAME, scene.clock.now()).alerts[0].held == ""


def test_a_rollout_that_waits_for_a_person_hides_nothing_from_her(
    scene: Scene, receiver: Receiver
) -> None:
    controller = alerting(scene, AlertsSpec(webhook=receiver.url))
    scene.send("rollout.start", version="2")
    roll_until(scene, controller, lambda: scene.told("alert.held"), failed=3)
    scene.send("rollout.pause")
    tick_until_taken(scene, controller, receiver, 1)
    message = Webhook(SECRET).verify(receiver.taken[0].body, receiver.taken[0].headers)
    assert [alert["key"] for alert in message["data"]["alerts"]] == ["slo/availability"]


def test_a_page_is_told_though_the_candidate_makes_it(scene: Scene, receiver: Receiver) -> None:
    controller = alerting(scene, AlertsSpec(webhook=receiver.url))
    scene.send("rollout.start", version="2")
    roll_until(scene, controller, lambda: scene.route().share, failed=0)
    rolling_out(scene, controller, failed=200)
    tick_until_taken(scene, controller, receiver, 1)
    message = Webhook(SECRET).verify(receiver.taken[0].body, receiver.taken[0].headers)
    first = message["data"]["alerts"][0]
    assert (first["kind"], first["key"]) == ("page", "slo/availability")
    assert "(200 of them a challenger's)" in first["summary"]
    assert scene.told("alert.held") == []


# messages in order


def message(*alerts: str, event: str) -> str:
    """Return a message of alerts by their keys."""
    told = decide_alerts(NAME, (), [Condition(key=key, active=True) for key in alerts], 0.0).opened
    built = msgspec.structs.replace(gather(None, "opened", told, 0.0), event=event)
    return msgspec.json.encode(built).decode()


KEYS = st.sets(st.sampled_from(["drift", "quality", "heal"]), min_size=1)
SENT = st.lists(st.tuples(KEYS, st.floats(0.0, 100.0)), max_size=8)


@settings(max_examples=100, deadline=None)
@given(sent=SENT, fails=st.lists(st.booleans(), max_size=20))
def test_each_alerts_messages_arrive_in_their_order_whatever_fails(
    sent: list[tuple[set[str], float]], fails: list[bool]
) -> None:
    waiting = [
        Delivery(
            number=number,
            model=NAME,
            message_id=f"msg_{number}",
            payload_json=message(*sorted(keys), event="opened"),
            created=0.0,
            attempts=0,
            next_at=next_at,
        )
        for number, (keys, next_at) in enumerate(sent)
    ]
    arrived: dict[str, list[int]] = {}
    now, failures = 0.0, iter(fails)
    while waiting:
        found = next_in_order(waiting, now)
        if found is None:
            now += 10.0
            assert now < 1e5, "something always becomes free"
            continue
        delivery, told = found
        assert delivery.next_at <= now
        place = waiting.index(delivery)
        if next(failures, False):
            waiting[place] = msgspec.structs.replace(delivery, next_at=now + 25.0)
            continue
        waiting.pop(place)
        for alert in told.alerts:
            arrived.setdefault(alert.key, []).append(delivery.number)
    assert all(numbers == sorted(numbers) for numbers in arrived.values())
    assert sum(map(len, arrived.values())) == sum(len(keys) for keys, _ in sent)


def test_an_end_waits_behind_its_beginning_that_is_tried_again(
    scene: Scene, receiver: Receiver
) -> None:
    controller = alerting(scene, AlertsSpec(webhook=receiver.url))
    receiver.status = 503
    turn = turn_of(scene)
    condition = Condition(key="slo/latency", active=True, kind="page", cause="latency", quiet_s=0.0)
    with turn.write() as tx:
        decide(turn, tx, NOTHING, [condition])
    tick_until_taken(scene, controller, receiver, 1)
    turn = turn_of(scene)
    with turn.write() as tx:
        decide(turn, tx, NOTHING, [msgspec.structs.replace(condition, active=False)])
    receiver.status = 204
    tick_until_taken(scene, controller, receiver, 3)
    types = [msgspec.json.decode(taken.body)["type"] for taken in receiver.taken]
    assert types == ["alert.opened", "alert.opened", "alert.resolved"]


def test_a_page_does_not_wait_for_the_long_pause_of_its_ticket(
    scene: Scene, receiver: Receiver
) -> None:
    controller = alerting(scene, AlertsSpec(webhook=receiver.url))
    turn = turn_of(scene)
    condition = Condition(key="slo/latency", active=True, cause="latency")
    with turn.write() as tx:
        decide(turn, tx, NOTHING, [condition])
        [ticket] = tx.deliveries.waiting(NAME, limit=9)
        tx.deliveries.settle(ticket, "waiting", attempts=9, next_at=turn.now + 3600.0)
        decide(turn, tx, NOTHING, [msgspec.structs.replace(condition, kind="page")])
    before = scene.clock.now()
    tick_until_taken(scene, controller, receiver, 2)
    assert scene.clock.now() - before < 60.0
    kinds = [
        msgspec.json.decode(taken.body)["data"]["alerts"][0]["kind"] for taken in receiver.taken
    ]
    assert kinds == ["ticket", "page"]


def turn_of(scene: Scene) -> Turn:
    """Return the right to act at the clock's time, beside the controller that has the lease."""
    with scene.store.write() as tx:
        lease = tx.lease(NAME) or tx.acquire_lease(
            NAME, "test", now=scene.clock.now(), length_s=0.0
        )
    assert lease is not None
    return Turn(
        home=scene.home,
        model=NAME,
        spec=scene.spec,
        store=scene.store,
        lease=lease,
        now=scene.clock.now(),
    )
