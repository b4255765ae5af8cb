"""False alarms over model-months: `python bench/drift_months.py [--data FOLDER] [--months N]`.

A model-month is 120 windows of 2 000 rows (8 000 rows a day) of a table whose rows do not change:
the profile is of one half, each window's counts are drawn by the other half's shares. Tickets are
verdicts `drifted`; the season is off, which makes more of them. Pages are lost quality on labels
that are drawn by the answers' own probabilities, 500 a window, looked at with every 100.

Then seasonal traffic: an hour a window, a clock column, amounts that rise in the evening, other
customers at weekends; by the length of `drift_season_s`. Then what a verdict costs by rows.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from drift import QUIET_TABLES, Table, draw, profile_of, read_table, simulated_quality
from simulated_traffic import make_window

from steadynet.bundle.profile import Profile
from steadynet.control.season import Season
from steadynet.monitoring.drift import assess_drift
from steadynet.monitoring.reports import DriftState
from steadynet.monitoring.windows import FeatureCounts, Window
from steadynet.spec.operating import MonitoringSpec

WINDOWS = 120
ROWS = 2000
HOUR_S = 3600.0
CHANGE_AT = 200
QUIET = MonitoringSpec(drift_season_s=0)


def halves(table: Table, seed: int) -> tuple[Profile, Window]:
    """Return the profile of one random half and the other half as one window."""
    order = np.random.default_rng(seed).permutation(len(next(iter(table.values()))))
    cut = len(order) // 2
    one = {name: values[order[:cut]] for name, values in table.items()}
    other = {name: values[order[cut:]] for name, values in table.items()}
    profile = profile_of(one)
    return profile, make_window(profile, other, np.linspace(0, 1, len(order) - cut, endpoint=False))


def drawn(whole: Window, rng: np.random.Generator) -> Window:
    """Draw a window's counts by the shares of a larger one."""
    features = {}
    for name, held in whole.features.items():
        shares = np.array([*held.counts, held.missing], np.float64)
        counts = rng.multinomial(ROWS, shares / shares.sum()).tolist()
        features[name] = FeatureCounts(tuple(counts[:-1]), counts[-1], held.magnitude)
    output = np.array(whole.output, np.float64)
    counts = tuple(rng.multinomial(ROWS, output / output.sum()).tolist())
    return msgspec.structs.replace(whole, rows=ROWS, features=features, output=counts)


def month(profile: Profile, whole: Window, seed: int) -> tuple[int, int, bool]:
    """Return windows with a differing feature, drifted windows, and whether a ticket was opened."""
    rng, state, differing, drifted = np.random.default_rng(seed), DriftState(), 0, 0
    for _ in range(WINDOWS):
        report = assess_drift(profile, [drawn(whole, rng)], QUIET, state)
        state = report.state
        differing += any(drift.kinds for drift in report.features)
        drifted += report.verdict == "drifted"
    return differing, drifted, drifted > 0


def quiet_months(name: str, table: Table, months: int) -> bool:
    """Print a table's months; return whether they keep the budget of one ticket each."""
    tickets = differing = 0
    for number in range(months):
        if number % 25 == 0:  # other halves now and then, so that no one split decides
            profile, whole = halves(table, number)
        found = month(profile, whole, 1000 + number)
        differing += found[0]
        tickets += found[2]
    share = differing / (months * WINDOWS)
    print(
        f"  {name:<20}{months:>8}{len(profile.features):>10}{100 * share:>14.3f} %"
        f"{tickets:>10}{tickets / months:>18.4f}"
    )
    return tickets <= months


def hour_of(hour: int, rng: np.random.Generator, rows: int) -> Table:
    """Draw an hour's rows of a world with hours and weekdays."""
    evening = 1 + np.sin((hour % 24 - 12) / 24 * 2 * np.pi)
    weekend = (hour // 24) % 7 >= 5
    table = draw(rng, rows)
    amounts = np.asarray(table["number 0"], np.float64)
    shops = np.array(["business", "private"], dtype=object)
    return {
        "hour": np.full(rows, float(hour % 24)),
        "amount": amounts * evening,
        "customer": rng.choice(shops, rows, p=[0.2, 0.8] if weekend else [0.7, 0.3]),
        "number 1": table["number 1"],
    }


def seasonal_world() -> Profile:
    """Return the profile of four weeks."""
    rng = np.random.default_rng(7)
    hours = [hour_of(hour, rng, 60) for hour in range(4 * 168)]
    return profile_of({name: np.concatenate([part[name] for part in hours]) for name in hours[0]})


def seasonal_weeks(
    season_s: float, weeks: int, *, change_at: int | None = None
) -> tuple[int, int, int | None]:
    """Return hours with a differing feature, hours drifted, and hours from a change to a ticket."""
    profile, plan = seasonal_world(), MonitoringSpec(drift_season_s=season_s)
    rng, season, state = np.random.default_rng(8), Season("1", season_s), DriftState()
    differing, drifted, found = 0, 0, None
    for hour in range(weeks * 168):
        table = hour_of(hour, rng, ROWS)
        if change_at is not None and hour >= change_at:
            table["number 1"] = np.asarray(table["number 1"], np.float64) + 1
        score = np.linspace(0, 1, ROWS, endpoint=False)
        window = make_window(profile, table, score)
        window = msgspec.structs.replace(window, start=hour * HOUR_S, end=(hour + 1) * HOUR_S)
        season.add([window])
        report = assess_drift(profile, [window], plan, state, season.whole())
        state = report.state
        differing += any(drift.kinds for drift in report.features)
        drifted += report.verdict == "drifted"
        if change_at is not None and found is None and "number 1" in report.sustained:
            found = hour + 1 - change_at
    return differing, drifted, found


def costs() -> Iterator[tuple[float, float]]:
    """Yield the rows of a window and what a verdict on it takes, seconds."""
    rng = np.random.default_rng(9)
    table = draw(rng, 20_000)
    profile, score = profile_of(table), np.linspace(0, 1, 20_000, endpoint=False)
    base = make_window(profile, table, score)
    for times in (1, 50, 50_000):
        features = {
            name: FeatureCounts(
                tuple(times * count for count in held.counts), times * held.missing, held.magnitude
            )
            for name, held in base.features.items()
        }
        output = tuple(times * count for count in base.output)
        rows = times * base.rows
        window = msgspec.structs.replace(base, rows=rows, features=features, output=output)
        best = min(_timed(profile, window) for _ in range(30))
        yield rows, best


def _timed(profile: Profile, window: Window) -> float:
    began = time.perf_counter()
    assess_drift(profile, [window], QUIET)
    return time.perf_counter() - began


def main() -> int:
    """Print all three; exit code 1 where the budget is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=250, help="per table")
    parser.add_argument("--weeks", type=int, default=2)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    print(f"Quiet model-months: {WINDOWS} windows of {ROWS} rows each")
    print(
        f"  {'':<20}{'months':>8}{'features':>10}{'windows differ':>16}{'tickets':>10}"
        f"{'tickets a month':>18}"
    )
    tables = {"simulated": draw(np.random.default_rng(1), 20_000)}
    if options.data is not None:
        tables |= {name: read_table(options.data / name) for name in QUIET_TABLES}
    kept = [quiet_months(name, table, options.months) for name, table in tables.items()]
    windows = max(200, options.months * 4)
    falsely, _ = simulated_quality(windows)
    print(f"  pages for lost quality: {falsely * windows:.0f} in {windows} windows of 500 labels")
    print(f"\nSeasonal traffic, {options.weeks} weeks of hours of {ROWS} rows, nothing changes but")
    print(f"the clock; then one number moves by a deviation after {CHANGE_AT} hours")
    heads = ("drift_season_s", "hours differ", "hours drifted", "hours to a ticket")
    print("  {:<18}{:>14}{:>15}{:>19}".format(*heads))
    for season_s in (0.0, 86_400.0, 604_800.0):
        differing, drifted, _ = seasonal_weeks(season_s, options.weeks)
        found = seasonal_weeks(season_s, options.weeks, change_at=CHANGE_AT)[2]
        print(f"  {season_s:<18.0f}{differing:>14}{drifted:>15}{found!s:>19}")
    print("\nA drift verdict on 15 features, by the rows of its window")
    for rows, seconds in costs():
        print(f"  {rows:>14,} rows{1000 * seconds:>10.2f} ms")
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
