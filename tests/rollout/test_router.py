"""Routing is a pure function of the route and a key."""

from __future__ import annotations

import math
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.rollout.route import Endpoint, Route
from steadynet.rollout.router import choose, mirrored, position, sampled

CHAMPION = Endpoint(version="1", bundle="/b/1", manifest_sha256="a" * 64)
CHALLENGER = Endpoint(version="2", bundle="/b/2", manifest_sha256="b" * 64)
KEYS = [f"key-{number}" for number in range(4000)]


def route(share: float = 0.0, mirror: float = 0.0, salt: str = "r1") -> Route:
    """Return a route with a challenger."""
    return Route(
        model="m",
        generation=1,
        champion=CHAMPION,
        challenger=CHALLENGER,
        share=share,
        mirror=mirror,
        salt=salt,
    )


@given(st.text(), st.text(), st.sampled_from(["route", "mirror", "log"]))
def test_a_position_is_in_the_unit_interval_and_stays(salt: str, key: str, purpose: str) -> None:
    first = position(salt, key, purpose)
    assert 0.0 <= first < 1.0
    assert position(salt, key, purpose) == first


@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_key_that_is_on_the_challenger_stays_there_at_every_larger_share(
    key: str, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    if choose(route(small), key) == "challenger":
        assert choose(route(large), key) == "challenger"


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_the_share_of_keys_is_the_share_of_the_route(share: float) -> None:
    hits = sum(choose(route(share), key) == "challenger" for key in KEYS)
    assert abs(hits / len(KEYS) - share) < 4 * math.sqrt(share * (1 - share) / len(KEYS))


@pytest.mark.parametrize("mirror", [0.1, 0.5])
def test_the_share_of_mirrored_keys_is_the_mirror_of_the_route(mirror: float) -> None:
    hits = sum(mirrored(route(mirror=mirror), key) for key in KEYS)
    assert abs(hits / len(KEYS) - mirror) < 4 * math.sqrt(mirror * (1 - mirror) / len(KEYS))


def test_the_ends_are_exact() -> None:
    assert {choose(route(0.0), key) for key in KEYS} == {"champion"}
    assert {choose(route(1.0), key) for key in KEYS} == {"challenger"}
    assert {mirrored(route(mirror=0.0), key) for key in KEYS} == {False}
    assert {mirrored(route(mirror=1.0), key) for key in KEYS} == {True}
    assert all(sampled(1.0, key) for key in KEYS)
    assert not any(sampled(0.0, key) for key in KEYS)


def test_without_a_challenger_the_champion_answers_and_nothing_is_mirrored() -> None:
    alone = msgspec.structs.replace(route(1.0, 1.0), challenger=None)
    assert choose(alone, "k") == "champion"
    assert not mirrored(alone, "k")


def test_another_salt_draws_anew() -> None:
    first = {key for key in KEYS if choose(route(0.5, salt="r1"), key) == "challenger"}
    second = {key for key in KEYS if choose(route(0.5, salt="r2"), key) == "challenger"}
    both = len(first & second) / len(KEYS)
    assert abs(both - 0.25) < 0.04, "the two draws are independent"


def test_routing_and_mirroring_are_drawn_apart() -> None:
    both = sum(
        choose(route(0.5, 0.5), key) == "challenger" and mirrored(route(0.5, 0.5), key)
        for key in KEYS
    )
    assert abs(both / len(KEYS) - 0.25) < 0.04


def test_the_log_sample_is_no_part_of_the_canary() -> None:
    canary = [key for key in KEYS if choose(route(0.2), key) == "challenger"]
    kept = sum(sampled(0.5, key) for key in canary) / len(canary)
    assert abs(kept - 0.5) < 0.08


def test_another_process_answers_the_same() -> None:
    code = (
        "from steadynet.rollout.router import position;"
        "print(repr([position('s', f'k{i}', 'route') for i in range(20)]))"
    )
    environment = {"PYTHONHASHSEED": "123"}
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert output.strip() == repr([position("s", f"k{number}", "route") for number in range(20)])
