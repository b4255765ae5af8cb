"""How often intervals hold what they promise: `python bench/interval_coverage.py`.

Thousands of streams and windows, drawn with fixed seeds:

1. The judge's confidence sequences (`statistics.sequential`): the share of streams in which a bound
   was ever wrong until a sample size, at any of the looks before it. Each bound may be wrong in
   `ALPHA` of the streams, whenever one stops; beside it the same for the interval of a textbook (a
   normal approximation at the same level), looked at as often from `FEWEST_VALUES` rows on.
2. Quality estimated without labels (`monitoring.estimate`): the share of windows whose interval
   of 95 % holds the metric that the window's traffic has, for test parts and windows of several
   sizes, with the mix of scores as in training and another one.

Exit code 1 where a bound is wrong more often than it may be, beyond chance.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steadynet.bundle.profile import OutputProfile, Profile
from steadynet.monitoring.estimate import estimate_quality
from steadynet.monitoring.windows import Window
from steadynet.runtime.metrics import per_row_loss
from steadynet.statistics.moments import Moments
from steadynet.statistics.sequential import (
    FEWEST_VALUES,
    mean_bounds,
    mean_difference_bounds,
    rate_bounds,
    rate_difference_bounds,
)
from steadynet.table.schema import Schema, Target
from steadynet.training.profile import bin_edges, check_by_score

ALPHA = 0.05
SIZES = (100, 1_000, 10_000)
LOOKS = 60
"""Looks until the largest size, closer together at the beginning."""
Z = 1.6449
"""Of a one-sided normal bound at `ALPHA`."""
TYPICAL = 0.005
TOLD_AS_TRUE = 400_000
"""Rows that say what a metric of the traffic is."""

Floats = npt.NDArray[np.float64]
Bounds = tuple[float, float]


@dataclass(frozen=True)
class Sequence:
    """One kind of bound, on streams of its own kind."""

    name: str
    truth: float
    draw: Callable[[np.random.Generator, int], Floats]
    """Makes streams: seeds, size → values (arms, n)."""
    bound: Callable[[Floats, int], Bounds]
    """Bounds after the first n values."""
    textbook: Callable[[Floats, int], Bounds]
    fewest: int = 1


def sequences() -> Iterator[Sequence]:
    """Yield what the judge and the alarms bound."""
    for rate in (0.005, 0.2):
        yield Sequence(f"a rate of {rate}", rate, _ones(rate), _rate, _plain_rate)
    yield Sequence(
        "a difference of rates, .006 and .001", 0.005, _ones(0.006, 0.001), _rates, _plain_means
    )
    yield Sequence(
        "a mean of log-losses", _mean_loss(), _losses(1), _mean, _plain_mean, FEWEST_VALUES
    )
    yield Sequence(
        "a difference of mean log-losses", 0.0, _losses(2), _means, _plain_means, FEWEST_VALUES
    )


def _ones(*rates: float) -> Callable[[np.random.Generator, int], Floats]:
    def draw(random: np.random.Generator, size: int) -> Floats:
        return np.stack([(random.random(size) < rate).astype(np.float64) for rate in rates])

    return draw


def _losses(arms: int) -> Callable[[np.random.Generator, int], Floats]:
    def draw(random: np.random.Generator, size: int) -> Floats:
        return np.asarray(-np.log(random.beta(4.0, 1.2, (arms, size))), np.float64)

    return draw


def _mean_loss() -> float:
    """Return the mean of -log of a Beta(4, 1.2): the difference of two digammas."""
    from scipy.special import digamma

    return float(digamma(5.2) - digamma(4.0))


def _rate(values: Floats, n: int) -> Bounds:
    ones = float(values[0, :n].sum())
    return rate_bounds(ones, n, alpha_low=ALPHA, alpha_high=ALPHA, typical=TYPICAL)


def _rates(values: Floats, n: int) -> Bounds:
    treated, control = ((float(arm[:n].sum()), n) for arm in values)
    return rate_difference_bounds(
        treated, control, alpha_low=ALPHA, alpha_high=ALPHA, typical=TYPICAL
    )


def _moments(values: Floats) -> Moments:
    return Moments(len(values), float(values.sum()), float((values**2).sum()))


def _mean(values: Floats, n: int) -> Bounds:
    return mean_bounds(_moments(values[0, :n]), alpha_low=ALPHA, alpha_high=ALPHA, unit=0.3)


def _means(values: Floats, n: int) -> Bounds:
    treated, control = (_moments(arm[:n]) for arm in values)
    return mean_difference_bounds(treated, control, alpha_low=ALPHA, alpha_high=ALPHA, unit=0.3)


def _plain_rate(values: Floats, n: int) -> Bounds:
    return _plain_mean(values, n)


def _plain_mean(values: Floats, n: int) -> Bounds:
    half = Z * float(values[0, :n].std()) / math.sqrt(n)
    mean = float(values[0, :n].mean())
    return mean - half, mean + half


def _plain_means(values: Floats, n: int) -> Bounds:
    half = Z * math.sqrt(sum(float(arm[:n].var()) for arm in values) / n)
    difference = float(values[0, :n].mean() - values[1, :n].mean())
    return difference - half, difference + half


@dataclass(frozen=True)
class Missed:
    """Shares of streams in which a bound was ever wrong, until each of `SIZES`."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    textbook: tuple[float, ...]
    """Either side of the textbook's."""


def missed(sequence: Sequence, streams: int, seed: int = 0) -> Missed:
    """Look at streams again and again."""
    looks = np.unique(np.geomspace(sequence.fewest, SIZES[-1], LOOKS).astype(int))
    first = np.full((streams, 3), np.inf)
    """The first look at which the lower, the upper, a textbook's bound was wrong."""
    for number in range(streams):
        values = sequence.draw(np.random.default_rng((seed, number)), int(looks[-1]))
        for n in looks.tolist():
            low, high = sequence.bound(values, n)
            plain = sequence.textbook(values, n)
            wrong = (
                low > sequence.truth,
                high < sequence.truth,
                n >= FEWEST_VALUES and not plain[0] <= sequence.truth <= plain[1],
            )
            first[number] = np.minimum(first[number], np.where(wrong, n, np.inf))
    shares = [tuple((first[:, side] <= size).mean().item() for size in SIZES) for side in range(3)]
    return Missed(*shares)


@dataclass(frozen=True)
class Held:
    """Shares of windows whose interval held the truth, by metric."""

    tested: int
    rows: int
    mix: str
    shares: dict[str, float]


def held(tested: int, rows: int, mix: tuple[str, float, float], windows: int) -> Held:
    """Draw test parts and windows; estimate each window's quality from its test part."""
    name, mean, spread = mix
    truth = _truth(mean, spread)
    inside = dict.fromkeys(truth, 0)
    for seed in range(windows):
        random = np.random.default_rng((1, tested, rows, seed))
        odds = random.normal(-1.0, 1.5, tested)
        profile = _profile(odds, (random.random(tested) < _positive(odds)).astype(np.int64))
        scores = _positive(random.normal(mean, spread, rows))
        found = estimate_quality(profile, "binary", _window(profile, scores)).metrics
        for metric, value in truth.items():
            inside[metric] += metric in found and found[metric].low <= value <= found[metric].high
    return Held(tested, rows, name, {metric: n / windows for metric, n in inside.items()})


def _positive(odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-odds)), np.float64)


def _answers(odds: Floats) -> Floats:
    positive = _positive(odds)
    return np.stack([1 - positive, positive], axis=1)


def _truth(mean: float, spread: float) -> dict[str, float]:
    """Return what the metrics of such traffic are; of calibrated scores, without labels' noise."""
    positive = np.sort(_positive(np.random.default_rng(7).normal(mean, spread, TOLD_AS_TRUE)))
    loss = -(positive * np.log(positive) + (1 - positive) * np.log1p(-positive))
    below = np.cumsum(1 - positive) - (1 - positive) / 2
    pairs = positive.sum() * (1 - positive).sum()
    return {
        "auc": float((positive * below).sum() / pairs),
        "accuracy": float(np.maximum(positive, 1 - positive).mean()),
        "log_loss": float(loss.mean()),
    }


def _profile(odds: Floats, target: npt.NDArray[np.int64]) -> Profile:
    answers = _answers(odds)
    schema = Schema(
        columns=(), target=Target(name="y", task="binary", reason="", classes=("no", "yes"))
    )
    edges = tuple(bin_edges(answers[:, 1]).tolist())
    losses = per_row_loss(target, answers)
    return Profile(
        rows=len(odds),
        features=(),
        output=OutputProfile(
            edges=edges, counts=(1,) * (len(edges) + 1), mean=0.0, deviation=1.0, label_counts={}
        ),
        loss_mean=float(losses.mean()),
        loss_deviation=float(losses.std()),
        checked=check_by_score(schema, edges, {"probabilities": answers}, target, None),
    )


def _window(profile: Profile, scores: Floats) -> Window:
    places = np.searchsorted(np.asarray(profile.output.edges), scores, side="right")
    counts = np.bincount(places, minlength=len(profile.output.edges) + 1)
    return Window(
        model="m",
        version="1",
        role="champion",
        start=0.0,
        end=1.0,
        rows=len(scores),
        output=tuple(counts.tolist()),
    )


MIXES = (("as in training", -1.0, 1.5), ("harder", 0.0, 1.0))


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--windows", type=int, default=2000)
    options = parser.parse_args()
    most = ALPHA + 3.7 * math.sqrt(ALPHA * (1 - ALPHA) / options.streams)
    failed = False
    print(f"ever wrong in {options.streams} streams, until n rows; {ALPHA:.0%} are allowed each\n")
    print("| bound on | n | lower | upper | textbook's, both |")
    print("|---|---|---|---|---|")
    for sequence in sequences():
        found = missed(sequence, options.streams)
        failed |= max(*found.low, *found.high) > most
        for place, size in enumerate(SIZES):
            shares = (found.low[place], found.high[place], found.textbook[place])
            told = " | ".join(f"{share:.1%}" for share in shares)
            print(f"| {sequence.name} | {size} | {told} |", flush=True)
    print(f"\nheld by intervals of 95 % in {options.windows} windows\n")
    print("| test rows | window's rows | scores | AUC | accuracy | log-loss |")
    print("|---|---|---|---|---|---|")
    for mix in MIXES:
        for tested, rows in ((300, 500), (1_000, 2_000), (5_000, 2_000)):
            result = held(tested, rows, mix, options.windows)
            told = " | ".join(f"{share:.1%}" for share in result.shares.values())
            print(f"| {tested} | {rows} | {result.mix} | {told} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
