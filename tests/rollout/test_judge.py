"""The judge: each signal's three answers, what no data does, and who decides when they disagree."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.rollout.budget import signals_of
from steadynet.rollout.evidence import (
    Arm,
    Evidence,
    LabelledLoss,
    PairedScores,
    Signal,
    SignalName,
    TwoArms,
    Verdict,
)
from steadynet.rollout.judge import judge
from steadynet.spec.model import RolloutSpec
from steadynet.statistics.moments import Moments

PLAN = RolloutSpec()


def spread(n: int, mean: float, deviation: float) -> Moments:
    return Moments(n, mean * n, (mean**2 + deviation**2) * n)


def arm(requests: int = 5000, *, faults: int = 0, slow: float = 0.0, score: float = 0.3) -> Arm:
    return Arm(
        requests=requests,
        faults=faults,
        timed=requests,
        slow=slow,
        score=spread(requests, score, 0.2),
    )


def paired(rows: int, shift: float = 0.0, *, disagreements: int = 0) -> PairedScores:
    return PairedScores(
        rows=rows, disagreements=disagreements, difference=spread(rows, shift, 0.05)
    )


def shadow(
    challenger: Arm | None = None,
    *,
    pairs: PairedScores | None = None,
    labels: LabelledLoss | None = None,
) -> Evidence:
    return Evidence(
        stage="shadow",
        challenger=challenger or arm(),
        champion=arm(),
        pairs=pairs or paired(5000),
        labels=labels or LabelledLoss(),
        loss_unit=0.5,
    )


def canary(challenger: Arm, *, labels: LabelledLoss | None = None) -> Evidence:
    return Evidence(
        stage="canary 0",
        share=0.05,
        challenger=challenger,
        champion=arm(95_000),
        labels=labels or LabelledLoss(),
        loss_unit=0.5,
    )


def apart(challenger: Moments, champion: Moments) -> LabelledLoss:
    """Return losses of rows that one of the two answered, all in one stage."""
    return LabelledLoss(stages=(TwoArms(challenger=challenger, champion=champion),))


def signal(verdict: Verdict, name: SignalName) -> Signal:
    return next(item for item in verdict.signals if item.name == name)


@pytest.mark.parametrize("evidence", [shadow(), canary(arm())])
def test_an_equal_challenger_passes(evidence: Evidence) -> None:
    verdict = judge(PLAN, evidence)
    assert verdict.outcome == "pass"
    assert verdict.stage == evidence.stage
    outcomes = {s.name: s.outcome for s in verdict.signals}
    assert [outcomes[name] for name in PLAN.critical] == ["pass", "pass", "pass"]
    assert {outcomes[name] for name in ("labels", "calibration")} == {"not_yet"}


def test_no_data_never_passes_and_never_fails() -> None:
    verdict = judge(PLAN, Evidence(stage="canary 0", share=0.05))
    assert verdict.outcome == "not_yet"
    assert {s.outcome for s in verdict.signals} == {"not_yet"}
    assert all(s.estimate is None and s.low is None for s in verdict.signals)


@pytest.mark.parametrize(
    ("evidence", "missing"),
    [
        (msgspec.structs.replace(canary(arm()), champion=Arm()), "errors"),
        (canary(msgspec.structs.replace(arm(), timed=0, slow=0.0)), "latency"),
        (canary(msgspec.structs.replace(arm(), score=Moments())), "outputs"),
    ],
)
def test_a_critical_signal_without_data_holds_all(evidence: Evidence, missing: SignalName) -> None:
    verdict = judge(PLAN, evidence)
    assert verdict.outcome == "not_yet"
    assert signal(verdict, missing).outcome == "not_yet"


def test_a_challenger_that_always_fails_is_shown_within_tens_of_requests() -> None:
    evidence = Evidence(
        stage="shadow", challenger=Arm(requests=20, faults=20), champion=Arm(requests=20)
    )
    verdict = judge(PLAN, evidence)
    assert verdict.outcome == "fail"
    assert signal(verdict, "errors").outcome == "fail"
    assert verdict.sentence == (
        "error rate +100.00 % (100.00 % against 0.00 %, 95 % CS +55.92 … +100.00, tolerance 0.50) "
        "on 20 requests"
    )


def test_faults_counted_apart_from_requests_do_not_break_the_judge() -> None:
    """A worker may count a fault in a window before the one that counts its request."""
    evidence = Evidence(
        stage="shadow", challenger=Arm(requests=10, faults=12), champion=Arm(requests=10)
    )
    assert signal(judge(PLAN, evidence), "errors").challenger_n == 12


def test_more_slow_answers_fail() -> None:
    verdict = judge(PLAN, canary(arm(slow=1000.0)))
    assert verdict.outcome == "fail"
    assert signal(verdict, "latency").low == pytest.approx(0.2, abs=0.04)


def test_a_difference_within_tolerance_never_fails() -> None:
    evidence = Evidence(
        stage="shadow",
        challenger=arm(1_000_000, faults=4000),
        champion=arm(1_000_000),
        pairs=paired(1_000_000),
    )
    errors = signal(judge(PLAN, evidence), "errors")
    assert errors.outcome == "pass"
    assert errors.low is not None
    assert 0 < errors.low < PLAN.error_tolerance


def test_few_requests_do_not_pass_even_when_all_signals_do() -> None:
    plan = RolloutSpec(min_requests=10_000)
    verdict = judge(plan, shadow())
    assert all(s.outcome == "pass" for s in verdict.signals if s.critical)
    assert verdict.outcome == "not_yet"
    assert verdict.sentence == "5000 of 10000 requests so far"


@pytest.mark.parametrize("shift", [0.1, -0.1])
def test_shifted_scores_fail_in_both_directions(shift: float) -> None:
    assert judge(PLAN, shadow(pairs=paired(5000, shift))).outcome == "fail"
    assert judge(PLAN, canary(arm(score=0.3 + shift))).outcome == "fail"


def test_labels_that_disagree_on_many_rows_fail_though_the_mean_holds() -> None:
    verdict = judge(PLAN, shadow(pairs=paired(5000, disagreements=2500)))
    assert verdict.outcome == "fail"
    assert "another label than the champion's on 50.00 % of rows" in verdict.sentence


def test_regression_is_not_judged_by_disagreement() -> None:
    evidence = msgspec.structs.replace(
        shadow(pairs=paired(5000, disagreements=5000)), classification=False
    )
    assert judge(PLAN, evidence).outcome == "pass"


def test_a_regression_shift_is_measured_in_deviations() -> None:
    shifted = shadow(pairs=PairedScores(rows=5000, difference=spread(5000, 3.0, 20.0)))
    as_regression = msgspec.structs.replace(shifted, classification=False, score_unit=100.0)
    assert signal(judge(PLAN, as_regression), "outputs").tolerance == pytest.approx(5.0)
    assert judge(PLAN, as_regression).outcome == "pass"


@pytest.mark.parametrize(
    "better",
    [
        LabelledLoss(paired=spread(2000, -0.1, 0.3)),
        apart(spread(3000, 0.4, 0.5), spread(3000, 0.6, 0.5)),
        LabelledLoss(holdout=spread(1000, -0.1, 0.3)),
        LabelledLoss(holdout=spread(900, -0.09, 0.6), paired=spread(6, 0.05, 0.01)),
    ],
)
def test_a_shift_is_no_fault_where_labels_show_that_it_is_better(better: LabelledLoss) -> None:
    """A network that was retrained on a drifted world answers otherwise, and rightly so."""
    verdict = judge(PLAN, shadow(pairs=paired(5000, 0.2, disagreements=2500), labels=better))
    assert verdict.outcome == "pass"
    assert "no fault, since labels show a smaller loss" in signal(verdict, "outputs").sentence


@pytest.mark.parametrize(
    "labels",
    [
        LabelledLoss(holdout=spread(1000, -0.1, 0.3), paired=spread(50, 0.3, 0.3)),
        LabelledLoss(holdout=spread(20, -0.1, 0.3)),
        LabelledLoss(holdout=spread(1000, 0.0, 0.3)),
        LabelledLoss(holdout=Moments(1000, math.nan, 1.0)),
    ],
)
def test_a_shift_is_a_fault_where_improvement_is_not_shown(labels: LabelledLoss) -> None:
    assert judge(PLAN, shadow(pairs=paired(5000, 0.2), labels=labels)).outcome == "fail"


@pytest.mark.parametrize(
    "labels",
    [LabelledLoss(holdout=spread(200, -0.01, 0.3)), LabelledLoss(paired=spread(20, -0.05, 0.3))],
)
def test_a_shift_is_given_time_in_the_shadow_where_labels_speak_for_it(
    labels: LabelledLoss,
) -> None:
    verdict = judge(PLAN, shadow(pairs=paired(5000, 0.2), labels=labels))
    assert (verdict.outcome, verdict.when_time_is_up) == ("not_yet", "not_yet")
    assert "labels speak for the challenger, but do not show it yet" in verdict.sentence
    assert judge(PLAN, canary(arm(score=0.5), labels=labels)).outcome == "fail"


def test_a_handful_of_common_labels_does_not_contradict_held_out_ones() -> None:
    """The first rows that labels come for are of the common class, and cost a bolder network a
    little each: in a world of 12 % frauds, four in five first sixes of rows hold none or one."""
    frauds, honest, seed = -1.2, 0.07, 7
    rng = np.random.default_rng(seed)
    excused = 0
    for _ in range(2000):
        losses = np.where(rng.random(1006) < 0.12, frauds, honest) + rng.normal(0, 0.02, 1006)
        live, held_out = losses[:6], losses[6:]
        labels = LabelledLoss(
            holdout=spread(1000, held_out.mean(), held_out.std()),
            paired=spread(6, live.mean(), live.std()),
        )
        evidence = shadow(pairs=paired(5000, 0.2), labels=labels)
        excused += judge(PLAN, evidence).outcome != "fail"
    assert excused >= 1990


def test_a_better_loss_excuses_neither_errors_nor_slowness() -> None:
    better = LabelledLoss(paired=spread(5000, -0.2, 0.3))
    assert judge(PLAN, shadow(arm(faults=500), labels=better)).outcome == "fail"
    assert judge(PLAN, shadow(arm(slow=1000.0), labels=better)).outcome == "fail"


@pytest.mark.parametrize(
    "worse",
    [
        LabelledLoss(paired=spread(2000, 0.1, 0.3)),
        apart(spread(2000, 0.7, 0.5), spread(9000, 0.5, 0.5)),
    ],
)
def test_a_silently_worse_challenger_is_caught_by_labels(worse: LabelledLoss) -> None:
    verdict = judge(PLAN, canary(arm(), labels=worse))
    assert verdict.outcome == "fail"
    assert [s.name for s in verdict.signals if s.outcome == "fail"] == ["labels"]


def test_labels_that_come_are_waited_for_in_the_shadow_until_time_is_up() -> None:
    undecided = LabelledLoss(paired=spread(200, 0.0, 0.3))
    verdict = judge(PLAN, shadow(labels=undecided))
    assert verdict.outcome == "not_yet"
    assert verdict.when_time_is_up == "pass"
    assert signal(verdict, "labels").patient


def test_undecided_labels_do_not_hold_a_canary_up() -> None:
    undecided = apart(spread(200, 0.5, 0.5), spread(900, 0.5, 0.5))
    verdict = judge(PLAN, canary(arm(), labels=undecided))
    assert verdict.outcome == "pass"
    assert not signal(verdict, "labels").critical


def test_labels_that_lean_against_the_challenger_hold_it_up_for_good() -> None:
    leaning = LabelledLoss(paired=spread(150, 0.05, 0.3))
    for evidence in (shadow(labels=leaning), canary(arm(), labels=leaning)):
        verdict = judge(PLAN, evidence)
        assert verdict.outcome == "not_yet"
        assert verdict.when_time_is_up == "not_yet"
        assert "leans against the challenger" in verdict.sentence


def test_required_labels_are_a_condition() -> None:
    plan = RolloutSpec(min_labels=1000)
    few = judge(plan, canary(arm(), labels=LabelledLoss(paired=spread(500, -0.1, 0.3))))
    enough = judge(plan, canary(arm(), labels=LabelledLoss(paired=spread(1000, -0.1, 0.3))))
    assert (few.outcome, few.when_time_is_up) == ("not_yet", "not_yet")
    assert enough.outcome == "pass"
    assert judge(plan, canary(arm())).outcome == "not_yet"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_broken_measurement_is_a_verdict_of_its_own_and_says_so(bad: float) -> None:
    scores = msgspec.structs.replace(arm(), score=Moments(5000, bad, bad))
    verdict = judge(PLAN, canary(scores))
    assert (verdict.outcome, verdict.when_time_is_up) == ("broken", "broken")
    assert "the measurement of scores is broken" in verdict.sentence
    losses = LabelledLoss(paired=Moments(500, bad, bad))
    verdict = judge(PLAN, canary(arm(), labels=losses))
    assert verdict.outcome == "broken"
    assert "the measurement of losses is broken" in verdict.sentence
    slow = msgspec.structs.replace(arm(), slow=-bad)
    assert signal(judge(PLAN, canary(slow)), "latency").outcome == "broken"


def test_what_is_shown_worse_fails_though_another_measurement_is_broken() -> None:
    scores = msgspec.structs.replace(arm(faults=500), score=Moments(5000, math.nan, math.nan))
    assert judge(PLAN, canary(scores)).outcome == "fail"


def test_the_budget_is_shared_over_stages() -> None:
    """More stages, more looks, less alpha for each: the same evidence bounds less."""
    evidence = shadow(arm(faults=100))
    few = signal(judge(RolloutSpec(steps=(0.5,)), evidence), "errors")
    many = signal(judge(RolloutSpec(steps=tuple(i / 20 for i in range(1, 20))), evidence), "errors")
    assert few.low is not None
    assert many.low is not None
    assert many.low < few.low


arms = st.builds(
    lambda n, faults, slow, score, deviation: Arm(
        requests=n,
        faults=min(n, faults),
        timed=n,
        slow=float(min(n, slow)),
        score=spread(n, score, deviation),
    ),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.floats(0, 1),
    st.floats(0, 0.5),
)
losses = st.builds(spread, st.integers(0, 10**5), st.floats(-3, 3), st.floats(0, 2))
two_arms = st.builds(TwoArms, challenger=losses, champion=losses)


@given(
    st.builds(
        Evidence,
        stage=st.sampled_from(["shadow", "canary 0", "canary 3"]),
        share=st.sampled_from([0.0, 0.05, 0.5]),
        challenger=arms,
        champion=arms,
        pairs=st.builds(
            PairedScores,
            rows=st.integers(0, 10**5),
            disagreements=st.integers(0, 10**5),
            difference=losses,
        ),
        labels=st.builds(
            LabelledLoss,
            paired=losses,
            stages=st.lists(two_arms, max_size=3).map(tuple),
            holdout=losses,
        ),
        bias=two_arms,
        tail_s=st.sampled_from([0.0, 0.01]),
        classification=st.booleans(),
    )
)
def test_laws_of_every_verdict(evidence: Evidence) -> None:
    verdict = judge(PLAN, evidence)
    assert verdict == judge(PLAN, evidence)
    outcomes = {s.name: s.outcome for s in verdict.signals}
    assert tuple(outcomes) == signals_of(PLAN)
    assert (verdict.outcome == "fail") == ("fail" in outcomes.values())
    if verdict.outcome == "pass":
        assert {outcomes["errors"], outcomes["latency"], outcomes["outputs"]} == {"pass"}
        assert evidence.challenger.requests >= PLAN.min_requests
        assert verdict.when_time_is_up == "pass"
    for item in verdict.signals:
        assert item.sentence
        if item.estimate is None:
            assert item.outcome == "not_yet"
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
