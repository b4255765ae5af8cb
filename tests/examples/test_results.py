"""The story's end: each promise is checked, and a broken one is named."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from results import (
    After,
    Healing,
    Results,
    Rollback,
    Training,
    broken_promises,
    drift_table,
    quality_table,
    release_table,
    traffic_table,
)
from story import LONGEST, note, shortened, worth_telling
from traffic import Phase, Report

GOOD = Results(
    pace="fast",
    seconds=100.0,
    cold_start_s=1.0,
    training=Training(
        version="1",
        rows=8000,
        fit_seconds=5.0,
        network={"auc": 0.88, "log_loss": 0.13, "ece": 0.01},
        references={"linear": {"auc": 0.87}, "boosted_trees": {"auc": 0.86}},
        best={"auc": 0.91},
    ),
    rollbacks=(
        Rollback(
            release="nan",
            version="3",
            fault="answers NaN",
            phase="aborted",
            seconds=4.5,
            requests=900,
            answered=0,
            reason="errors",
        ),
    ),
    healing=Healing(drift_s=9.0, drift_rows=1800, promoted_s=60.0, version="6"),
    after=After(rows=4000, old={"auc": 0.6}, new={"auc": 0.8}, best={"auc": 0.86}),
    traffic=Report(
        running=False,
        seconds=100.0,
        sent=1000,
        answered=1000,
        failed=0,
        failures={},
        reconnects=0,
        labels_sent=1000,
        labels_failed=0,
        phases={"all is well": Phase(sent=1000, answered=1000, seconds=5.0, p50_ms=0.8)},
    ),
)


def _with_traffic(**changes: object) -> Results:
    traffic = msgspec.structs.replace(GOOD.traffic, **changes)
    return msgspec.structs.replace(GOOD, traffic=traffic)


def test_a_good_end_breaks_no_promise() -> None:
    assert broken_promises(GOOD) == []


@pytest.mark.parametrize(
    ("results", "words"),
    [
        (_with_traffic(failed=1, answered=999, failures={"status 500": 1}), "1 of 1000 requests"),
        (_with_traffic(answered=998), "2 requests got lost"),
        (_with_traffic(labels_failed=3), "3 labels"),
        (
            msgspec.structs.replace(
                GOOD, rollbacks=(msgspec.structs.replace(GOOD.rollbacks[0], phase="promoted"),)
            ),
            "answers NaN was not rolled back",
        ),
        (
            msgspec.structs.replace(GOOD, healing=Healing(promoted_s=3.0, version="6")),
            "neither the drift",
        ),
        (
            msgspec.structs.replace(GOOD, healing=Healing(quality_s=3.0), after=None),
            "no new version was promoted",
        ),
        (
            msgspec.structs.replace(
                GOOD, after=After(rows=1, old={"auc": 0.8}, new={"auc": 0.7}, best={"auc": 0.9})
            ),
            "no better than the old one",
        ),
    ],
)
def test_each_broken_promise_is_named(results: Results, words: str) -> None:
    broken = broken_promises(results)
    assert len(broken) == 1
    assert words in broken[0]


def test_the_tables_show_the_figures() -> None:
    console = Console(file=io.StringIO(), width=120)
    for table in (quality_table, release_table, drift_table, traffic_table):
        console.print(table(GOOD))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for figure in ("0.8800", "0.8600", "4.5 s", "900", "1800", "9 s", "60 s", "0.8 ms"):
        assert figure in text


def test_the_tables_can_tell_a_story_that_broke_off() -> None:
    console = Console(file=io.StringIO(), width=120)
    broken = msgspec.structs.replace(GOOD, healing=Healing(), after=None, rollbacks=())
    for table in (quality_table, release_table, drift_table, traffic_table):
        console.print(table(broken))


def test_results_survive_the_disk() -> None:
    assert msgspec.json.decode(msgspec.json.encode(GOOD), type=Results) == GOOD


def test_only_the_first_notice_of_each_kind_counts() -> None:
    healing = Healing()
    for kind, seconds, rows in (
        ("drift.drifting", 3.0, 600),
        ("drift.drifted", 5.0, 1000),
        ("drift.drifted", 9.0, 1800),
        ("quality.lost", 6.0, 1200),
        ("heal.started", 7.0, 1400),
        ("rollout.started", 20.0, 4000),
        ("rollout.promoted", 50.0, 10_000),
    ):
        healing = note(healing, kind, "words", seconds, rows)
    assert (healing.drift_s, healing.drift_rows) == (5.0, 1000)
    assert (healing.quality_s, healing.quality_rows) == (6.0, 1200)
    assert (healing.retrain_s, healing.rollout_s, healing.promoted_s) == (7.0, 20.0, 50.0)
    assert len(healing.story) == 7


def test_waiting_and_repetition_are_not_told() -> None:
    fresh = Healing()
    again = Healing(story=(("quality.lost", "words"), ("drift.drifted", "words")))
    assert worth_telling("quality.lost", fresh)
    assert not worth_telling("quality.lost", again)
    assert not worth_telling("drift.drifted", again)
    assert not worth_telling("heal.wait", fresh)
    assert not worth_telling("quality.ok", fresh)
    assert worth_telling("rollout.step", again)
    assert worth_telling("heal.failed", again)


def test_long_sentences_end_at_a_word() -> None:
    assert shortened("short") == "short"
    long = shortened("word " * 200)
    assert len(long) <= LONGEST + 2
    assert long.endswith("word …")
