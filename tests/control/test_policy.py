"""When the healing policy acts, waits and stops."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.control.policy import (
    WAYS,
    Attempt,
    HealView,
    Outcome,
    Way,
    choose_way,
    decide_heal,
    failures_in_a_row,
)
from steadynet.spec.model import HealSpec

SPEC = HealSpec(min_labelled_rows=100, cooldown_s=60.0, max_failures=3)
DRIFTED = HealView(now=1000.0, drifted=("amount",), since=900.0, labelled_rows=100)


def attempt(started: float, outcome: Outcome) -> Attempt:
    return Attempt(started=started, outcome=outcome, reason="it was worse")


def test_nothing_to_heal_is_nothing() -> None:
    assert decide_heal(SPEC, HealView(now=1.0, labelled_rows=10**6)).action == "nothing"


def test_sustained_drift_with_enough_labels_heals() -> None:
    decision = decide_heal(SPEC, DRIFTED)
    assert decision.action == "heal"
    assert decision.reason == (
        "drift is sustained in amount; 100 labelled rows; trained anew, since there are rows "
        "enough to learn from"
    )


def test_lost_quality_heals_and_is_named_first() -> None:
    view = msgspec.structs.replace(DRIFTED, quality_lost=True)
    reason = decide_heal(SPEC, view).reason
    assert reason.startswith("quality is lost and drift is sustained in amount")


def test_many_drifted_features_are_counted_not_listed() -> None:
    view = msgspec.structs.replace(DRIFTED, drifted=("a", "b", "c", "d", "e"))
    assert "a, b, c and 2 more" in decide_heal(SPEC, view).reason


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"labelled_rows": 99}, "99 labelled rows are there and 100 are needed"),
        ({"rollout_running": True}, "a rollout is running"),
        ({"attempts": (attempt(990.0, "running"),)}, "a retrain is running"),
        ({"attempts": (attempt(941.0, "promoted"),)}, "the cool-down lasts 1 s more"),
    ],
)
def test_it_waits_and_says_why(change: dict[str, object], why: str) -> None:
    decision = decide_heal(SPEC, msgspec.structs.replace(DRIFTED, **change))
    assert decision.action == "wait"
    assert why in decision.reason


def test_who_asks_for_a_retrain_with_too_few_labels_is_told_what_to_do() -> None:
    asked = msgspec.structs.replace(DRIFTED, labelled_rows=0, requested=True)
    reason = decide_heal(SPEC, asked).reason
    assert "0 labelled rows are there and 100 are needed: send more (steadynet feedback" in reason
    assert "lower heal.min_labelled_rows" in reason


def test_it_stops_after_too_many_failures_and_says_the_last_reason() -> None:
    attempts = tuple(attempt(float(number), "failed") for number in range(3))
    decision = decide_heal(SPEC, msgspec.structs.replace(DRIFTED, attempts=attempts))
    assert decision.action == "stop"
    assert "last 3 retrains failed" in decision.reason
    assert "it was worse" in decision.reason


def test_a_promotion_between_failures_starts_the_count_anew() -> None:
    outcomes: list[Outcome] = ["failed", "failed", "promoted", "failed"]
    attempts = tuple(attempt(float(number), item) for number, item in enumerate(outcomes))
    assert failures_in_a_row(attempts) == 1
    assert decide_heal(SPEC, msgspec.structs.replace(DRIFTED, attempts=attempts)).action == "heal"


def test_a_persons_request_needs_no_cause_and_passes_cooldown_and_failures() -> None:
    attempts = tuple(attempt(999.0, "failed") for _ in range(3))
    view = HealView(now=1000.0, labelled_rows=100, attempts=attempts, requested=True)
    assert decide_heal(SPEC, view).action == "heal"
    disabled = msgspec.structs.replace(SPEC, enabled=False)
    assert decide_heal(disabled, view).action == "heal"
    running = msgspec.structs.replace(view, rollout_running=True)
    assert decide_heal(SPEC, running).action == "wait"


def test_a_disabled_policy_or_an_unnamed_cause_does_nothing() -> None:
    assert decide_heal(msgspec.structs.replace(SPEC, enabled=False), DRIFTED).action == "nothing"
    assert decide_heal(msgspec.structs.replace(SPEC, on=("quality",)), DRIFTED).action == "nothing"


views = st.builds(
    HealView,
    now=st.floats(0, 2000),
    drifted=st.sampled_from([(), ("a",)]),
    quality_lost=st.booleans(),
    labelled_rows=st.integers(0, 200),
    rollout_running=st.booleans(),
    requested=st.booleans(),
    more_targets=st.sampled_from([(), ("spend",)]),
    attempts=st.lists(
        st.builds(
            Attempt,
            started=st.floats(0, 2000),
            outcome=st.sampled_from(["running", "promoted", "failed"]),
        ),
        max_size=5,
    ).map(lambda items: tuple(sorted(items, key=lambda item: item.started))),
)


@given(views)
def test_it_never_heals_against_its_invariants(view: HealView) -> None:
    decision = decide_heal(SPEC, view)
    assert bool(decision.reason) == (decision.action != "nothing")
    if decision.action != "heal":
        return
    assert not view.rollout_running
    assert not view.more_targets
    assert all(item.outcome != "running" for item in view.attempts)
    assert view.labelled_rows >= SPEC.min_labelled_rows
    if not view.requested:
        assert view.drifted or view.quality_lost
        assert failures_in_a_row(view.attempts) < SPEC.max_failures
        assert not view.attempts or view.now >= view.attempts[-1].started + SPEC.cooldown_s


@pytest.mark.parametrize("requested", [False, True])
def test_a_champion_with_further_targets_is_never_retrained(requested: bool) -> None:
    view = msgspec.structs.replace(DRIFTED, more_targets=("spend", "tier"), requested=requested)
    decision = decide_heal(SPEC, view)
    assert decision.action == "stop"
    assert "main target alone, not for 'spend', 'tier'" in decision.reason
    assert "steadynet train" in decision.reason
    quiet = msgspec.structs.replace(view, drifted=(), requested=False)
    assert decide_heal(SPEC, quiet).action == "nothing"


# the way


def failed(*ways: Way) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(started=float(number), outcome="failed", reason="it was worse", way=way)
        for number, way in enumerate(ways)
    )


@pytest.mark.parametrize(
    ("change", "way"),
    [
        ({}, "retrain"),
        ({"diagnosis": "recalibrate"}, "recalibrate"),
        ({"diagnosis": "retrain"}, "retrain"),
        ({"champion_rows": 10_000}, "fine_tune"),
        ({"champion_rows": 150}, "retrain"),
        ({"diagnosis": "recalibrate", "attempts": failed("recalibrate")}, "fine_tune"),
        ({"diagnosis": "recalibrate", "attempts": failed("recalibrate", "fine_tune")}, "retrain"),
        ({"champion_rows": 10_000, "attempts": failed("fine_tune")}, "retrain"),
        ({"attempts": failed("retrain")}, "retrain"),
        ({"requested_way": "recalibrate", "attempts": failed("recalibrate")}, "recalibrate"),
    ],
)
def test_auto_takes_the_cheapest_way_that_can_help(change: dict[str, object], way: Way) -> None:
    assert choose_way(SPEC, msgspec.structs.replace(DRIFTED, **change))[0] == way


def test_a_way_that_the_spec_names_is_taken() -> None:
    spec = msgspec.structs.replace(SPEC, way="fine_tune")
    decision = decide_heal(spec, msgspec.structs.replace(DRIFTED, diagnosis="recalibrate"))
    assert decision.way == "fine_tune"
    assert decision.reason.endswith("fine-tuned from the champion, since heal.way says so")


@given(
    st.lists(st.sampled_from(WAYS), max_size=2),
    st.sampled_from(["", "sound", "recalibrate", "retrain"]),
    st.integers(0, 10_000),
)
def test_the_way_never_gets_weaker_from_one_failure_to_the_next(
    ways: list[Way], diagnosis: str, rows: int
) -> None:
    view = msgspec.structs.replace(
        DRIFTED, diagnosis=diagnosis, champion_rows=rows, attempts=failed(*ways)
    )
    chosen = WAYS.index(choose_way(SPEC, view)[0])
    assert all(chosen > WAYS.index(way) or way == "retrain" for way in ways)


# causes, freezes, budgets

MONDAY = 1_704_067_200.0
"""2024-01-01, a Monday, at midnight UTC."""
HOUR = 3600.0


def test_an_old_champion_and_a_time_of_the_week_are_causes_where_they_are_named() -> None:
    view = HealView(now=MONDAY + 3 * HOUR, labelled_rows=100, champion_made=MONDAY - 40 * 86_400)
    assert decide_heal(SPEC, view).action == "nothing"
    aged = msgspec.structs.replace(SPEC, on=("age",))
    assert decide_heal(aged, view).reason.startswith("the champion is 40.1 days old")
    young = msgspec.structs.replace(view, champion_made=MONDAY)
    assert decide_heal(aged, young).action == "nothing"
    weekly = msgspec.structs.replace(SPEC, on=("schedule",), schedule=("Mon 03:00",))
    assert decide_heal(weekly, view).reason.startswith("it is due (Mon 03:00)")
    made = (Attempt(started=view.now, outcome="failed"),)
    later = msgspec.structs.replace(view, now=view.now + HOUR, attempts=made)
    assert decide_heal(weekly, later).action == "nothing"
    next_week = msgspec.structs.replace(later, now=view.now + 7 * 86_400.0)
    assert decide_heal(weekly, next_week).action == "heal"


def test_a_burning_budget_is_a_cause_where_it_is_named() -> None:
    view = HealView(now=1.0, labelled_rows=100, burning=("latency",))
    assert decide_heal(SPEC, view).action == "nothing"
    spec = msgspec.structs.replace(SPEC, on=("burn",))
    assert decide_heal(spec, view).reason.startswith("the error budget of latency burns")


def test_nothing_is_begun_in_a_freeze_but_by_a_person() -> None:
    spec = msgspec.structs.replace(
        SPEC, freeze=("Fri 16:00 - Mon 08:00",), time_zone="Europe/Berlin"
    )
    frozen = msgspec.structs.replace(DRIFTED, now=MONDAY + 6 * HOUR)
    assert "changes are frozen for 60 min more" in decide_heal(spec, frozen).reason
    thawed = msgspec.structs.replace(DRIFTED, now=MONDAY + 7 * HOUR)
    assert decide_heal(spec, thawed).action == "heal"
    asked = msgspec.structs.replace(frozen, requested=True)
    assert decide_heal(spec, asked).action == "heal"


def test_the_days_runs_and_processor_hours_are_a_budget() -> None:
    runs = tuple(
        Attempt(started=MONDAY + number * HOUR, outcome="promoted", cpu_s=1800.0)
        for number in range(4)
    )
    view = msgspec.structs.replace(DRIFTED, now=MONDAY + 5 * HOUR, attempts=runs)
    few = msgspec.structs.replace(SPEC, runs_per_day=4)
    assert "4 attempts were made within 24 h (limit 4)" in decide_heal(few, view).reason
    cheap = msgspec.structs.replace(SPEC, cpu_hours_per_day=2.0)
    assert "attempts took 2.00 processor hours" in decide_heal(cheap, view).reason
    tomorrow = msgspec.structs.replace(view, now=MONDAY + 24.5 * HOUR)
    assert decide_heal(few, tomorrow).action == "heal"
    assert decide_heal(cheap, tomorrow).action == "heal"
