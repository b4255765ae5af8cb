"""How often the judge is wrong, and how soon it is right: `python bench/judge.py`.

Whole rollouts in simulated worlds, judged every second, at 10, 100 and 1 000 requests a second:

1. The share of equal challengers that were rolled back, which may be `alpha` at most; the same for
   challengers exactly on a tolerance.
2. For worse challengers: how many were caught, after how many seconds, and how many requests of
   users they answered until then.
3. The same canaries judged by fixed thresholds (Flagger's way) and by a Mann-Whitney test at 98 %
   that is repeated each minute (Kayenta's way): `bench/rival_rules.py`.

Exit code 1 where equal challengers fail more often than alpha. With `--keep FILE` what is measured
is kept there and not measured again, and `--most N` ends after so many scenarios: a long
measurement is made in pieces.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
from rival_rules import Answer, fixed_thresholds, repeated_rank_test
from simulated_rollouts import Ended, World, make_pool, simulate_many, with_rates

from steadynet.spec.model import RolloutSpec

_CHUNK = 25
RATES = (10, 100, 1000)
MOST_S = {10: 7200, 100: 2400, 1000: 900}
"""How long a simulated rollout may last at each rate."""
PLAN = RolloutSpec(on_timeout="hold")
"""The defaults, but for the time: at 10 requests a second a step of 5 % lasts longer than that."""
TAILED = RolloutSpec(on_timeout="hold", critical=("errors", "latency", "tail", "outputs"))
"""The tail of latencies is judged where a plan asks for it."""
SHARP = msgspec.structs.replace(TAILED, tail_tolerance=0.003)
"""For a 99th percentile that is longer by a tenth: .6 % more requests are beyond the old one."""


@dataclass(frozen=True)
class Scenario:
    """A world, the plan it is judged by, and how often."""

    name: str
    world: World
    plan: RolloutSpec
    rollouts: int
    most_s: int
    rivals: bool = False
    """Whether the other tools' rules see anything of it: errors or latency."""


@dataclass(frozen=True)
class Row:
    """What is printed of a scenario."""

    scenario: str
    requests_per_s: int
    rollouts: int
    failed_share: float
    promoted_share: float
    median_seconds: float
    median_user_requests: float
    by_signal: dict[str, int]
    thresholds_failed: float | None = None
    thresholds_minutes: float | None = None
    ranks_failed: float | None = None
    ranks_minutes: float | None = None


def quiet_scenarios(rollouts: int) -> Iterator[Scenario]:
    """Yield the worlds in which nothing is wrong beyond tolerance."""
    for rate in RATES:
        equal = World(make_pool(1), requests_per_s=rate)
        count = rollouts if rate > 10 else rollouts // 10
        yield Scenario("equal", equal, PLAN, count, MOST_S[rate], rivals=True)
    equal = World(make_pool(1), requests_per_s=400)
    still = RolloutSpec(on_timeout="hold", steps=(), min_step_s=1e9)
    few = rollouts // 20
    for name, world in (
        ("errors exactly at tolerance", with_rates(equal, faults=0.006)),
        ("slow exactly at tolerance", with_rates(equal, slow=0.06)),
        ("AUC worse, loss within tolerance", World(make_pool(1, challenger_noise=0.64))),
    ):
        yield Scenario(name, world, still, few, 300)


def loud_scenarios(rollouts: int) -> Iterator[Scenario]:
    """Yield the worlds in which the challenger is worse."""
    equal = make_pool(1)
    one, three = make_pool(1, challenger_noise=0.70), make_pool(1, challenger_noise=0.96)
    for rate in RATES:
        calm = World(equal, requests_per_s=rate)
        few = rollouts // 20 if rate > 10 else rollouts // 40
        most = MOST_S[rate]
        yield Scenario("all requests fail", with_rates(calm, faults=1.0), PLAN, few, most, True)
        yield Scenario("+1 % errors", with_rates(calm, faults=0.011), PLAN, few, most, True)
        yield Scenario("p99 +10 %", with_rates(calm, slower=1.1), TAILED, few, most, True)
        yield Scenario("p99 +10 %, sharp plan", with_rates(calm, slower=1.1), SHARP, few, most)
        yield Scenario("p99 +50 %", with_rates(calm, slower=1.5), TAILED, few, most, True)
        yield Scenario("scores shifted", _world(make_pool(1, shift=0.5), rate), PLAN, few, most)
        broken = make_pool(1, garbled=0.5)
        yield Scenario("a broken column", _world(broken, rate), PLAN, few, most)
        for pool in (one, three):
            lost = 100 * (pool.champion_auc - pool.challenger_auc)
            name = f"AUC worse by {lost:.1f} points"
            yield Scenario(name, _world(pool, rate), PLAN, few, most)


def _world(pool: object, rate: int) -> World:
    return replace(World(make_pool(1)), pool=pool, requests_per_s=rate)  # type: ignore[arg-type]


def measure(scenario: Scenario, pool: ProcessPoolExecutor) -> Row:
    """Run a scenario's rollouts in chunks, each with its own seed."""
    sizes = [min(_CHUNK, scenario.rollouts - done) for done in range(0, scenario.rollouts, _CHUNK)]
    futures = [
        pool.submit(
            simulate_many,
            scenario.plan,
            scenario.world,
            rollouts=size,
            seed=seed,
            most_s=scenario.most_s,
        )
        for seed, size in enumerate(sizes, start=1)
    ]
    ended = [item for future in futures for item in future.result()]
    row = summarise(scenario, ended)
    if not scenario.rivals:
        return row
    count = min(400, scenario.rollouts)
    thresholds = [fixed_thresholds(scenario.world, seed) for seed in range(count)]
    ranks = [repeated_rank_test(scenario.world, seed) for seed in range(count)]
    return replace(
        row,
        thresholds_failed=_share(thresholds),
        thresholds_minutes=_minutes(thresholds),
        ranks_failed=_share(ranks),
        ranks_minutes=_minutes(ranks),
    )


def _share(answers: list[Answer]) -> float:
    return sum(answer.failed for answer in answers) / len(answers)


def _minutes(answers: list[Answer]) -> float:
    failed = [answer.minutes for answer in answers if answer.failed]
    return statistics.median(failed) if failed else float("nan")


def summarise(scenario: Scenario, ended: list[Ended]) -> Row:
    """Add up how rollouts ended; medians are over those that were rolled back, or over all."""
    failed = [item for item in ended if item.failed_signals]
    shown = failed or ended
    signals = [signal for item in failed for signal in item.failed_signals]
    return Row(
        scenario=scenario.name,
        requests_per_s=scenario.world.requests_per_s,
        rollouts=len(ended),
        failed_share=len(failed) / len(ended),
        promoted_share=sum(item.phase == "promoted" for item in ended) / len(ended),
        median_seconds=statistics.median(item.seconds for item in shown),
        median_user_requests=statistics.median(item.user_requests for item in shown),
        by_signal={signal: signals.count(signal) for signal in sorted(set(signals))},
    )


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rollouts", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, help="a file of rows that are measured already")
    parser.add_argument("--most", type=int, help="scenarios to measure now")
    options = parser.parse_args()
    kept = Kept(options.keep)
    began = time.monotonic()
    with ProcessPoolExecutor(options.processes) as pool:
        scenarios = [*quiet_scenarios(options.rollouts), *loud_scenarios(options.rollouts)]
        missing = [item for item in scenarios if kept.row(item) is None]
        for scenario in missing[: options.most]:
            kept.add(_told(measure(scenario, pool)))
    if options.most is not None and len(missing) > options.most:
        print(f"{len(missing) - options.most} scenarios are left", file=sys.stderr)
        return 0
    quiet, loud = [
        [row for item in part for row in [kept.row(item)] if row is not None]
        for part in (quiet_scenarios(options.rollouts), loud_scenarios(options.rollouts))
    ]
    if options.json:
        parts = {"quiet": [asdict(row) for row in quiet], "loud": [asdict(row) for row in loud]}
        print(json.dumps(parts))
    else:
        print("Nothing wrong beyond tolerance: at most 5 % may fail\n")
        _print_table(quiet)
        print("\nWorse: should fail; medians until rolled back\n")
        _print_table(loud)
        took = time.monotonic() - began
        spent = "" if options.keep is not None else f"; {took:.0f} s"
        print(f"\nHalf of the rows labelled at once, asked every second, seeded{spent}")
    return int(any(row.failed_share > PLAN.alpha for row in quiet if row.rollouts >= 500))


class Kept:
    """Rows that are measured, in memory and, where it is named, in a file of JSON lines."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: list[Row] = []
        if path is not None and path.exists():
            self._rows = [Row(**json.loads(line)) for line in path.read_text().splitlines()]

    def row(self, scenario: Scenario) -> Row | None:
        """Return the scenario's row, of as many rollouts, where it was measured."""
        wanted = (scenario.name, scenario.world.requests_per_s, scenario.rollouts)
        return next(
            (
                row
                for row in self._rows
                if (row.scenario, row.requests_per_s, row.rollouts) == wanted
            ),
            None,
        )

    def add(self, row: Row) -> None:
        """Keep a row."""
        self._rows.append(row)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(asdict(row)) + "\n")


def _told(row: Row) -> Row:
    print(f"{row.scenario} at {row.requests_per_s}/s", file=sys.stderr, flush=True)
    return row


def _print_table(rows: list[Row]) -> None:
    print("| challenger | requests/s | rollouts | failed | promoted | after | of users | by |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        by = ", ".join(f"{signal} {count}" for signal, count in row.by_signal.items())
        print(
            f"| {row.scenario} | {row.requests_per_s} | {row.rollouts} | {row.failed_share:.1%} "
            f"| {row.promoted_share:.1%} | {row.median_seconds:.0f} s "
            f"| {row.median_user_requests:.0f} | {by} |"
        )
    compared = [row for row in rows if row.ranks_failed is not None]
    print("\n| the same, failed by | requests/s | the judge | fixed thresholds | repeated ranks |")
    print("|---|---|---|---|---|")
    for row in compared:
        print(
            f"| {row.scenario} | {row.requests_per_s} "
            f"| {row.failed_share:.1%}, {row.median_seconds / 60:.1f} min "
            f"| {row.thresholds_failed:.1%}, {row.thresholds_minutes:.0f} min "
            f"| {row.ranks_failed:.1%}, {row.ranks_minutes:.0f} min |"
        )


if __name__ == "__main__":
    sys.exit(main())
