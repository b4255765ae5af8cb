"""Bounds and intervals of `bench/interval_coverage.py` hold what they promise; fewer streams."""

from __future__ import annotations

import pytest
from interval_coverage import ALPHA, MIXES, SIZES, held, missed, sequences

WINDOWS = 120
STREAMS = 40
ONE_IN_TEN_THOUSAND = 8
"""Wrong streams of `STREAMS` that a share of `ALPHA` exceeds so seldom."""


@pytest.mark.parametrize("number", [1, 4])
def test_bounds_are_seldom_ever_wrong_and_a_textbooks_often_are(number: int) -> None:
    sequence = list(sequences())[number]
    found = missed(sequence, STREAMS)
    for side in (found.low, found.high):
        assert len(side) == len(SIZES)
        assert list(side) == sorted(side), "what was wrong once stays so"
        assert side[-1] <= ONE_IN_TEN_THOUSAND / STREAMS
    assert found.textbook[-1] > 4 * ALPHA


@pytest.mark.parametrize("mix", MIXES, ids=[mix[0] for mix in MIXES])
def test_intervals_of_few_test_rows_hold_as_often_as_they_say(
    mix: tuple[str, float, float],
) -> None:
    found = held(300, 500, mix, WINDOWS)
    assert set(found.shares) == {"auc", "accuracy", "log_loss"}
    assert all(share >= 0.9 for share in found.shares.values()), found
