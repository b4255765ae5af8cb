"""Months of steady errors: the code of `bench/burn_rates.py`."""

from __future__ import annotations

import pytest
from burn_rates import BUDGET, detection, simulate


@pytest.mark.parametrize("per_minute", [0.5, 6.0, 600.0])
def test_errors_within_the_budget_page_nobody(per_minute: float) -> None:
    months = [simulate(per_minute, BUDGET / 2, seed) for seed in range(20)]
    assert sum(month.pages for month in months) == 0
    assert sum(month.tickets for month in months) <= 4


def test_errors_at_the_budget_itself_are_no_stream_of_tickets() -> None:
    months = [simulate(6.0, BUDGET, seed) for seed in range(10)]
    assert sum(month.tickets for month in months) <= 10 * 30


def test_a_quiet_night_with_single_errors_pages_nobody_where_a_simple_rule_does() -> None:
    months = [simulate(0.5, BUDGET, seed) for seed in range(20)]
    assert sum(month.pages for month in months) == 0
    assert sum(month.simple for month in months) >= 20 * 10


def test_an_outage_pages_within_minutes() -> None:
    assert detection(600.0, 1.0, 0)["page"] == 1
    times = [detection(60.0, 0.1, seed)["page"] for seed in range(20)]
    assert all(time is not None and time <= 20 for time in times)


def test_a_slow_burn_is_a_ticket_and_no_page() -> None:
    for seed in range(10):
        found = detection(600.0, 0.004, seed)
        assert found["page"] is None
        assert found["ticket"] is not None
        assert found["ticket"] <= 24 * 60
