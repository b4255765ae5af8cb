"""Rollouts in simulated worlds, second by second, through the real judge and state machine.

A world says how often each version fails, is slow, and what it answers. Scores and losses are
drawn from a pool of rows whose true probability is known, so that a version with a worse AUC has
the loss that goes with it. All is seeded.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.rollout.evidence import (
    Arm,
    Evidence,
    LabelledLoss,
    PairedScores,
    TwoArms,
    Verdict,
)
from steadynet.rollout.judge import judge
from steadynet.rollout.state import Observation, Rollout, start, step
from steadynet.spec.model import RolloutSpec
from steadynet.statistics.moments import Moments, add

Floats = npt.NDArray[np.float64]
POOL_ROWS = 200_000
BINS = 20
LATENCY_SPREAD = 0.5
"""Deviation of the logarithm of a latency; latencies are log-normal."""
TAIL = 0.01
_START = 1_700_000_000.0


@dataclass(frozen=True)
class Pool:
    """Rows answered by both versions: scores, labels' losses, whether the labels differ."""

    champion_score: Floats
    challenger_score: Floats
    champion_loss: Floats
    challenger_loss: Floats
    disagrees: npt.NDArray[np.bool_]
    happened: npt.NDArray[np.bool_]
    champion_auc: float
    challenger_auc: float
    edges: tuple[tuple[float, ...], tuple[float, ...]]
    """Of champion's and challenger's output histograms."""


@dataclass(frozen=True)
class World:
    """What is true of champion and challenger."""

    pool: Pool
    faults: tuple[float, float] = (0.001, 0.001)
    """Share of faulty requests of champion and challenger."""
    slow: tuple[float, float] = (0.01, 0.01)
    """Share of requests slower than the SLO, of champion and challenger."""
    slower: float = 1.0
    """What every latency of the challenger is multiplied by, its 99th percentile as well."""
    labelled: float = 0.5
    """Share of rows whose label comes (at once)."""
    requests_per_s: int = 400
    held_out: int = 0
    """Labelled rows on which both were compared before the rollout."""


@dataclass(frozen=True)
class Ended:
    """How a simulated rollout ended."""

    phase: str
    seconds: int
    challenger_requests: int
    """Requests that the challenger answered, unseen ones included."""
    user_requests: int
    """Requests of users that the challenger was to answer."""
    failed_signals: tuple[str, ...] = ()


def make_pool(
    seed: int,
    *,
    champion_noise: float = 0.5,
    challenger_noise: float = 0.5,
    shift: float = 0.0,
    garbled: float = 0.0,
) -> Pool:
    """Make rows whose true log-odds are normal; each version sees them with its own noise.

    A version that sees log-odds with more noise ranks worse but stays calibrated, as its
    probability is the right one given what it sees. `shift` moves the challenger's log-odds;
    `garbled` is the share of rows on which a broken column makes it see another row's.
    """
    rng = np.random.default_rng(seed)
    truth = rng.normal(-0.5, 1.5, POOL_ROWS)
    happened = rng.random(POOL_ROWS) < _sigmoid(truth)
    scores = [_calibrated_score(rng, truth, noise) for noise in (champion_noise, challenger_noise)]
    if garbled:
        hit = rng.random(POOL_ROWS) < garbled
        scores[1] = np.where(hit, rng.permutation(scores[1]), scores[1])
    if shift:
        odds = np.log(scores[1] / (1 - scores[1])) + shift
        scores[1] = _sigmoid(odds)
    losses = [-np.log(np.where(happened, score, 1 - score)) for score in scores]
    return Pool(
        champion_score=scores[0],
        challenger_score=scores[1],
        champion_loss=losses[0],
        challenger_loss=losses[1],
        disagrees=(scores[0] > 0.5) != (scores[1] > 0.5),
        happened=happened,
        champion_auc=_auc(scores[0], happened),
        challenger_auc=_auc(scores[1], happened),
        edges=(_edges(scores[0]), _edges(scores[1])),
    )


def _edges(scores: Floats) -> tuple[float, ...]:
    return tuple(np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1]).tolist())


def tail_share(slower: float) -> float:
    """Return the share of requests beyond the champion's 99th percentile at `slower` latencies."""
    normal = NormalDist()
    return 1 - normal.cdf(normal.inv_cdf(1 - TAIL) - math.log(slower) / LATENCY_SPREAD)


def _sigmoid(value: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-value)), np.float64)


def _calibrated_score(rng: np.random.Generator, truth: Floats, noise: float) -> Floats:
    """Return P(y | what is seen), seen = truth + noise, by Mackay's probit approximation."""
    seen = truth + rng.normal(0, noise, len(truth))
    prior_mean, prior_variance = -0.5, 1.5**2
    weight = prior_variance / (prior_variance + noise**2)
    mean = prior_mean + weight * (seen - prior_mean)
    variance = prior_variance * (1 - weight)
    return _sigmoid(mean / np.sqrt(1 + np.pi * variance / 8))


def _auc(score: Floats, happened: npt.NDArray[np.bool_]) -> float:
    ranks = np.empty(len(score))
    ranks[np.argsort(score)] = np.arange(1, len(score) + 1)
    ones = int(happened.sum())
    zeros = len(score) - ones
    return float((ranks[happened].sum() - ones * (ones + 1) / 2) / (ones * zeros))


@dataclass
class _Seen:
    """Sums that grow second by second, as the controller's do."""

    challenger: Arm = field(default_factory=Arm)
    champion: Arm = field(default_factory=Arm)
    pairs: PairedScores = field(default_factory=PairedScores)
    labels: LabelledLoss = field(default_factory=LabelledLoss)
    bias: TwoArms = field(default_factory=TwoArms)

    def next_stage(self) -> None:
        self.challenger, self.champion, self.pairs = Arm(), Arm(), PairedScores()
        self.bias = TwoArms()
        stages = (*self.labels.stages, TwoArms())
        self.labels = msgspec.structs.replace(self.labels, stages=stages)


class Simulation:
    """One rollout in one world; `tick` is one second."""

    def __init__(self, plan: RolloutSpec, world: World, seed: int) -> None:
        self.plan, self.world = plan, world
        self.rng = np.random.default_rng(seed)
        self.seen = _Seen()
        if world.held_out:
            rows = self.rng.integers(0, POOL_ROWS, world.held_out)
            difference = world.pool.challenger_loss[rows] - world.pool.champion_loss[rows]
            self.seen.labels = LabelledLoss(holdout=moments(difference))
        self.seconds = 0
        self.challenger_requests = self.user_requests = 0
        self.verdict: Verdict | None = None
        state = start(rollout_id="r", model="m", champion="1", challenger="2", now=_START)
        loaded = Observation(now=_START, workers_expected=1, workers_ready=1)
        self.state: Rollout = step(state, plan, loaded).state
        if self.state.phase == "canary":
            self.seen.next_stage()

    def run(self, most_s: int) -> Ended:
        """Go on until the rollout is over, or for `most_s` seconds."""
        while not self.state.over and self.seconds < most_s:
            self.tick()
        failed = self.verdict.signals if self.verdict and self.state.phase == "aborted" else ()
        return Ended(
            phase=self.state.phase,
            seconds=self.seconds,
            challenger_requests=self.challenger_requests,
            user_requests=self.user_requests,
            failed_signals=tuple(s.name for s in failed if s.outcome == "fail"),
        )

    def tick(self) -> None:
        """Serve one second of traffic, judge, step."""
        self.seconds += 1
        self._serve()
        self.verdict = judge(self.plan, self.evidence())
        now = _START + self.seconds
        seen = Observation(now=now, verdict=self.verdict, workers_expected=1, workers_ready=1)
        before = self.state.stage
        self.state = step(self.state, self.plan, seen).state
        if self.state.stage != before:
            self.seen.next_stage()

    def evidence(self) -> Evidence:
        """Return what the judge is told now."""
        seen = self.seen
        return Evidence(
            stage=self.state.stage,
            share=self.state.share,
            challenger=seen.challenger,
            champion=seen.champion,
            pairs=seen.pairs,
            labels=seen.labels,
            bias=seen.bias,
            tail_s=1.0,
            loss_unit=float(self.world.pool.champion_loss[:1000].std()),
        )

    def _serve(self) -> None:
        total = int(self.rng.poisson(self.world.requests_per_s))
        rows = self.rng.integers(0, POOL_ROWS, total)
        treated = self.rng.random(total) < self.state.share
        mirrored = ~treated & (self.rng.random(total) < self.state.mirror)
        pool, seen = self.world.pool, self.seen
        seen.champion = self._grow(seen.champion, pool.champion_score[rows[~treated]], 0)
        answered = treated | mirrored
        seen.challenger = self._grow(seen.challenger, pool.challenger_score[rows[answered]], 1)
        self.challenger_requests += int(answered.sum())
        self.user_requests += int(treated.sum())
        if mirrored.any():
            seen.pairs = self._pair(seen.pairs, rows[mirrored])
        self._label(rows, treated, mirrored)

    def _grow(self, arm: Arm, scores: Floats, version: int) -> Arm:
        n = len(scores)
        faults = int(self.rng.binomial(n, self.world.faults[version]))
        edges = self.world.pool.edges[version]
        counts = np.bincount(np.searchsorted(edges, scores[faults:], side="right"), minlength=BINS)
        before = np.array(arm.output or (0,) * BINS)
        tail = TAIL if version == 0 else tail_share(self.world.slower)
        return Arm(
            requests=arm.requests + n,
            faults=arm.faults + faults,
            timed=arm.timed + n,
            slow=arm.slow + float(self.rng.binomial(n, self.world.slow[version])),
            tail=arm.tail + float(self.rng.binomial(n, tail)),
            score=add(arm.score, moments(scores[faults:])),
            output=tuple((before + counts).tolist()),
            edges=edges,
        )

    def _pair(self, pairs: PairedScores, rows: npt.NDArray[np.int64]) -> PairedScores:
        pool = self.world.pool
        difference = pool.challenger_score[rows] - pool.champion_score[rows]
        return PairedScores(
            rows=pairs.rows + len(rows),
            disagreements=pairs.disagreements + int(pool.disagrees[rows].sum()),
            difference=add(pairs.difference, moments(difference)),
        )

    def _label(
        self,
        rows: npt.NDArray[np.int64],
        treated: npt.NDArray[np.bool_],
        mirrored: npt.NDArray[np.bool_],
    ) -> None:
        if not self.world.labelled:
            return
        pool, seen = self.world.pool, self.seen
        known = self.rng.random(len(rows)) < self.world.labelled
        if self.state.phase == "shadow":
            both = rows[mirrored & known]
            difference = pool.challenger_loss[both] - pool.champion_loss[both]
            paired = add(seen.labels.paired, moments(difference))
            seen.labels = msgspec.structs.replace(seen.labels, paired=paired)
            new, old = both, rows[known]
        else:
            new, old = rows[treated & known], rows[~treated & known]
            *before, now = seen.labels.stages
            grown = _grow_arms(now, pool.challenger_loss[new], pool.champion_loss[old])
            seen.labels = msgspec.structs.replace(seen.labels, stages=(*before, grown))
        seen.bias = _grow_arms(
            seen.bias,
            pool.challenger_score[new] - pool.happened[new],
            pool.champion_score[old] - pool.happened[old],
        )


def _grow_arms(arms: TwoArms, challenger: Floats, champion: Floats) -> TwoArms:
    return TwoArms(
        challenger=add(arms.challenger, moments(challenger)),
        champion=add(arms.champion, moments(champion)),
    )


def moments(values: Floats) -> Moments:
    """Return count, sum and sum of squares."""
    return Moments(len(values), float(values.sum()), float(np.dot(values, values)))


def simulate_many(
    plan: RolloutSpec, world: World, *, rollouts: int, seed: int, most_s: int
) -> list[Ended]:
    """Run many rollouts of one world, each with its own seed."""
    return [
        Simulation(plan, world, seed * 1_000_003 + number).run(most_s) for number in range(rollouts)
    ]


def phases(ended: list[Ended]) -> Counter[str]:
    """Count how the rollouts ended."""
    return Counter(item.phase for item in ended)


def with_rates(
    world: World,
    *,
    faults: float | None = None,
    slow: float | None = None,
    slower: float = 1.0,
) -> World:
    """Return the world with other rates of the challenger."""
    return replace(
        world,
        faults=(world.faults[0], world.faults[1] if faults is None else faults),
        slow=(world.slow[0], world.slow[1] if slow is None else slow),
        slower=slower,
    )
