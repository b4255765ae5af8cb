"""Decisions as sentences."""

from __future__ import annotations

import msgspec
import pytest

from steadynet.control.stories import duration, rollout_story, stage_words
from steadynet.rollout.state import Observation, Phase, Rollout, start, step
from steadynet.spec.model import RolloutSpec

BEGUN = start(rollout_id="r", model="m", champion="1", challenger="2", now=100.0)
CANARY = msgspec.structs.replace(BEGUN, phase="canary", canary=0, share=0.05, stage_started=110.0)
PLAN = RolloutSpec()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (4.0, "4 s"), (119.0, "119 s"), (720.0, "12 min"), (12600.0, "3.5 h")],
)
def test_lengths_of_time_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_long_times_are_days() -> None:
    assert duration(172_800.0) == "2.0 days"


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("pending", "while it was loaded"),
        ("shadow", "in the shadow"),
        ("canary", "at 5 %"),
        ("awaiting_approval", "waiting for approval"),
    ],
)
def test_every_stage_has_words(phase: Phase, words: str) -> None:
    assert stage_words(msgspec.structs.replace(CANARY, phase=phase)) == words


def told(before: Rollout, **seen: object) -> tuple[str, str]:
    observation = msgspec.convert({"now": 114.0, **seen}, Observation)
    return rollout_story(before, step(before, PLAN, observation))


def test_a_rollback_says_where_when_and_why() -> None:
    kind, text = told(CANARY, command="abort")
    assert kind == "rollout.aborted"
    assert text == "version 2 was rolled back at 5 % after 4 s: aborted by command"


def test_a_promotion_says_in_whose_place_and_how_long_it_took() -> None:
    kind, text = told(CANARY, command="promote")
    assert kind == "rollout.promoted"
    assert text == "version 2 became champion in place of 1 after 14 s: promoted by command"


def test_a_pause_and_its_end_are_told_apart() -> None:
    assert told(CANARY, command="pause")[0] == "rollout.paused"
    paused = msgspec.structs.replace(CANARY, paused_at=111.0)
    kind, text = told(paused, command="resume")
    assert (kind, text) == ("rollout.resumed", "the rollout of version 2 goes on at 5 %")


def test_a_step_says_why_it_was_taken() -> None:
    kind, text = told(BEGUN, workers_expected=1, workers_ready=1)
    assert kind == "rollout.step"
    assert text.startswith("version 2 moved on: 1 workers have loaded version 2")
