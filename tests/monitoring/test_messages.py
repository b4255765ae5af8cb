"""What is told of alerts, in each format: whole, short, escaped, and never with internals."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.monitoring.alerts import decide_alerts
from steadynet.monitoring.messages import (
    EXPIRE_S,
    GATHER_S,
    MOST_SHOWN,
    RENEW_S,
    Event,
    Message,
    body_of,
    gather,
    send_at,
)
from steadynet.monitoring.reports import Alert, AlertKind, Condition
from steadynet.spec.operating import AlertFormat

NOW = 1_767_225_600.0
WIKI = "https://wiki.example/r"
FORMATS: tuple[AlertFormat, ...] = ("standard", "slack", "alertmanager")


def alert(key: str = "drift", kind: AlertKind = "ticket", **changed: Any) -> Alert:
    condition = Condition(
        key=key,
        active=True,
        kind=kind,
        cause=f"cause of {key}",
        summary="amount has drifted",
        since=NOW - 600,
        done="a retrain was started",
        todo="look upstream",
    )
    [made] = decide_alerts("payments", (), [condition], NOW).opened
    return msgspec.structs.replace(made, **changed)


def told(
    message: Message, style: AlertFormat, *, runbooks: str = WIKI, now: float = NOW + 5
) -> Any:
    return msgspec.json.decode(body_of(message, style, runbooks, now))


def message(*alerts: Alert, event: Event = "opened") -> Message:
    return gather(None, event, alerts, NOW)


# Together


def test_a_ticket_waits_for_others_and_a_page_for_nothing() -> None:
    first = message(alert("drift"))
    assert send_at(first) == NOW + GATHER_S
    both = gather(first, "opened", [alert("quality/estimated")], NOW + 20)
    assert send_at(both) == NOW + GATHER_S
    paged = gather(both, "opened", [alert("quality", "page")], NOW + 25)
    assert send_at(paged) <= NOW + 25
    assert [item.key for item in paged.alerts] == ["quality", "drift", "quality/estimated"]


def test_a_ticket_that_becomes_a_page_while_it_waits_is_told_once() -> None:
    waiting = message(alert("slo/latency"))
    raised = msgspec.structs.replace(waiting.alerts[0], kind="page", raised=NOW + 3)
    both = gather(waiting, "opened", [raised], NOW + 3)
    assert both.alerts == (raised,)


# Standard


def test_the_standard_body_says_what_when_and_what_to_do() -> None:
    body = told(message(alert()), "standard")
    assert body["type"] == "alert.opened"
    assert body["timestamp"] == "2026-01-01T00:00:00.000Z"
    assert body["data"]["model"] == "payments"
    [item] = body["data"]["alerts"]
    assert item["since"] == "2025-12-31T23:50:00.000Z"
    assert item["resolved"] is None
    assert item["command"] == "steadynet status payments; steadynet why payments"
    assert item["runbook_url"] == "https://wiki.example/r/drift.md"
    assert (item["summary"], item["done"], item["todo"]) == (
        "amount has drifted",
        "a retrain was started",
        "look upstream",
    )
    assert not {"seen", "momentary", "quiet_s"} & set(item)


def test_what_is_over_says_when() -> None:
    body = told(message(alert(resolved=NOW + 60), event="resolved"), "standard")
    assert body["type"] == "alert.resolved"
    assert body["data"]["alerts"][0]["resolved"] == "2026-01-01T00:01:00.000Z"


# Slack


def test_slack_gets_a_line_for_the_notification_and_a_block_for_each_alert() -> None:
    body = told(message(alert("quality", "page"), alert("drift")), "slack")
    assert body["text"] == "page: payments: cause of quality, and 1 more"
    first, second = (block["text"]["text"] for block in body["blocks"])
    assert first.startswith(":rotating_light: *page* · payments: cause of quality, since <!date^")
    assert "*Do:* look upstream" in first
    assert "<https://wiki.example/r/quality.md|Runbook>" in first
    assert "`steadynet status payments; steadynet why payments`" in first
    assert second.startswith(":warning: *ticket*")
    kinds = {(b["type"], b["text"]["type"], b["text"]["verbatim"]) for b in body["blocks"]}
    assert kinds == {("section", "mrkdwn", True)}


def test_slack_makes_no_link_of_a_page_that_is_no_url() -> None:
    body = told(message(alert()), "slack", runbooks="docs/runbooks")
    assert "Runbook: `docs/runbooks/drift.md`" in body["blocks"][0]["text"]["text"]


def test_slack_is_told_shortly_that_it_is_over() -> None:
    body = told(message(alert(resolved=NOW + 60), event="resolved"), "slack")
    [block] = body["blocks"]
    assert block["text"]["text"].startswith(":white_check_mark: *over* · payments")
    assert "look upstream" not in block["text"]["text"]
    assert body["text"] == "over: payments: cause of drift"


@given(st.text(max_size=3000), st.text(max_size=3000), st.integers(1, 40))
def test_no_text_mentions_a_channel_makes_a_link_or_is_too_long_for_slack(
    summary: str, done: str, count: int
) -> None:
    shouted = f"<!channel> <https://evil.example|click> &lt; {summary}"
    alerts = [alert(f"rollout/r{n}", summary=shouted, done=done, cause=done) for n in range(count)]
    body = told(message(*alerts), "slack")
    assert len(body["blocks"]) == min(count, MOST_SHOWN) + (count > MOST_SHOWN)
    texts = [body["text"], *(block["text"]["text"] for block in body["blocks"])]
    for text in texts:
        ours = re.sub(r"<!date\^[^<>]*>|<https://wiki\.example/r/rollout\.md\|Runbook>", "", text)
        assert "<" not in ours
        assert ">" not in ours
        assert not re.search(r"&(?!amp;|lt;|gt;)", ours)
        assert len(text) <= 3_000
    assert "&lt;!channel&gt;" in body["blocks"][0]["text"]["text"]


# Alertmanager


def test_alertmanager_is_told_with_labels_that_stay_and_an_end_that_moves() -> None:
    first, later = (
        told(message(alert(), event="open"), "alertmanager", now=NOW + wait)[0]
        for wait in (0.0, RENEW_S)
    )
    assert first["labels"] == {
        "alertname": "SteadynetDrift",
        "model": "payments",
        "severity": "ticket",
        "cause": "drift",
        "service": "steadynet",
        "key": "drift",
    }
    assert first["labels"] == later["labels"]
    assert first["startsAt"] == later["startsAt"] == "2025-12-31T23:50:00.000Z"
    assert first["endsAt"] == "2026-01-01T00:04:00.000Z"
    assert later["endsAt"] == "2026-01-01T00:05:00.000Z"
    assert EXPIRE_S > 2 * RENEW_S, "one lost renewal ends no alert"
    assert first["annotations"]["summary"] == "payments: cause of drift"
    assert first["annotations"]["description"] == "amount has drifted"
    assert first["annotations"]["runbook_url"] == "https://wiki.example/r/drift.md"


def test_what_is_over_ends_when_it_did() -> None:
    [item] = told(message(alert(resolved=NOW + 60), event="resolved"), "alertmanager")
    assert item["endsAt"] == "2026-01-01T00:01:00.000Z"


def test_a_ticket_that_became_a_page_ends_as_ticket() -> None:
    raised = alert("slo/latency", "page", raised=NOW + 1)
    page, ticket = told(message(raised), "alertmanager")
    assert (page["labels"]["severity"], ticket["labels"]["severity"]) == ("page", "ticket")
    assert ticket["endsAt"] == "2026-01-01T00:00:01.000Z"
    assert len(told(message(raised, event="open"), "alertmanager")) == 1


def test_two_rollbacks_are_two_alerts() -> None:
    both = told(message(alert("rollout/r1"), alert("rollout/r2")), "alertmanager")
    assert both[0]["labels"] != both[1]["labels"]


# All


@pytest.mark.parametrize("style", FORMATS)
@given(text=st.text(), since=st.floats(0, 4e9), count=st.integers(1, 12))
def test_any_text_is_json_in_every_format(
    style: AlertFormat, text: str, since: float, count: int
) -> None:
    alerts = [alert(f"rollout/{n}", summary=text, since=since) for n in range(count)]
    body = told(message(*alerts), style)
    assert text[:50] in str(body) or not text.isalnum()
