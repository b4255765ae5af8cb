"""What other tools' rules say of the same simulated canaries, for comparison with the judge.

- *Fixed thresholds*, as Flagger's documentation sets them up: each minute the canary's success
  rate must be at least 99 % and its 99th percentile at most 500 ms; after five failed minutes it
  is rolled back, after five good ones at growing weights (10 % to 50 %) it is promoted.
- *Repeated Mann-Whitney*, as Kayenta's judge compares: per-minute values of canary and of a
  baseline of the same size, tested each minute at 98 % confidence; it fails where the error rate
  or the 99th percentile is classified as high.

Both look at errors and latency alone, as they come; neither is told scores or labels. Latencies are
log-normal with a median of 20 ms, so that the champion's 99th percentile is 64 ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from simulated_rollouts import LATENCY_SPREAD, World

Floats = npt.NDArray[np.float64]

MINUTES = 60
"""How long a canary is watched by the repeated test, as long as a typical analysis."""
MEDIAN_S = 0.020
SUCCESS = 0.99
LONGEST_S = 0.5
FAILED_CHECKS = 5
WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5)
CONFIDENCE = 0.98
FEWEST_POINTS = 5
"""Minutes before the rank test can reach its level at all."""


@dataclass(frozen=True)
class Answer:
    """How a rule ended one canary."""

    failed: bool
    minutes: int


def fixed_thresholds(world: World, seed: int) -> Answer:
    """Judge one canary by fixed thresholds."""
    random = np.random.default_rng(seed)
    failures = passes = 0
    for minute in range(1, MINUTES + 1):
        requests = int(random.poisson(60 * world.requests_per_s * WEIGHTS[passes]))
        errors, p99 = _minute(world, requests, random, version=1)
        good = requests > 0 and 1 - errors >= SUCCESS and p99 <= LONGEST_S
        failures, passes = (failures, passes + 1) if good else (failures + 1, passes)
        if failures == FAILED_CHECKS:
            return Answer(True, minute)
        if passes == len(WEIGHTS):
            return Answer(False, minute)
    return Answer(False, MINUTES)


def repeated_rank_test(world: World, seed: int, *, share: float = 0.1) -> Answer:
    """Judge one canary, and a baseline of its size, by a rank test that is repeated each minute."""
    random = np.random.default_rng(seed)
    seen: list[list[tuple[float, float]]] = [[], []]
    for minute in range(1, MINUTES + 1):
        for version, points in enumerate(seen):
            requests = int(random.poisson(60 * world.requests_per_s * share))
            if requests:
                points.append(_minute(world, requests, random, version=version))
        if minute < FEWEST_POINTS:
            continue
        old, new = (np.array(points) for points in seen)
        if any(_is_high(new[:, metric], old[:, metric]) for metric in (0, 1)):
            return Answer(True, minute)
    return Answer(False, MINUTES)


def _is_high(new: Floats, old: Floats) -> bool:
    """Whether the lower end of the two-sided interval of the shift is above 0."""
    if np.ptp(np.concatenate([new, old])) == 0:
        return False
    found = stats.mannwhitneyu(new, old, alternative="greater")
    return bool(found.pvalue < (1 - CONFIDENCE) / 2)


def _minute(
    world: World, requests: int, random: np.random.Generator, *, version: int
) -> tuple[float, float]:
    """Return the error rate and the 99th percentile, seconds, of one version in one minute."""
    if requests == 0:
        return 0.0, 0.0
    errors = random.binomial(requests, world.faults[version]) / requests
    slower = world.slower if version else 1.0
    # The 99th percentile of n log-normal latencies, drawn as the order statistic that it is.
    rank = max(1, math.ceil(0.99 * requests))
    level = random.beta(rank, requests + 1 - rank)
    latency = MEDIAN_S * slower * math.exp(LATENCY_SPREAD * float(stats.norm.ppf(level)))
    return float(errors), latency
