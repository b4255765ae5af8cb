"""Work beside the event loop rests between pieces, unless more waits than rests leave time for."""

from __future__ import annotations

import pytest

import steadynet.serving.pace as pace_module
from steadynet.serving.pace import LONGEST_REST_S, MOST_WAITING, Pace, rest_s


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collects rests in place of sleeping; every piece's time is up."""
    rests: list[float] = []
    monkeypatch.setattr(pace_module, "PIECE_S", 0.0)
    monkeypatch.setattr("time.sleep", rests.append)
    return rests


def test_a_piece_whose_time_is_up_is_followed_by_a_rest(slept: list[float]) -> None:
    Pace().rest()
    assert len(slept) == 1
    assert 0 < slept[0] <= LONGEST_REST_S


def test_a_short_piece_goes_on(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "PIECE_S", 3600.0)
    Pace().rest()
    assert slept == []


def test_nobody_rests_at_the_end_or_while_too_much_waits(slept: list[float]) -> None:
    ending, swamped = Pace(), Pace()
    ending.ending = True
    swamped.waiting = MOST_WAITING + 1
    ending.rest()
    swamped.rest()
    assert slept == []


def test_a_tenth_of_the_time_is_worked_and_more_as_more_waits() -> None:
    shares = [
        1e-3 / (1e-3 + rest_s(1e-3, waiting, awaited=False)) for waiting in range(MOST_WAITING + 2)
    ]
    assert shares == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.4, 1.0])


def test_a_caller_who_waits_lets_the_thread_work_more_but_never_less() -> None:
    assert rest_s(1e-3, 0, awaited=True) == pytest.approx(3e-3)
    for waiting in range(MOST_WAITING + 2):
        asked, unasked = (rest_s(1e-3, waiting, awaited=awaited) for awaited in (True, False))
        assert asked <= unasked


def test_no_rest_is_longer_than_callers_can_bear() -> None:
    assert rest_s(10.0, 1, awaited=False) == LONGEST_REST_S
