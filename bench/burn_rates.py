"""How often burn-rate alerts are wrong, and how soon they are right: simulated months.

`python bench/burn_rates.py` prints the tables of docs/reference/alerts.md. Each minute's failures
are drawn from a binomial distribution; the rules are the ones that the controller decides with.
Beside them stands the rule that most teams begin with: more than 1 % of the last five minutes'
requests failed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadynet.monitoring.reports import AlertKind
from steadynet.monitoring.slo import QUIET_S, RULES, fires

MONTH = 30 * 1440
"""Minutes."""
WARM = 3 * 1440
"""Minutes before the month begins, so that the longest window is full."""
BUDGET = 0.001
SIMPLE_SHARE, SIMPLE_MINUTES = 0.01, 5


@dataclass(frozen=True)
class Month:
    """One month's alerts."""

    pages: int
    """Times that a page begins."""
    tickets: int
    simple: int
    """Times that the simple rule begins to fire."""


def simulate(per_minute: float, share: float, seed: int) -> Month:
    """Return a month of steady traffic of which `share` fails."""
    rng = np.random.default_rng(seed)
    total = rng.poisson(per_minute, WARM + MONTH)
    bad = rng.binomial(total, share)
    paged = _firing("page", total, bad)[WARM:]
    ticket = _firing("ticket", total, bad)[WARM:] & ~paged
    simple = _simple(total, bad)[WARM:]
    return Month(
        _begins(paged, QUIET_S["page"]),
        _begins(ticket, QUIET_S["ticket"]),
        _begins(simple, QUIET_S["page"]),
    )


def detection(per_minute: float, share: float, seed: int) -> dict[AlertKind, int | None]:
    """Return the minutes from the moment when `share` begins to fail to page and ticket."""
    rng = np.random.default_rng(seed)
    total = rng.poisson(per_minute, 2 * WARM)
    failing = np.where(np.arange(2 * WARM) < WARM, BUDGET / 10, share)
    bad = rng.binomial(total, failing)
    found: dict[AlertKind, int | None] = {}
    for kind in ("page", "ticket"):
        fired = np.flatnonzero(_firing(kind, total, bad)[WARM:])
        found[kind] = int(fired[0]) + 1 if len(fired) else None
    return found


def _firing(kind: str, total: NDArray[np.int64], bad: NDArray[np.int64]) -> NDArray[np.bool_]:
    fired = np.zeros(len(total), bool)
    for rule in RULES:
        if rule.kind == kind:
            fired |= fires(
                rule,
                BUDGET,
                bad=_last(bad, rule.long_s),
                total=_last(total, rule.long_s),
                short_bad=_last(bad, rule.short_s),
                short_total=_last(total, rule.short_s),
            )
    return fired


def _simple(total: NDArray[np.int64], bad: NDArray[np.int64]) -> NDArray[np.bool_]:
    seconds = 60.0 * SIMPLE_MINUTES
    return np.asarray(_last(bad, seconds) > SIMPLE_SHARE * _last(total, seconds))


def _last(counts: NDArray[np.int64], length_s: float) -> NDArray[np.float64]:
    """Return, for each minute, the sum over the window that ends with it."""
    minutes = int(length_s // 60)
    sums = np.concatenate([np.zeros(1), np.cumsum(counts, dtype=np.float64)])
    starts = np.maximum(np.arange(1, len(sums)) - minutes, 0)
    return np.asarray(sums[1:] - sums[starts])


def _begins(fired: NDArray[np.bool_], quiet_s: float) -> int:
    """Count alerts: what comes back within the quiet time was never away."""
    moments = np.flatnonzero(fired)
    return int(len(moments) > 0) + int(np.count_nonzero(np.diff(moments) > quiet_s / 60))


def median(values: list[int | None]) -> str:
    """Return the median in words; "never" where most were not found."""
    times = sorted(float("inf") if value is None else value for value in values)
    middle = times[len(times) // 2]
    if middle == float("inf"):
        return "never in 3 d"
    return f"{middle:g} min" if middle < 120 else f"{middle / 60:.1f} h"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=200)
    months = parser.parse_args().months
    print(f"availability 99.9 %; {months} months per row")
    print("| requests | failing | pages a month | tickets a month | simple rule a month |")
    print("| --- | --- | --- | --- | --- |")
    for per_minute in (0.5, 6.0, 60.0, 6000.0):
        for share in (0.0005, 0.001, 0.002):
            found = [simulate(per_minute, share, seed) for seed in range(months)]
            pages, tickets, simple = (
                sum(getattr(month, name) for month in found) / months
                for name in ("pages", "tickets", "simple")
            )
            print(
                f"| {per_minute:g}/min | {share:.2%} | {pages:.3f} | {tickets:.2f} | {simple:.1f} |"
            )
    print()
    print("| requests | failing | page after | ticket after |")
    print("| --- | --- | --- | --- |")
    for per_minute in (6.0, 60.0, 6000.0):
        for share in (0.003, 0.01, 0.02, 0.1, 1.0):
            times = [detection(per_minute, share, seed) for seed in range(months)]
            page = median([one["page"] for one in times])
            ticket = median([one["ticket"] for one in times])
            print(f"| {per_minute:g}/min | {share:.1%} | {page} | {ticket} |")


if __name__ == "__main__":
    main()
