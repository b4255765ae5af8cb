"""When the healing policy acts, waits and stops."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.control.policy import Attempt, HealView, Outcome, decide_heal, failures_in_a_row
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
    assert decision.reason == "drift is sustained in amount; 100 labelled rows"


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
