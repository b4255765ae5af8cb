"""How often the judge is wrong, and how soon it is right: `python bench/judge.py`.

Prints the share of equal challengers that were rolled back (asked every second, over whole
rollouts), the same for challengers that stand exactly on a tolerance, the same for a z-test
repeated every second on the same traffic, and for worse challengers how many are caught, after
how many requests, and how many of these were users' own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
from simulated_rollouts import Ended, Pool, World, make_pool, simulate_many, with_rates

from steadynet.spec.model import RolloutSpec

_CHUNK = 50


@dataclass(frozen=True)
class Scenario:
    """A world, the plan it is judged by, and what should happen."""

    name: str
    world: World
    plan: RolloutSpec
    rollouts: int
    most_s: int = 3000


@dataclass(frozen=True)
class Row:
    """What is printed of a scenario."""

    scenario: str
    rollouts: int
    failed_share: float
    promoted_share: float
    median_seconds: float
    median_requests: float
    median_user_requests: float
    by_signal: dict[str, int]


def scenarios(rollouts: int) -> tuple[list[Scenario], list[Scenario]]:
    """Return the worlds in which nothing is wrong beyond tolerance, and those in which it is."""
    plan = RolloutSpec()
    long = RolloutSpec(min_step_s=60.0, on_timeout="hold")
    equal = World(make_pool(1))
    worse, few = rollouts // 10, rollouts // 20
    quiet = [
        Scenario("equal", equal, plan, rollouts),
        Scenario("equal, every stage at least 60 s", equal, long, worse),
        Scenario(
            "errors exactly at tolerance",
            with_rates(equal, faults=0.006),
            long,
            few,
            300,
        ),
        Scenario("slow exactly at tolerance", with_rates(equal, slow=0.06), long, few, 300),
        Scenario(
            "AUC worse by 0.8 points (loss within tolerance)",
            World(make_pool(1, challenger_noise=0.64)),
            plan,
            few,
        ),
    ]
    pools: list[tuple[str, Pool]] = []
    for noise in (0.77, 0.99):
        pool = make_pool(1, challenger_noise=noise)
        lost = 100 * (pool.champion_auc - pool.challenger_auc)
        pools.append((f"AUC worse by {lost:.1f} points", pool))
    loud = [
        Scenario("all requests fail", with_rates(equal, faults=1.0), plan, worse),
        Scenario("faults on 3 % of rows (NaN)", with_rates(equal, faults=0.031), plan, worse),
        Scenario("+1 % errors", with_rates(equal, faults=0.011), plan, worse),
        Scenario("+10 % slow requests", with_rates(equal, slow=0.11), plan, worse),
        Scenario("+50 % slow requests", with_rates(equal, slow=0.51), plan, worse),
        Scenario("scores shifted by 0.5 log-odds", World(make_pool(1, shift=0.5)), plan, worse),
        *(Scenario(name, World(pool), plan, worse) for name, pool in pools),
    ]
    return quiet, loud


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
    return summarise(scenario.name, [ended for future in futures for ended in future.result()])


def summarise(name: str, ended: list[Ended]) -> Row:
    """Add up how rollouts ended; medians are over those that were rolled back, or over all."""
    failed = [item for item in ended if item.failed_signals]
    shown = failed or ended
    signals = [signal for item in failed for signal in item.failed_signals]
    return Row(
        scenario=name,
        rollouts=len(ended),
        failed_share=len(failed) / len(ended),
        promoted_share=sum(item.phase == "promoted" for item in ended) / len(ended),
        median_seconds=statistics.median(item.seconds for item in shown),
        median_requests=statistics.median(item.challenger_requests for item in shown),
        median_user_requests=statistics.median(item.user_requests for item in shown),
        by_signal={signal: signals.count(signal) for signal in sorted(set(signals))},
    )


def repeated_z_test(rollouts: int, *, looks: int, per_look: int, rate: float) -> float:
    """Return the share of equal challengers that a z-test at 5 %, asked each second, fails.

    It looks at errors alone, over one stage; this is what peeking does to a fixed-sample test.
    """
    rng = np.random.default_rng(7)
    arms = rng.binomial(per_look, rate, (2, rollouts, looks)).cumsum(axis=2)
    n = per_look * np.arange(1, looks + 1)
    difference = (arms[1] - arms[0]) / n
    pooled = (arms[1] + arms[0]) / (2 * n)
    error = np.sqrt(2 * pooled * (1 - pooled) / n)
    return float(((difference > 1.645 * error) & (error > 0)).any(axis=1).mean())


def main() -> int:
    """Print the table; exit code 1 where equal challengers fail more often than alpha."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    quiet, loud = scenarios(options.rollouts)
    with ProcessPoolExecutor(options.processes) as pool:
        quiet_rows = [measure(scenario, pool) for scenario in quiet]
        loud_rows = [measure(scenario, pool) for scenario in loud]
    naive = repeated_z_test(options.rollouts, looks=60, per_look=400, rate=0.01)
    if options.json:
        rows = [asdict(row) for row in (*quiet_rows, *loud_rows)]
        print(json.dumps({"rows": rows, "repeated_z_test_failed_share": naive}))
    else:
        _print_table("No worse than tolerance: should not fail (alpha 5 %)", quiet_rows)
        print(
            f"  (a z-test at 5 % repeated each second for a minute fails {naive:.1%} of equals)\n"
        )
        _print_table("Worse: should fail; medians until rolled back", loud_rows)
        took = time.monotonic() - began
        print(f"400 requests/s, half of them labelled at once, seeded; {took:.0f} s")
    return int(quiet_rows[0].failed_share > RolloutSpec().alpha)


def _print_table(title: str, rows: list[Row]) -> None:
    print(title)
    heads = "rollouts   failed  promoted  seconds  requests  of users  by"
    print(f"  {'':<52}{heads}")
    for row in rows:
        by = ", ".join(f"{signal} {count}" for signal, count in row.by_signal.items())
        print(
            f"  {row.scenario:<52}{row.rollouts:>8}{row.failed_share:>9.2%}"
            f"{row.promoted_share:>10.1%}{row.median_seconds:>9.0f}{row.median_requests:>10.0f}"
            f"{row.median_user_requests:>10.0f}  {by}"
        )
    print()


if __name__ == "__main__":
    sys.exit(main())
