"""What a silence keeps back, what it does not, and that nothing is kept back for good."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.monitoring.alerts import decide_alerts
from steadynet.monitoring.reports import Alert, AlertDecision, AlertKind, Condition
from steadynet.monitoring.silences import Silence, silencing, words

QUIET_S = 300.0


def silence(key: str = "", *, since: float = 0.0, until: float = 100.0, am: str = "") -> Silence:
    return Silence(
        id=1, key=key, since=since, until=until, reason="moving", by="anna", alertmanager=am
    )


def condition(kind: AlertKind = "ticket", *, active: bool = True, key: str = "drift") -> Condition:
    return Condition(key=key, active=active, kind=kind, cause="c", quiet_s=QUIET_S)


@dataclass
class People:
    """Decides again and again, and keeps what people were told."""

    silences: tuple[Silence, ...] = ()
    open: tuple[Alert, ...] = ()
    told: list[tuple[str, str]] = field(default_factory=list)

    def look(self, now: float, *found: Condition) -> AlertDecision:
        made = decide_alerts("m", self.open, found, now, self.silences)
        self.open = made.open
        self.told += [(alert.kind, "opened") for alert in made.opened]
        self.told += [(alert.kind, "resolved") for alert in made.resolved if alert.told]
        return made


@pytest.mark.parametrize(
    ("key", "of", "covered"),
    [
        ("", "drift", True),
        ("drift", "drift", True),
        ("drift", "quality", False),
        ("slo", "slo/latency", True),
        ("rollout", "rollout/r7", True),
        ("quality", "quality/estimated", True),
        ("quality/estimated", "quality", False),
        ("sl", "slo/latency", False),
    ],
)
def test_a_silence_covers_its_own_alerts(key: str, of: str, covered: bool) -> None:
    assert bool(silencing([silence(key)], of, 99.9)) == covered
    assert silencing([silence(key)], of, 100.0) == ""
    assert silencing([silence(key, am="a1")], of, 1.0) == "", "Alertmanager keeps quiet itself"


def test_the_longest_silence_is_the_one_that_is_told_of() -> None:
    later = silence(until=3_600.0)
    assert silencing([silence(), later, silence()], "drift", 1.0) == words(later)
    assert words(later) == "silenced until 1970-01-01 01:00 UTC by anna: moving"


def test_a_page_is_kept_back_and_told_once_the_silence_is_over() -> None:
    people = People((silence(),))
    first = people.look(1.0, condition("page"))
    assert [alert.silenced for alert in first.held] == [words(silence())]
    assert people.look(50.0, condition("page")).held == (), "it is written down once"
    assert people.told == []
    people.look(100.0, condition("page"))
    assert people.told == [("page", "opened")]
    assert people.open[0].since == 1.0


def test_what_is_over_within_the_silence_is_never_told() -> None:
    people = People((silence(until=1000.0),))
    people.look(1.0, condition("page"))
    [over] = people.look(500.0, condition(active=False)).resolved
    assert not over.told
    assert people.told == []


def test_what_was_told_before_goes_on_and_its_end_is_told() -> None:
    people = People()
    people.look(0.0, condition("page"))
    people.silences = (silence(until=1000.0),)
    assert people.look(10.0, condition("page")).still
    people.look(500.0, condition(active=False))
    assert people.told == [("page", "opened"), ("page", "resolved")]


def test_a_known_ticket_that_becomes_a_page_is_kept_back_as_that() -> None:
    people = People()
    people.look(0.0, condition())
    people.silences = (silence(since=1.0, until=100.0),)
    [raised] = people.look(10.0, condition("page")).held
    assert (raised.kind, raised.known, raised.told) == ("page", True, True)
    people.look(20.0, condition("page"))
    assert people.told == [("ticket", "opened")]
    people.look(100.0, condition("page"))
    assert people.told == [("ticket", "opened"), ("page", "opened")]


def test_a_rollback_within_the_silence_is_told_after_it_though_nobody_looks_again() -> None:
    people = People((silence(until=1000.0),))
    happened = Condition(key="rollout/r7", active=True, cause="rollback", momentary=True)
    people.look(1.0, happened)
    people.look(999.0)
    assert people.told == []
    people.look(1000.0)
    assert people.told == [("ticket", "opened")]
    people.look(1000.0 + QUIET_S)
    assert people.told == [("ticket", "opened"), ("ticket", "resolved")]


def test_what_has_gone_by_the_end_of_the_silence_is_not_told_that_late() -> None:
    people = People((silence(),))
    people.look(1.0, condition())
    people.look(99.0, condition(active=False))
    people.look(101.0, condition(active=False))
    people.look(1.0 + QUIET_S, condition(active=False))
    assert people.open == ()
    assert people.told == []


EVENTS = st.lists(
    st.tuples(
        st.floats(1.0, 200.0),
        st.sampled_from(["page", "ticket", "gone", "unseen"]),
        st.sampled_from(["silence", "end", ""]),
    ),
    max_size=25,
)


@settings(max_examples=200)
@given(events=EVENTS)
def test_nothing_is_kept_back_for_good_and_only_what_was_told_is_ended(
    events: list[tuple[float, str, str]],
) -> None:
    people, now = People(), 0.0
    for later_s, seen, word in events:
        now += later_s
        if word == "silence":
            people.silences = (*people.silences, silence(until=now + 150.0))
        if word == "end":
            people.silences = ()
        found = {"gone": [condition(active=False)], "unseen": []}
        kinds: dict[str, AlertKind] = {"page": "page", "ticket": "ticket"}
        people.look(now, *(found[seen] if seen in found else [condition(kinds[seen])]))
        silenced = bool(silencing(people.silences, "drift", now))
        for alert in people.open:
            if not silenced and seen in kinds:
                assert alert.kept_back == "", "it holds, and no silence does"
                assert people.told[-1] == (alert.kind, "opened")
    openings = 0
    for kind, word in people.told:
        openings = openings + 1 if word == "opened" else 0
        assert word == "opened" or kind in ("page", "ticket")
        assert openings <= 2, "a ticket, then a page"
    assert not people.told or people.told[0][1] == "opened"
