"""`steadynet alerts` as a person types it, against real receivers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from alertmanager_server import ALERTMANAGER, REASON, alerts_of, running_alertmanager
from standardwebhooks import Webhook
from webhook_receiver import Receiver, running_receiver

from steadynet.bundle.read import Bundle
from steadynet.cli.main import run
from steadynet.control.report import journal
from steadynet.control.settings import controller_spec
from steadynet.control.webhook import post_json
from steadynet.control.world import publish_route
from steadynet.environment import WEBHOOK
from steadynet.home import Home
from steadynet.monitoring.rules import alertmanager_config
from steadynet.registry.local import LocalRegistry
from steadynet.rollout.route import Endpoint, Route

NAME = "payments"
HIDDEN = "t0k3n"
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


class Said(Protocol):
    """What was printed, by the command that was run."""

    def __call__(self, *arguments: str, code: int = ...) -> str:
        """Run a command; return all that it printed."""
        ...


@pytest.fixture
def said(
    home: Home,
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Said:
    """Runs commands in a home with a registered model."""
    LocalRegistry(home).add(tiny_bundle, NAME, "1")
    monkeypatch.setenv("STEADYNET_HOME", str(home.root))
    monkeypatch.delenv(WEBHOOK, raising=False)

    def command(*arguments: str, code: int = 0) -> str:
        found = run(["alerts", *arguments])
        printed = capsys.readouterr()
        assert found == code, printed
        return printed.out + " ".join(printed.err.split())

    return command


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver(f"/services/{HIDDEN}") as running:
        yield running


def named(home: Home, url: str, style: str = "standard") -> Path:
    """Write a spec and let a server remember that it runs with it."""
    path = home.root / "steadynet.toml"
    path.write_text(f'[alerts]\nwebhook = "{url}"\nformat = "{style}"\n')
    controller_spec(home, NAME, path)
    return path


# a test alert


def test_a_webhook_gets_a_signed_test_that_is_over_at_once(
    home: Home, said: Said, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(home, receiver.url)
    monkeypatch.setenv(WEBHOOK, SECRET)
    printed = said("test", NAME)
    assert "taken (signed)" in printed
    assert HIDDEN not in printed
    messages = [Webhook(SECRET).verify(item.body, item.headers) for item in receiver.taken]
    assert [message["type"] for message in messages] == ["alert.opened", "alert.resolved"]
    [opened], [resolved] = (message["data"]["alerts"] for message in messages)
    assert opened["summary"].startswith("TEST: ")
    assert (opened["key"], opened["kind"], opened["model"]) == ("test", "ticket", NAME)
    assert opened["runbook_url"] == "docs/runbooks/test.md"
    assert (resolved["id"], resolved["resolved"] is None) == (opened["id"], False)
    assert receiver.taken[0].headers["webhook-id"] != receiver.taken[1].headers["webhook-id"]
    [entry] = journal(home, NAME, 9)[0]
    assert entry.kind == "alert.tested"
    assert entry.text.endswith("(standard) was taken")
    assert HIDDEN not in entry.data_json + entry.text


def test_without_a_secret_it_says_that_nothing_is_signed(
    home: Home, said: Said, receiver: Receiver
) -> None:
    named(home, receiver.url)
    assert f"taken (not signed: ${WEBHOOK} is not set in this shell)" in said("test", NAME)


@pytest.mark.parametrize("style", ["standard", "slack", "alertmanager"])
def test_a_receiver_that_refuses_fails_the_command_and_shows_no_secret(
    home: Home, said: Said, receiver: Receiver, style: str
) -> None:
    named(home, receiver.url, style)
    receiver.status = 403
    answer = json.loads(said("test", NAME, "--json", code=1))
    [told] = answer["receivers"]
    assert told["problem"].endswith("/*** answered 403")
    assert told["format"] == style
    assert HIDDEN not in json.dumps(answer)
    assert len(receiver.taken) == 1, "what was not opened is not ended"
    printed = said("test", NAME, code=1)
    assert "NOT taken" in printed
    assert HIDDEN not in printed


def test_a_page_to_slack_from_a_file_that_no_server_has_yet(
    home: Home, said: Said, receiver: Receiver, tmp_path: Path
) -> None:
    path = tmp_path / "other.toml"
    path.write_text(f'[alerts]\nwebhook = "{receiver.url}"\nformat = "slack"\n')
    assert "slack" in said("test", NAME, "--spec", str(path), "--kind", "page")
    [taken] = receiver.taken
    body = json.loads(taken.body)
    assert body["text"] == "page: payments: TEST, nothing is wrong"
    assert "TEST: somebody wants to see" in body["blocks"][0]["text"]["text"]


@pytest.mark.skipif(ALERTMANAGER is None, reason=REASON)
def test_alertmanager_has_the_test_with_its_labels(
    home: Home, said: Said, receiver: Receiver, tmp_path: Path
) -> None:
    with running_alertmanager(tmp_path, alertmanager_config({"page": receiver.url})) as url:
        named(home, url, "alertmanager")
        assert f"alertmanager  {url}  taken" in said("test", NAME, "--kind", "page")
        [alert] = alerts_of(url)
    assert alert["labels"]["alertname"] == "SteadynetTest"
    assert alert["labels"]["severity"] == "page"
    assert [item["name"] for item in alert["receivers"]] == ["page"]
    assert alert["annotations"]["description"].startswith("TEST: ")


def test_where_nothing_is_named_it_says_what_to_do(home: Home, said: Said) -> None:
    assert "webhook = URL under [alerts]" in said("test", NAME, code=2)
    path = home.root / "steadynet.toml"
    path.write_text("[alerts]\n")
    assert f"none in {path}" in said("test", NAME, "--spec", str(path), code=2)
    assert "page or ticket" in said("test", NAME, "--kind", "loud", code=2)


# silences


@pytest.fixture
def served(home: Home, said: Said) -> None:
    """Let the model have been served once."""
    found = LocalRegistry(home).version(NAME, "1")
    endpoint = Endpoint(
        version="1", bundle=str(found.bundle), manifest_sha256=found.manifest_sha256
    )
    publish_route(home, Route(model=NAME, generation=1, champion=endpoint))


@pytest.mark.usefixtures("served")
def test_a_silence_is_made_listed_shown_and_ended(
    said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    made = said("silence", NAME, "slo/latency", "--for", "2h", "--reason", "moving the database")
    assert made.startswith("silence 1: alerts slo/latency silenced until ")
    assert made.rstrip().endswith(": moving the database")
    assert said("silences", NAME).startswith("1  alerts slo/latency silenced until ")
    assert run(["status", NAME]) == 0
    assert "silences   1: alerts slo/latency silenced until" in capsys.readouterr().out
    answer = json.loads(said("silence", NAME, "--for", "30m", "--reason", "deploy", "--json"))
    assert [item["key"] for item in answer["silences"]] == ["slo/latency", ""]
    assert "silence 1 was ended by " in said("unsilence", NAME, "1")
    assert "there is no silence 1" in said("unsilence", NAME, "1", code=2)
    assert run(["why", NAME]) == 0
    told = capsys.readouterr().out
    assert told.count("moving the database") == 1
    assert "silence 1 was ended by" in told


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--for", "8d", "--reason", "x"], "at most 7d"),
        (["--for", "0s", "--reason", "x"], "at most 7d"),
        (["--for", "soon", "--reason", "x"], "as 90d"),
        (["--for", "1h", "--reason", " "], "why alerts are not wanted"),
        (["latency", "--for", "1h", "--reason", "x"], "slo/latency"),
        (["--reason", "x"], "Missing option '--for'"),
        (["--for", "1h"], "Missing option '--reason'"),
    ],
)
def test_a_silence_that_is_not_whole_is_refused(
    said: Said, arguments: list[str], expected: str
) -> None:
    assert expected in said("silence", NAME, *arguments, code=2)


def test_a_model_that_was_never_served_has_nothing_to_silence(said: Said) -> None:
    assert "was never served" in said("silence", NAME, "--for", "1h", "--reason", "x", code=2)


@pytest.mark.usefixtures("served")
@pytest.mark.skipif(ALERTMANAGER is None, reason=REASON)
def test_alertmanagers_silence_is_made_and_ended_there(
    home: Home, said: Said, receiver: Receiver, tmp_path: Path
) -> None:
    with running_alertmanager(tmp_path, alertmanager_config({"page": receiver.url})) as url:
        named(home, url, "alertmanager")
        made = said("silence", NAME, "slo", "--for", "2h", "--reason", "moving the database")
        assert made.rstrip().endswith("moving the database, in Alertmanager")
        [there] = silences_there(url)
        assert there["comment"] == "moving the database"
        assert there["status"]["state"] == "active"
        post_json(f"{url}/api/v2/alerts", alert_of("SteadynetLatencyBudgetBurn"), {})
        post_json(f"{url}/api/v2/alerts", alert_of("SteadynetDrift"), {})
        states = {item["labels"]["alertname"]: item["status"]["state"] for item in alerts_of(url)}
        assert states["SteadynetLatencyBudgetBurn"] == "suppressed"
        assert states["SteadynetDrift"] != "suppressed"
        said("unsilence", NAME, "1")
        assert silences_there(url)[0]["status"]["state"] == "expired"
        said("silence", NAME, "--for", "1h", "--reason", "all")
        ended_there = next(item for item in silences_there(url) if item["comment"] == "all")
        httpx.delete(f"{url}/api/v2/silence/{ended_there['id']}", verify=False).raise_for_status()
        said("unsilence", NAME, "2")
    refused = said("silence", NAME, "--for", "1h", "--reason", "x", code=1)
    assert "Alertmanager could not be told of the silence; nothing has changed" in refused
    assert said("silences", NAME) == f"no alert of {NAME} is silenced\n"


def silences_there(url: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{url}/api/v2/silences", timeout=60, verify=False)
    found: list[dict[str, Any]] = answer.raise_for_status().json()
    return found


def alert_of(name: str) -> bytes:
    return json.dumps([{"labels": {"alertname": name, "model": NAME}}]).encode()
