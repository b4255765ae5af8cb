"""From a condition to a real Alertmanager and on to a pager: told, kept, raised, silenced, over."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from alertmanager_server import ALERTMANAGER, REASON, alerts_of, running_alertmanager
from webhook_receiver import Receiver, running_receiver

from steadynet.control.alerting import decide
from steadynet.control.delivering import Delivering
from steadynet.control.facts import WatchNotes
from steadynet.control.signing import WebhookKeys
from steadynet.control.store import Store
from steadynet.control.turn import Turn
from steadynet.home import Home
from steadynet.monitoring.messages import GATHER_S, RENEW_S
from steadynet.monitoring.reports import AlertKind, Condition
from steadynet.monitoring.rules import alertmanager_config
from steadynet.spec.model import AlertsSpec, Spec

pytestmark = pytest.mark.skipif(ALERTMANAGER is None, reason=REASON)

MODEL = "payments"
NOTHING = WatchNotes(version="1", drift_since=0.0, labels_since=0)
PATIENCE_S = 60.0
RUNBOOK = Path(__file__).parents[2] / "docs" / "runbooks" / "slo-latency.md"


class Loop:
    """What a controller does with conditions, by the clock that Alertmanager goes by too."""

    def __init__(self, home: Home, store: Store, url: str) -> None:
        self._home, self._store = home, store
        self._alerts = AlertsSpec(webhook=url, format="alertmanager", runbooks="https://w.example")
        self._delivering = Delivering(self._alerts, WebhookKeys())

    def turn(self, later_s: float = 0.0) -> Turn:
        now = time.time()
        with self._store.write() as tx:
            lease = tx.acquire_lease(MODEL, "test", now=now, length_s=600.0)
        assert lease is not None
        return Turn(
            home=self._home,
            model=MODEL,
            spec=Spec(alerts=self._alerts),
            store=self._store,
            lease=lease,
            now=now + later_s,
        )

    def find(self, *conditions: Condition) -> None:
        turn = self.turn()
        with turn.write() as tx:
            decide(turn, tx, NOTHING, conditions)

    def deliver_until(self, holds: Callable[[], object], later_s: float = 0.0) -> None:
        """Go on until it holds and the store knows that it was delivered."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds() or (later_s and _waiting(self._store)):
            assert time.monotonic() < deadline
            self._delivering.advance(self.turn(later_s))

    def close(self) -> None:
        self._delivering.close()


@pytest.fixture
def pager() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def alertmanager(tmp_path: Path, pager: Receiver) -> Iterator[str]:
    """With the routes that `steadynet observe` writes, and no waiting."""
    config = alertmanager_config({"page": pager.url})
    config["route"] |= {"group_wait": "0s", "group_interval": "100ms"}
    config["route"]["routes"][0] |= {"repeat_interval": "1h"}
    with running_alertmanager(tmp_path, config) as url:
        yield url


@pytest.fixture
def loop(home: Home, tmp_path: Path, alertmanager: str) -> Iterator[Loop]:
    with Store.at(tmp_path / "control.db") as store:
        made = Loop(home, store, alertmanager)
        yield made
        made.close()


def slow(kind: AlertKind, *, active: bool = True) -> Condition:
    return Condition(
        key="slo/latency",
        active=active,
        kind=kind,
        cause="latency objective",
        summary="latency: 60 of 300 requests were bad",
        quiet_s=0.0,
    )


def pages(pager: Receiver) -> list[dict[str, Any]]:
    return [msgspec.json.decode(taken.body) for taken in pager.taken]


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_alert_is_told_once_kept_open_raised_and_ended(
    loop: Loop, alertmanager: str, pager: Receiver
) -> None:
    loop.find(slow("ticket"))
    loop.deliver_until(lambda: alerts_of(alertmanager), later_s=GATHER_S + 1)
    [ticket] = alerts_of(alertmanager)
    assert ticket["labels"]["severity"] == "ticket"
    assert [receiver["name"] for receiver in ticket["receivers"]] == ["ticket"]

    loop.find(slow("page"))
    loop.deliver_until(lambda: pager.taken and len(alerts_of(alertmanager)) == 1)
    [page] = alerts_of(alertmanager)
    assert page["labels"] == {
        "alertname": "SteadynetLatencyBudgetBurn",
        "model": MODEL,
        "severity": "page",
        "cause": "latency",
        "service": "steadynet",
        "key": "slo/latency",
    }
    assert page["annotations"]["runbook_url"] == "https://w.example/slo-latency.md"
    assert page["annotations"]["description"] == "latency: 60 of 300 requests were bad"

    loop.find(slow("page"))
    loop.deliver_until(
        lambda: alerts_of(alertmanager)[0]["endsAt"] > page["endsAt"], later_s=RENEW_S + 1
    )
    [still] = alerts_of(alertmanager)
    assert (still["fingerprint"], still["startsAt"]) == (page["fingerprint"], page["startsAt"])

    loop.find(slow("page", active=False))
    loop.deliver_until(lambda: not alerts_of(alertmanager))
    until(lambda: len(pager.taken) == 2)
    assert [told["status"] for told in pages(pager)] == ["firing", "resolved"]
    assert all(len(told["alerts"]) == 1 for told in pages(pager))


def test_what_has_ended_while_alertmanager_was_away_is_not_opened_again(
    home: Home, tmp_path: Path, alertmanager: str
) -> None:
    with Store.at(tmp_path / "away.db") as store:
        away = Loop(home, store, "http://127.0.0.1:9")
        away.find(slow("page"))
        away.deliver_until(lambda: _attempts(store))
        away.close()
        back = Loop(home, store, alertmanager)
        back.find(slow("page", active=False))
        back.deliver_until(lambda: not _waiting(store), later_s=60.0)
        back.close()
        assert alerts_of(alertmanager) == []


def _waiting(store: Store) -> int:
    with store.read() as tx:
        return tx.deliveries.count(MODEL).get("waiting", 0)


def _attempts(store: Store) -> bool:
    with store.read() as tx:
        return any(item.attempts for item in tx.deliveries.due(MODEL, 1e12, limit=9))


@pytest.mark.skipif(shutil.which("amtool") is None, reason=REASON)
def test_the_runbooks_silence_keeps_the_pager_quiet(
    loop: Loop, alertmanager: str, pager: Receiver
) -> None:
    [line] = [text for text in RUNBOOK.read_text().splitlines() if "amtool silence add" in text]
    command = shlex.split(line.removeprefix("$ ").replace("http://localhost:9093", alertmanager))
    subprocess.run(command, check=True, capture_output=True)
    loop.find(slow("page"))
    loop.deliver_until(lambda: alerts_of(alertmanager))
    until(lambda: alerts_of(alertmanager)[0]["status"]["state"] == "suppressed")
    quiet = httpx.get(f"{alertmanager}/api/v2/alerts?silenced=false", timeout=60, verify=False)
    assert quiet.json() == []
    assert pager.taken == []
