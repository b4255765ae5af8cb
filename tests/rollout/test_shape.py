"""Gaps between histograms on different bins: bins never make one, and a real one is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.rollout.evidence import Arm
from steadynet.rollout.shape import largest_gap

ALPHA = 0.01


def arm_of(scores: np.ndarray, edges: list[float]) -> Arm:
    counts = np.bincount(np.searchsorted(edges, scores, side="right"), minlength=len(edges) + 1)
    return Arm(requests=len(scores), output=tuple(counts.tolist()), edges=tuple(edges))


@given(
    st.integers(0, 10**6),
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=9, unique=True).map(sorted),
    st.lists(st.floats(0.01, 0.99), min_size=0, max_size=9, unique=True).map(sorted),
)
@settings(max_examples=60, deadline=None)
def test_the_same_answers_on_other_bins_have_no_gap(
    seed: int, one: list[float], other: list[float]
) -> None:
    scores = np.random.default_rng(seed).beta(2, 3, 500)
    gap = largest_gap(arm_of(scores, other), arm_of(scores, one), alpha=ALPHA)
    assert gap is not None
    assert gap.estimate == pytest.approx(0.0, abs=1e-12)
    assert gap.low <= 0 <= gap.high


@given(
    st.integers(0, 10**6),
    st.lists(st.floats(0.05, 0.95), min_size=3, max_size=12, unique=True).map(sorted),
    st.lists(st.floats(0.05, 0.95), min_size=3, max_size=12, unique=True).map(sorted),
)
@settings(max_examples=60, deadline=None)
def test_a_gap_is_never_larger_than_that_of_the_answers_themselves(
    seed: int, one: list[float], other: list[float]
) -> None:
    random = np.random.default_rng(seed)
    new, old = random.beta(3, 2, 800), random.beta(2, 3, 900)
    gap = largest_gap(arm_of(new, other), arm_of(old, one), alpha=ALPHA)
    assert gap is not None
    true = abs(float((new < gap.at).mean() - (old < gap.at).mean()))
    assert gap.estimate <= true + 1e-9


def test_a_change_of_shape_with_the_same_mean_is_found() -> None:
    random = np.random.default_rng(1)
    old = random.normal(0.5, 0.05, 5000)
    new = np.where(random.random(5000) < 0.5, 0.2, 0.8) + random.normal(0, 0.01, 5000)
    assert abs(new.mean() - old.mean()) < 0.02
    edges = np.quantile(old, np.linspace(0, 1, 11)[1:-1]).tolist()
    gap = largest_gap(arm_of(new, [0.3, 0.5, 0.7]), arm_of(old, edges), alpha=ALPHA)
    assert gap is not None
    assert gap.low > 0.3


@pytest.mark.parametrize(
    ("challenger", "champion"),
    [
        (Arm(), Arm()),
        (Arm(output=(50, 49), edges=(0.5,)), Arm(output=(500, 500), edges=(0.5,))),
        (Arm(output=(500, 500), edges=(0.5, 0.6)), Arm(output=(500, 500), edges=(0.5,))),
        (Arm(output=(1000,)), Arm(output=(1000,))),
    ],
)
def test_too_little_to_compare_is_no_gap(challenger: Arm, champion: Arm) -> None:
    assert largest_gap(challenger, champion, alpha=ALPHA) is None


def test_equal_versions_ever_show_a_gap_at_most_alpha_of_the_time() -> None:
    """Looked at forty times while rows come; two networks of one distribution, their own bins."""
    random = np.random.default_rng(3)
    edges = [np.quantile(random.beta(2, 3, 3000), np.linspace(0, 1, 11)[1:-1]).tolist()] * 2
    runs, misses, alpha = 300, 0, 0.2
    for _ in range(runs):
        new, old = random.beta(2, 3, 2000), random.beta(2, 3, 2000)
        for n in range(50, 2001, 50):
            gap = largest_gap(arm_of(new[:n], edges[0]), arm_of(old[:n], edges[1]), alpha=alpha)
            if gap is not None and gap.low > 0:
                misses += 1
                break
    assert misses / runs <= alpha + 3.7 * np.sqrt(alpha * (1 - alpha) / runs)
