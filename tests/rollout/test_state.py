"""The rollout's state machine: its path, and each invariant of its docstring under any input."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from steadynet.rollout.evidence import Outcome, Verdict
from steadynet.rollout.state import (
    Action,
    Command,
    Observation,
    Rollout,
    Transition,
    start,
    step,
)
from steadynet.spec.model import RolloutSpec

PLAN = RolloutSpec(steps=(0.1, 0.3, 0.5), min_step_s=5.0, max_step_s=100.0)
BEGAN = 1000.0


def begin() -> Rollout:
    return start(rollout_id="r1", model="churn", champion="1", challenger="2", now=BEGAN)


def verdict(stage: str, outcome: Outcome, *, when_time_is_up: Outcome = "not_yet") -> Verdict:
    return Verdict(
        stage=stage,
        outcome=outcome,
        when_time_is_up=when_time_is_up,
        signals=(),
        sentence=f"said {outcome}",
    )


def look(
    state: Rollout,
    *,
    after: float = 10.0,
    outcome: Outcome | None = None,
    command: Command | None = None,
    ready: int = 2,
    plan: RolloutSpec = PLAN,
) -> Transition:
    """Step with what is seen `after` seconds in this stage."""
    seen = Observation(
        now=state.stage_started + after,
        verdict=None if outcome is None else verdict(state.stage, outcome),
        workers_expected=2,
        workers_ready=ready,
        command=command,
    )
    return step(state, plan, seen)


def reach(stage: str, plan: RolloutSpec = PLAN) -> Rollout:
    """Return a rollout that passed every stage before `stage`."""
    state = look(begin(), plan=plan).state
    while state.stage != stage:
        state = look(state, outcome="pass", plan=plan).state
    return state


def test_a_good_challenger_goes_all_the_way() -> None:
    state, path = begin(), []
    for _ in range(5):
        transition = look(state, outcome="pass")
        state = transition.state
        path.append((state.stage, state.share, state.mirror, transition.action))
    assert path == [
        ("shadow", 0.0, 1.0, "set_route"),
        ("canary 0", 0.1, 0.0, "set_route"),
        ("canary 1", 0.3, 0.0, "set_route"),
        ("canary 2", 0.5, 0.0, "set_route"),
        ("promoted", 1.0, 0.0, "promote"),
    ]
    assert state.ended is not None


def test_it_waits_until_all_workers_have_loaded_the_challenger() -> None:
    assert look(begin(), ready=1) == Transition(state=begin(), action="none", reason="")
    assert look(begin(), ready=2).state.phase == "shadow"


def test_no_workers_at_all_are_not_all_workers() -> None:
    nobody = Observation(now=BEGAN + 1, workers_expected=0, workers_ready=0)
    assert step(begin(), PLAN, nobody).action == "none"


def test_a_worker_that_cannot_load_the_challenger_ends_the_rollout() -> None:
    for state in (begin(), reach("canary 1")):
        seen = Observation(now=state.stage_started, load_failures={"w1": "golden row 3 differs"})
        transition = step(state, PLAN, seen)
        assert transition.action == "rollback"
        assert transition.state.share == 0.0
        assert "worker w1 could not load the challenger: golden row 3" in transition.reason


@pytest.mark.parametrize("stage", ["shadow", "canary 0", "canary 2"])
def test_a_failing_verdict_rolls_back_at_once(stage: str) -> None:
    transition = look(reach(stage), after=0.1, outcome="fail")
    assert transition.action == "rollback"
    assert transition.state.phase == "aborted"
    assert (transition.state.share, transition.state.mirror) == (0.0, 0.0)
    assert transition.reason == "said fail"


def test_a_clock_that_was_set_back_begins_the_stage_anew() -> None:
    state = reach("canary 1")
    assert look(state, after=-1.0).state == state, "two machines' clocks differ by as much"
    transition = look(state, after=-3600.0, outcome="pass")
    assert transition.action == "none"
    assert "set back by 3600 s" in transition.reason
    back = transition.state
    assert back == msgspec.structs.replace(state, stage_started=state.stage_started - 3600.0)
    assert look(back, outcome="pass").state.stage == "canary 2"
    paused = look(state, command="pause").state
    resumed = look(look(paused, after=-3600.0).state, after=60.0, command="resume").state
    assert resumed.stage_started == pytest.approx(state.stage_started - 3600.0 + 60.0)
    assert look(state, after=-3600.0, outcome="fail").action == "rollback"


@pytest.mark.parametrize("outcome", ["not_yet", None])
def test_no_verdict_moves_nothing(outcome: Outcome | None) -> None:
    state = reach("canary 0")
    assert look(state, outcome=outcome) == Transition(state=state, action="none", reason="")


def test_a_stage_lasts_its_least_time_even_when_it_passes() -> None:
    state = reach("canary 0")
    assert look(state, after=4.9, outcome="pass").action == "none"
    assert look(state, after=5.0, outcome="pass").state.stage == "canary 1"


def test_a_verdict_on_another_stage_is_not_heard() -> None:
    state = reach("canary 1")
    for outcome in ("pass", "fail"):
        old = Observation(now=state.stage_started + 10, verdict=verdict("canary 0", outcome))
        assert step(state, PLAN, old).action == "none"


def test_the_same_observation_twice_moves_traffic_once() -> None:
    state = reach("canary 0")
    seen = Observation(now=state.stage_started + 50, verdict=verdict("canary 0", "pass"))
    moved = step(state, PLAN, seen)
    again = step(moved.state, PLAN, seen)
    assert moved.state.share == 0.3
    assert again == Transition(state=moved.state, action="none", reason="")


@pytest.mark.parametrize("stage", ["pending", "shadow", "canary 1"])
def test_time_that_is_up_ends_the_rollout_unless_the_plan_holds(stage: str) -> None:
    state = begin() if stage == "pending" else reach(stage)
    late = look(state, after=100.1, outcome="not_yet", ready=0)
    assert late.action == "rollback"
    assert f"{stage} was not decided within 100 s" in late.reason
    holding = msgspec.structs.replace(PLAN, on_timeout="hold")
    assert look(state, after=1e6, outcome="not_yet", ready=0, plan=holding).action == "none"


@pytest.mark.parametrize("on_timeout", ["hold", "abort"])
def test_a_broken_measurement_holds_the_rollout_even_when_its_time_is_up(on_timeout: str) -> None:
    plan = msgspec.structs.replace(PLAN, on_timeout=on_timeout)
    for stage in ("shadow", "canary 1"):
        state = reach(stage)
        held = look(state, after=1e6, outcome="broken", plan=plan)
        assert held == Transition(state=state, action="none", reason="")
        assert look(state, after=1e6, outcome="fail", plan=plan).action == "rollback"
        assert look(state, after=1e6, command="abort", plan=plan).action == "rollback"


@pytest.mark.parametrize("on_timeout", ["hold", "abort"])
def test_labels_are_not_waited_for_beyond_the_stages_time(on_timeout: str) -> None:
    plan = msgspec.structs.replace(PLAN, on_timeout=on_timeout)
    state = reach("shadow")
    waiting = verdict("shadow", "not_yet", when_time_is_up="pass")
    early = Observation(now=state.stage_started + 99, verdict=waiting)
    late = Observation(now=state.stage_started + 101, verdict=waiting)
    assert step(state, plan, early).action == "none"
    assert step(state, plan, late).state.stage == "canary 0"


def test_a_pause_stops_progress_and_its_time_does_not_count() -> None:
    state = look(reach("canary 0"), after=1, command="pause").state
    assert look(state, after=50, outcome="pass").action == "none"
    assert look(state, after=5000, outcome="not_yet").action == "none"
    resumed = look(state, after=5001, command="resume").state
    assert resumed.paused_at is None
    assert resumed.stage_started == state.stage_started + 5000
    assert look(resumed, after=4, outcome="pass").action == "none"
    assert look(resumed, after=6, outcome="pass").state.stage == "canary 1"


def test_a_paused_rollout_still_ends_when_it_fails() -> None:
    state = look(reach("canary 0"), command="pause").state
    assert look(state, outcome="fail").action == "rollback"
    assert look(state, command="abort").action == "rollback"


def test_pausing_twice_is_pausing_once() -> None:
    once = look(reach("canary 0"), after=1, command="pause").state
    assert look(once, after=2, command="pause").state == once
    assert look(reach("canary 0"), command="resume").action == "none"


def test_approval_is_a_persons() -> None:
    plan = msgspec.structs.replace(PLAN, approval=True)
    waiting = look(reach("canary 2", plan), outcome="pass", plan=plan)
    assert waiting.state.phase == "awaiting_approval"
    assert waiting.action == "none"
    assert waiting.state.share == 0.5
    assert look(waiting.state, after=1e6, outcome="pass", plan=plan).action == "none"
    assert look(waiting.state, outcome="fail", plan=plan).action == "rollback"
    assert look(waiting.state, command="promote", plan=plan).action == "promote"


@pytest.mark.parametrize("stage", ["shadow", "canary 1"])
def test_promotion_by_command_skips_the_rest(stage: str) -> None:
    assert look(reach(stage), after=0, command="promote").action == "promote"


def test_what_no_worker_has_loaded_is_not_promoted_by_command() -> None:
    transition = look(begin(), command="promote", ready=0)
    assert transition.state == begin()
    assert transition.action == "none"
    assert "cannot be promoted before workers have loaded it" in transition.reason


def test_harm_comes_before_a_command_to_promote() -> None:
    assert look(reach("canary 1"), outcome="fail", command="promote").action == "rollback"


def test_a_plan_without_shadow_begins_with_the_first_step() -> None:
    plan = RolloutSpec(shadow_share=0.0, steps=(0.2, 0.5))
    assert look(begin(), plan=plan).state.stage == "canary 0"


def test_a_plan_without_steps_promotes_after_the_shadow() -> None:
    plan = RolloutSpec(steps=())
    assert look(look(begin(), plan=plan).state, outcome="pass", plan=plan).action == "promote"


def test_a_plan_without_any_stage_waits_for_a_person() -> None:
    plan = RolloutSpec(shadow_share=0.0, steps=())
    loaded = look(begin(), plan=plan)
    assert (loaded.state.phase, loaded.action) == ("awaiting_approval", "none")
    assert look(loaded.state, command="promote", plan=plan).action == "promote"


def test_a_clock_that_jumps_back_moves_nothing() -> None:
    state = reach("canary 0")
    assert look(state, after=-500.0, outcome="pass").action == "none"


@dataclass
class Route:
    """What the workers would do, had the controller only done what it was told."""

    share: float = 0.0
    mirror: float = 0.0
    champion: str = "1"
    moves: list[Action] = field(default_factory=list)

    def apply(self, transition: Transition) -> None:
        if transition.action != "none":
            self.moves.append(transition.action)
        if transition.action == "set_route":
            self.share, self.mirror = transition.state.share, transition.state.mirror
        elif transition.action == "rollback":
            self.share = self.mirror = 0.0
        elif transition.action == "promote":
            self.share, self.mirror = 1.0, 0.0
            self.champion = transition.state.challenger


class AnyRollout(RuleBasedStateMachine):
    """Any plan, any order of observations, a controller that is killed and goes on."""

    @initialize(
        steps=st.lists(st.floats(0.01, 0.99), max_size=4, unique=True).map(
            lambda shares: tuple(sorted(shares))
        ),
        shadow_share=st.sampled_from([0.0, 0.5, 1.0]),
        on_timeout=st.sampled_from(["hold", "abort"]),
        approval=st.booleans(),
        approve_steps=st.booleans(),
    )
    def plan_it(
        self,
        steps: tuple[float, ...],
        shadow_share: float,
        on_timeout: str,
        approval: bool,
        approve_steps: bool,
    ) -> None:
        self.plan = msgspec.convert(
            {
                "steps": steps,
                "shadow_share": shadow_share,
                "on_timeout": on_timeout,
                "approval": approval,
                "approve_steps": approve_steps,
                "min_step_s": 5.0,
                "max_step_s": 60.0,
            },
            RolloutSpec,
        )
        self.now = BEGAN
        self.state = begin()
        self.route = Route()
        self.loaded = self.passed_last = self.ordered = False

    @rule(
        seconds=st.sampled_from([-3.0, 0.0, 1.0, 6.0, 61.0]),
        outcome=st.sampled_from([None, "pass", "pass", "fail", "not_yet", "broken"]),
        when_time_is_up=st.sampled_from(["pass", "not_yet"]),
        on_stage=st.sampled_from(["this", "this", "this", "shadow", "canary 0"]),
        ready=st.integers(0, 2),
        broken=st.sampled_from([False, False, False, False, True]),
        command=st.sampled_from([None, None, None, "promote", "abort", "pause", "resume"]),
    )
    def observe(
        self,
        seconds: float,
        outcome: Outcome | None,
        when_time_is_up: Outcome,
        on_stage: str,
        ready: int,
        broken: bool,
        command: Command | None,
    ) -> None:
        self.now += seconds
        stage = self.state.stage if on_stage == "this" else on_stage
        said = None if outcome is None else verdict(stage, outcome, when_time_is_up=when_time_is_up)
        seen = Observation(
            now=self.now,
            verdict=said,
            workers_expected=2,
            workers_ready=ready,
            load_failures={"w0": "digest"} if broken else {},
            command=command,
        )
        before = self.state
        self.remember(before, seen)
        transition = step(before, self.plan, seen)
        self.check(before, seen, transition)
        self.route.apply(transition)
        self.state = transition.state
        again = step(self.state, self.plan, seen)
        moved_by_word = command in ("promote", "resume") and not before.over
        if transition.action != "none" and not moved_by_word:
            assert again.action == "none" or again.action == "rollback"

    def remember(self, before: Rollout, seen: Observation) -> None:
        self.loaded = self.loaded or before.phase != "pending" or seen.workers_ready == 2
        last = f"canary {len(self.plan.steps) - 1}" if self.plan.steps else "shadow"
        if seen.verdict is not None and seen.verdict.stage == before.stage == last:
            self.passed_last = self.passed_last or "pass" in (
                seen.verdict.outcome,
                seen.verdict.when_time_is_up,
            )
        self.ordered = self.ordered or (seen.command == "promote" and before.phase != "pending")

    def check(self, before: Rollout, seen: Observation, transition: Transition) -> None:
        after = transition.state
        if before.over:
            assert (after, transition.action) == (before, "none")
            return
        shares = (0.0, *self.plan.steps)
        if after.share > before.share and after.phase != "promoted":
            assert shares.index(after.share) == shares.index(before.share) + 1
        if after.share < before.share:
            assert after.share == 0.0
            assert after.phase == "aborted"
        if seen.command == "abort":
            assert after.phase == "aborted"
        if transition.action == "none":
            assert (after.share, after.mirror) == (before.share, before.mirror)
            assert not after.over
        held = seen.verdict is not None and (
            seen.verdict.outcome == "broken" and seen.verdict.stage == before.stage
        )
        if held and before.phase != "pending" and seen.command is None and not seen.load_failures:
            assert after.stage == before.stage
        harmful = seen.verdict is not None and (
            seen.verdict.outcome == "fail" and seen.verdict.stage == before.stage
        )
        if seen.load_failures or (harmful and before.phase != "pending"):
            assert after.phase == "aborted"
        elif before.paused_at is not None and seen.command not in ("promote", "abort"):
            assert after.stage == before.stage

    @rule()
    def kill_the_controller(self) -> None:
        """What is stored is all that a new controller has."""
        self.state = msgspec.json.decode(msgspec.json.encode(self.state), type=Rollout)

    @invariant()
    def route_and_state_agree(self) -> None:
        assert self.route.share == self.state.share
        assert self.route.mirror == self.state.mirror

    @invariant()
    def only_a_pass_or_a_person_promotes(self) -> None:
        if self.state.phase == "promoted":
            assert self.route.champion == "2"
            assert self.loaded
            assert self.ordered or self.passed_last
        else:
            assert self.route.champion == "1"

    @invariant()
    def aborted_has_no_traffic(self) -> None:
        if self.state.phase == "aborted":
            assert (self.state.share, self.state.mirror) == (0.0, 0.0)

    @invariant()
    def it_ends_at_most_once(self) -> None:
        ends = [action for action in self.route.moves if action in ("promote", "rollback")]
        assert len(ends) <= 1
        assert (self.state.ended is not None) == self.state.over


AnyRollout.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAnyRollout = AnyRollout.TestCase
