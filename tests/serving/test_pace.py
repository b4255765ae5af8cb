"""Work beside the event loop rests between pieces, unless more waits than rests leave time for."""

from __future__ import annotations

import pytest

import steadynet.serving.pace as pace_module
from steadynet.serving.pace import Pace


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collects rests in place of sleeping; every piece's time is up."""
    rests: list[float] = []
    monkeypatch.setattr(pace_module, "PIECE_S", 0.0)
    monkeypatch.setattr("time.sleep", rests.append)
    return rests


def test_a_piece_whose_time_is_up_is_followed_by_a_rest(slept: list[float]) -> None:
    Pace().rest()
    assert slept == [pace_module.REST_S]


def test_a_short_piece_goes_on(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "PIECE_S", 3600.0)
    Pace().rest()
    assert slept == []


def test_nobody_rests_in_a_hurry(slept: list[float]) -> None:
    pace = Pace()
    pace.hurried = True
    pace.rest()
    assert slept == []
