"""Whole rollouts in simulated worlds: equal challengers are promoted, worse ones are not.

The same code as `bench/judge.py`, with fewer rollouts.
"""

from __future__ import annotations

import math

import pytest
from simulated_rollouts import Ended, Pool, World, make_pool, phases, simulate_many, with_rates

from steadynet.spec.model import RolloutSpec

PLAN = RolloutSpec()
ROLLOUTS = 100


@pytest.fixture(scope="module")
def equal() -> Pool:
    """Two networks of the same quality that answer differently."""
    return make_pool(1)


def run(
    world: World, plan: RolloutSpec = PLAN, rollouts: int = 12, most_s: int = 1000
) -> list[Ended]:
    return simulate_many(plan, world, rollouts=rollouts, seed=3, most_s=most_s)


def most_failures(rollouts: int, alpha: float) -> float:
    """Return the count that a true share of alpha exceeds about once in ten thousand times."""
    return rollouts * alpha + 3.7 * math.sqrt(rollouts * alpha * (1 - alpha))


def test_equal_challengers_fail_at_most_alpha_of_the_time_though_asked_every_second(
    equal: Pool,
) -> None:
    ended = run(World(equal), rollouts=ROLLOUTS)
    assert sum(item.failed_signals != () for item in ended) <= most_failures(ROLLOUTS, PLAN.alpha)
    assert phases(ended)["promoted"] >= 0.95 * ROLLOUTS


def test_challengers_exactly_at_a_tolerance_fail_at_most_alpha_of_the_time(equal: Pool) -> None:
    """The hardest case: no difference is further from failing without being beyond tolerance."""
    plan = RolloutSpec(alpha=0.2, on_timeout="hold", steps=(), min_step_s=1e9)
    world = with_rates(World(equal, labelled=0.0), faults=0.006, slow=0.06)
    ended = run(world, plan, rollouts=100, most_s=120)
    assert sum(item.failed_signals != () for item in ended) <= most_failures(100, 0.2)


@pytest.mark.parametrize(
    ("faults", "slow", "signal", "most_requests"),
    [
        (1.0, None, "errors", 500),
        (0.03, None, "errors", 5000),
        (0.011, None, "errors", 40_000),
        (None, 0.11, "latency", 5000),
        (None, 0.5, "latency", 500),
    ],
)
def test_a_broken_challenger_never_gets_a_users_request(
    equal: Pool, faults: float | None, slow: float | None, signal: str, most_requests: int
) -> None:
    for item in run(with_rates(World(equal), faults=faults, slow=slow)):
        assert item.phase == "aborted"
        assert signal in item.failed_signals
        assert item.user_requests == 0
        assert item.challenger_requests < most_requests


def test_without_a_shadow_a_broken_challenger_costs_few_requests(equal: Pool) -> None:
    plan = RolloutSpec(shadow_share=0.0)
    for item in run(with_rates(World(equal), faults=1.0), plan):
        assert item.failed_signals == ("errors",)
        assert item.user_requests < 100


def test_shifted_scores_are_caught_in_the_shadow() -> None:
    for item in run(World(make_pool(1, shift=0.5))):
        assert item.failed_signals == ("outputs",)
        assert item.user_requests == 0


def test_a_silently_worse_challenger_is_caught_by_labels_alone() -> None:
    pool = make_pool(1, challenger_noise=0.99)
    assert 0.025 < pool.champion_auc - pool.challenger_auc < 0.045
    for item in run(World(pool)):
        assert item.failed_signals == ("labels",)
        assert item.user_requests == 0


def test_without_labels_a_silently_worse_challenger_is_not_seen() -> None:
    """What it says: labels are what catches it. Quality watches on after the promotion."""
    pool = make_pool(1, challenger_noise=0.99)
    assert phases(run(World(pool, labelled=0.0), rollouts=4))["promoted"] == 4


def test_a_retrained_challenger_is_promoted_though_it_answers_otherwise() -> None:
    """The world moved, so that champion's scores are off; the challenger's labels show it."""
    moved = make_pool(1, shift=-0.6)
    healed = Pool(
        champion_score=moved.challenger_score,
        challenger_score=moved.champion_score,
        champion_loss=moved.challenger_loss,
        challenger_loss=moved.champion_loss,
        disagrees=moved.disagrees,
        happened=moved.happened,
        edges=moved.edges[::-1],
        champion_auc=moved.challenger_auc,
        challenger_auc=moved.champion_auc,
    )
    without = run(World(healed, labelled=0.0), rollouts=4)
    assert {item.failed_signals for item in without} == {("outputs",)}
    held_out = run(World(healed, held_out=1000), rollouts=8)
    assert phases(held_out)["promoted"] == 8
