"""The signals of what really happened: calibration, slices, the callers' own number; and tails."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from steadynet.rollout.budget import signal_alpha, signals_of, stage_alpha
from steadynet.rollout.evidence import Arm, Evidence, LabelledLoss, TwoArms
from steadynet.rollout.judge import judge
from steadynet.rollout.outcomes import judge_calibration, judge_slices, judge_value
from steadynet.spec.model import RolloutSpec
from steadynet.statistics.moments import Moments

PLAN = RolloutSpec()
SLICED = RolloutSpec(slices=("region",))
VALUED = RolloutSpec(value="higher", value_tolerance=0.5)
TAILED = RolloutSpec(critical=("errors", "latency", "tail", "outputs"))


def spread(n: int, mean: float, deviation: float) -> Moments:
    return Moments(n, mean * n, (mean**2 + deviation**2) * n)


def biased(new: float, old: float, n: int = 20_000) -> Evidence:
    return Evidence(
        stage="shadow",
        bias=TwoArms(challenger=spread(n, new, 0.4), champion=spread(n, old, 0.4)),
    )


@pytest.mark.parametrize(
    ("new", "old", "outcome"),
    [
        (0.0, 0.0, "pass"),
        (0.2, 0.0, "fail"),
        (-0.2, 0.0, "fail"),
        (0.2, -0.2, "pass"),
        (0.0, 0.3, "pass"),
    ],
)
def test_scores_further_from_what_happened_fail_in_both_directions(
    new: float, old: float, outcome: str
) -> None:
    found = judge_calibration(PLAN, biased(new, old))
    assert found.outcome == outcome
    assert not found.critical


def test_few_labels_say_nothing_of_calibration() -> None:
    assert judge_calibration(PLAN, biased(0.9, 0.0, n=99)).outcome == "not_yet"
    assert judge_calibration(PLAN, Evidence(stage="shadow")).estimate is None


def test_a_version_that_is_worse_in_one_slice_fails_and_the_slice_is_named() -> None:
    even = LabelledLoss(paired=spread(5000, -0.02, 0.3))
    worse = LabelledLoss(paired=spread(2000, 0.3, 0.3))
    evidence = Evidence(
        stage="shadow",
        labels=LabelledLoss(paired=spread(7000, 0.0, 0.3)),
        slices={"region = north": even, "region = south": worse},
        loss_unit=0.5,
    )
    found = judge_slices(SLICED, evidence)
    assert found.outcome == "fail"
    assert "loss where region = south, the worst of 2 slices (CS +0.27" in found.sentence
    assert judge(SLICED, evidence).outcome == "fail"
    assert judge(PLAN, evidence).outcome != "fail"


def test_a_slice_with_few_rows_keeps_the_signal_open() -> None:
    even = LabelledLoss(paired=spread(9000, 0.0, 0.2))
    few = LabelledLoss(paired=spread(20, 2.0, 0.1))
    both = Evidence(stage="shadow", slices={"a": even, "b": few}, loss_unit=0.5)
    assert judge_slices(SLICED, both).outcome == "not_yet"
    alone = Evidence(stage="shadow", slices={"a": even}, loss_unit=0.5)
    assert judge_slices(SLICED, alone).outcome == "pass"


@pytest.mark.parametrize(
    ("better", "new", "outcome"),
    [
        ("higher", 8.0, "fail"),
        ("higher", 12.0, "pass"),
        ("lower", 12.0, "fail"),
        ("lower", 8.0, "pass"),
    ],
)
def test_the_callers_number_is_judged_in_its_direction(
    better: str, new: float, outcome: str
) -> None:
    plan = msgspec.convert({"value": better, "value_tolerance": 0.5}, RolloutSpec)
    stage = TwoArms(challenger=spread(4000, new, 3.0), champion=spread(4000, 10.0, 3.0))
    assert judge_value(plan, Evidence(stage="canary 0", value=(stage,))).outcome == outcome


def test_stages_with_other_shares_are_not_mixed() -> None:
    """The value rises with time for both; only the shares differ. Pooled, it would look better."""
    early = TwoArms(challenger=spread(500, 5.0, 1.0), champion=spread(9500, 5.0, 1.0))
    late = TwoArms(challenger=spread(5000, 9.0, 1.0), champion=spread(5000, 9.0, 1.0))
    found = judge_value(VALUED, Evidence(stage="canary 2", value=(early, late)))
    assert found.estimate == pytest.approx(0.0, abs=1e-9)
    assert found.outcome == "pass"


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_rare_large_values_do_not_fail_an_equal_challenger(better: str) -> None:
    """One answer in a hundred is worth 100: the challenger's twentieth of them has met none yet,
    which is no evidence that it never will. Looked at after every 200 answers."""
    random = np.random.default_rng(0)
    plan = msgspec.convert({"value": better, "value_tolerance": 0.02}, RolloutSpec)
    worth = 100.0 * (random.random((200, 30, 200)) < 0.01)  # (rollouts, looks, answers)
    treated = random.random(worth.shape) < 0.05
    arms = []
    for chosen in (treated, ~treated):
        held = worth * chosen
        sums = (chosen.sum(axis=2), held.sum(axis=2), (held**2).sum(axis=2))
        arms.append(np.stack(sums, axis=2).cumsum(axis=1))
    failed = sum(
        any(
            judge_value(plan, valued(new.tolist(), old.tolist())).outcome == "fail"
            for new, old in zip(*looks, strict=True)
        )
        for looks in zip(*arms, strict=True)
    )
    assert failed <= 200 * plan.alpha


def valued(new: list[float], old: list[float]) -> Evidence:
    """Evidence of two arms' (n, total, squares)."""
    moments = [Moments(int(arm[0]), arm[1], arm[2]) for arm in (new, old)]
    stage = TwoArms(challenger=moments[0], champion=moments[1])
    return Evidence(stage="canary 0", value=(stage,))


def test_a_value_is_a_condition_only_where_the_plan_says_so() -> None:
    critical = msgspec.structs.replace(VALUED, critical=("errors", "value"))
    assert judge_value(critical, Evidence(stage="canary 0")).critical
    assert not judge_value(VALUED, Evidence(stage="canary 0")).critical


def with_tail(new: float, old: float, n: int = 20_000) -> Evidence:
    return Evidence(
        stage="shadow",
        tail_s=0.02,
        challenger=Arm(requests=n, timed=n, tail=new * n, score=spread(n, 0.3, 0.2)),
        champion=Arm(requests=n, timed=n, tail=old * n, score=spread(n, 0.3, 0.2)),
    )


def test_a_longer_tail_fails_though_every_answer_is_within_the_objective() -> None:
    verdict = judge(TAILED, with_tail(0.05, 0.01))
    assert verdict.outcome == "fail"
    assert "share of requests above 20 ms +4.00 % (5.00 % against 1.00 %" in verdict.sentence
    assert judge(TAILED, with_tail(0.011, 0.01)).outcome != "fail"
    unasked = judge(PLAN, with_tail(0.05, 0.01))
    assert unasked.outcome != "fail"
    assert "tail" not in {signal.name for signal in unasked.signals}


def test_a_tail_without_a_usual_one_is_not_judged() -> None:
    unknown = msgspec.structs.replace(with_tail(0.5, 0.0), tail_s=0.0)
    tail = next(s for s in judge(TAILED, unknown).signals if s.name == "tail")
    assert (tail.outcome, tail.estimate) == ("not_yet", None)


def test_the_plan_says_what_a_step_must_pass() -> None:
    evidence = with_tail(0.0101, 0.0100)
    lenient = msgspec.structs.replace(PLAN, critical=("errors", "latency"))
    strict = msgspec.structs.replace(
        PLAN, critical=("errors", "latency", "tail"), tail_tolerance=1e-6
    )
    assert judge(lenient, evidence).outcome == "pass"
    assert judge(strict, evidence).outcome == "not_yet"


@pytest.mark.parametrize("plan", [PLAN, SLICED, VALUED, TAILED])
def test_the_signals_budgets_add_up_to_the_plans(plan: RolloutSpec) -> None:
    count = len(signals_of(plan))
    assert count * signal_alpha(plan) == pytest.approx(plan.alpha)
    assert (len(plan.steps) + 1) * stage_alpha(plan) == pytest.approx(signal_alpha(plan))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_sums_that_are_no_numbers_are_broken(bad: float) -> None:
    nonsense = Moments(500, bad, bad)
    arms = TwoArms(challenger=nonsense, champion=spread(500, 0.0, 1.0))
    assert judge_calibration(PLAN, Evidence(stage="shadow", bias=arms)).outcome == "broken"
    assert judge_value(VALUED, Evidence(stage="canary 0", value=(arms,))).outcome == "broken"
    sliced = Evidence(stage="shadow", slices={"a": LabelledLoss(stages=(arms,))})
    assert judge_slices(SLICED, sliced).outcome == "broken"
