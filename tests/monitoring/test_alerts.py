"""Alerts: told once for each cause, raised, resolved when over, kept when nothing is known."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.monitoring.alerts import (
    MOST_HELD_S,
    decide_alerts,
    drift_condition,
    quality_condition,
    rollback_condition,
    slo_conditions,
)
from steadynet.monitoring.reports import (
    Alert,
    AlertKind,
    Condition,
    DriftReport,
    DriftVerdict,
    FeatureDrift,
    QualityReport,
    QualityVerdict,
)
from steadynet.monitoring.slo import SloEvents, assess_slo
from steadynet.spec.model import Slo

NOW = 1_700_000_000.0
QUIET_S = Condition(key="drift", active=False).quiet_s


def active(key: str = "drift", kind: AlertKind = "ticket", since: float | None = None) -> Condition:
    return Condition(key=key, active=True, kind=kind, cause=key, summary="it is so", since=since)


def inactive(key: str = "drift") -> Condition:
    return Condition(key=key, active=False)


def opened(key: str = "drift", kind: AlertKind = "ticket") -> Alert:
    return decide_alerts("churn", (), [active(key, kind)], NOW).opened[0]


def test_an_active_condition_opens_one_alert() -> None:
    decision = decide_alerts("churn", (), [active(since=NOW - 60), inactive("quality")], NOW)
    (alert,) = decision.opened
    assert alert.id == f"churn/drift/{int(NOW)}"
    assert (alert.since, alert.opened, alert.seen) == (NOW - 60, NOW, NOW)
    assert decision.still == decision.resolved == ()
    assert decision.open == (alert,)


def test_an_open_alert_is_not_told_again() -> None:
    decision = decide_alerts("churn", [opened()], [active()], NOW + 60)
    assert decision.opened == decision.resolved == ()
    assert decision.still[0].id == opened().id
    assert decision.still[0].seen == NOW + 60


def test_a_ticket_that_becomes_a_page_is_told_again_under_its_id() -> None:
    decision = decide_alerts("churn", [opened()], [active(kind="page")], NOW + 60)
    assert decision.opened[0].kind == "page"
    assert decision.opened[0].id == opened().id
    calmer = decide_alerts("churn", decision.open, [active(kind="ticket")], NOW + 120)
    assert calmer.still[0].kind == "page"
    assert calmer.opened == ()


def test_an_alert_is_resolved_after_a_quiet_time_and_not_before() -> None:
    soon = decide_alerts("churn", [opened()], [inactive()], NOW + QUIET_S - 1)
    assert soon.still == (opened(),)
    over = decide_alerts("churn", soon.open, [inactive()], NOW + QUIET_S)
    assert over.resolved[0].resolved == NOW + QUIET_S
    assert over.open == ()


def test_what_comes_back_in_the_quiet_time_was_never_away() -> None:
    quiet = decide_alerts("churn", [opened()], [inactive()], NOW + 200).open
    again = decide_alerts("churn", quiet, [active()], NOW + 290)
    assert again.opened == ()
    assert decide_alerts("churn", again.open, [inactive()], NOW + 310).resolved == ()


def held_back(kind: AlertKind = "ticket") -> Condition:
    return msgspec.structs.replace(active("slo/availability", kind), held="the rollout explains it")


def test_a_ticket_that_a_rollout_explains_is_told_when_the_rollout_is_over() -> None:
    first = decide_alerts("churn", (), [held_back()], NOW)
    assert (first.opened, len(first.held)) == ((), 1)
    meanwhile = decide_alerts("churn", first.open, [held_back()], NOW + 60)
    assert (meanwhile.opened, meanwhile.held) == ((), ())
    after = decide_alerts("churn", meanwhile.open, [active("slo/availability")], NOW + 120)
    assert [alert.held for alert in after.opened] == [""]
    assert after.opened[0].opened == NOW


def test_a_ticket_is_not_held_for_longer_than_its_day() -> None:
    first = decide_alerts("churn", (), [held_back()], NOW)
    late = decide_alerts("churn", first.open, [held_back()], NOW + MOST_HELD_S)
    assert len(late.opened) == 1
    assert decide_alerts("churn", late.open, [held_back()], NOW + MOST_HELD_S + 1).still


def test_what_is_over_while_it_is_held_was_never_told() -> None:
    first = decide_alerts("churn", (), [held_back()], NOW)
    over = decide_alerts("churn", first.open, [inactive("slo/availability")], NOW + QUIET_S)
    assert [bool(alert.held) for alert in over.resolved] == [True]


def test_a_page_is_never_held() -> None:
    assert decide_alerts("churn", (), [held_back("page")], NOW).opened[0].held == ""
    first = decide_alerts("churn", (), [held_back()], NOW)
    [paged] = decide_alerts("churn", first.open, [held_back("page")], NOW + 1).opened
    assert (paged.kind, paged.held, paged.raised) == ("page", "", NOW + 1)


def test_what_was_told_is_not_held_anew() -> None:
    told = decide_alerts("churn", (), [active("slo/availability")], NOW)
    again = decide_alerts("churn", told.open, [held_back()], NOW + 1)
    assert [alert.held for alert in again.still] == [""]


@pytest.mark.parametrize(
    ("failed", "its", "candidate", "held"),
    [(4, 4, "2", True), (4, 4, "", False), (4, 0, "2", False), (40, 40, "2", False)],
)
def test_only_a_ticket_that_the_candidate_alone_makes_is_held(
    failed: int, its: int, candidate: str, held: bool
) -> None:
    events = [
        SloEvents(
            start=NOW - 60 * (n + 1),
            end=NOW - 60 * n,
            total=1000,
            failed=failed,
            tried=100,
            tried_failed=its,
        )
        for n in range(1440)
    ]
    report = assess_slo(Slo(), events, NOW)
    [condition] = [
        c for c in slo_conditions(report, candidate=candidate) if c.key == "slo/availability"
    ]
    assert condition.active
    assert bool(condition.held) == held
    assert condition.todo == "Callers get errors. See which version faults, and roll back by hand."


def test_no_data_is_not_good_news() -> None:
    decision = decide_alerts("churn", [opened()], [], NOW + 100 * QUIET_S)
    assert decision.still == (opened(),)


def test_a_rollback_is_told_once_and_closed_by_itself() -> None:
    condition = rollback_condition(
        rollout="r7", version="2", champion="1", reason="faulty requests: 3 % against 0 %"
    )
    first = decide_alerts("churn", (), [condition], NOW)
    assert first.opened[0].summary == "version 2 was rolled back: faulty requests: 3 % against 0 %"
    assert first.opened[0].done == "version 1 answers all requests"
    assert decide_alerts("churn", first.open, [], NOW + 10).still
    assert decide_alerts("churn", first.open, [], NOW + QUIET_S).resolved


def drift_report(verdict: DriftVerdict, names: tuple[str, ...] = ()) -> DriftReport:
    features = tuple(
        FeatureDrift(
            name=name,
            rows=2000,
            psi=0.5,
            jensen_shannon=0.3,
            missing=0.0,
            missing_reference=0.0,
            p_value=1e-9,
            kinds=("shape",),
            sentence=f"{name}: its distribution changed",
        )
        for name in names
    )
    return DriftReport(
        verdict=verdict,
        complete=True,
        rows=2000,
        features=features,
        sustained=names if verdict == "drifted" else (),
        since=NOW - 500 if verdict == "drifted" else None,
    )


def test_sustained_drift_is_a_ticket_that_names_the_features() -> None:
    names = tuple(f"f{i}" for i in range(7))
    condition = drift_condition(drift_report("drifted", names), done="a retrain was started")
    assert condition is not None
    assert (condition.kind, condition.active, condition.since) == ("ticket", True, NOW - 500)
    assert "f0, f1, f2, f3, f4 and 2 more" in condition.summary
    assert condition.done == "a retrain was started"
    assert condition.todo


@pytest.mark.parametrize(
    ("verdict", "expected"), [("steady", False), ("drifting", None), ("not_yet", None)]
)
def test_only_a_steady_window_says_that_drift_is_over(
    verdict: DriftVerdict, expected: bool | None
) -> None:
    condition = drift_condition(drift_report(verdict))
    assert (None if condition is None else condition.active) == expected


@pytest.mark.parametrize(
    ("verdict", "expected"), [("lost", True), ("ok", False), ("not_yet", None)]
)
def test_lost_quality_pages(verdict: QualityVerdict, expected: bool | None) -> None:
    report = QualityReport(
        verdict=verdict,
        complete=True,
        rows=500,
        loss=0.9,
        loss_reference=0.5,
        tolerance=0.15,
        since=NOW - 5,
        sentence="quality is lost",
    )
    condition = quality_condition(report)
    assert (None if condition is None else condition.active) == expected
    if condition is not None and condition.active:
        assert (condition.kind, condition.summary) == ("page", "quality is lost")


def test_each_objective_is_a_cause_of_its_own() -> None:
    events = [SloEvents(start=NOW - 60, end=NOW, total=1000, failed=500, timed=1000)]
    conditions = slo_conditions(assess_slo(Slo(), events, NOW))
    assert [(c.key, c.active) for c in conditions] == [
        ("slo/availability", True),
        ("slo/latency", False),
    ]
    assert conditions[0].kind == "page"
    assert conditions[0].details["bad"] == 500
    assert slo_conditions(assess_slo(Slo(), [], NOW)) == ()


keys = st.sampled_from(["drift", "quality", "slo/latency"])
moments = st.lists(
    st.tuples(
        st.floats(0, 400),
        st.dictionaries(
            keys,
            st.tuples(
                st.booleans(), st.sampled_from(["page", "ticket"]), st.sampled_from(["", "why"])
            ),
            max_size=3,
        ),
    ),
    max_size=25,
)


@given(moments)
def test_laws_of_any_history(
    history: list[tuple[float, dict[str, tuple[bool, AlertKind, str]]]],
) -> None:
    """One open alert per cause; every alert opens before it ends, and ends once."""
    now, held = NOW, ()  # type: tuple[float, tuple[Alert, ...]]
    ended: set[str] = set()
    told: set[str] = set()
    for wait, said in history:
        now += wait
        conditions = [
            Condition(key=key, active=on, kind=kind, held=why)
            for key, (on, kind, why) in said.items()
        ]
        decision = decide_alerts("m", held, conditions, now)
        before = {alert.key for alert in held}
        assert {a.key for a in decision.resolved} <= before
        assert {a.key for a in decision.still} <= before
        assert all(not said[a.key][0] for a in decision.resolved)
        assert all(not alert.held for alert in (*decision.opened, *held) if alert.kind == "page")
        assert all(alert.held for alert in decision.held)
        told |= {alert.id for alert in decision.opened}
        assert {alert.id for alert in decision.open if not alert.held} <= told
        for key, (on, _, _) in said.items():
            assert not on or key in {alert.key for alert in decision.open}
        open_keys = [alert.key for alert in decision.open]
        assert len(open_keys) == len(set(open_keys))
        assert before <= set(open_keys) | {a.key for a in decision.resolved}
        assert not {a.id for a in decision.resolved} & ended
        ended |= {a.id for a in decision.resolved}
        held = decision.open
        assert msgspec.json.decode(msgspec.json.encode(held), type=tuple[Alert, ...]) == held
