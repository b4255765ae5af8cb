"""Drift beside Evidently and NannyML: `python bench/drift_peers.py --data FOLDER`.

All three get the same windows. Quiet: a random half of the rows as reference, windows of the other
half. Moving: real changes (see `CHANGES`). Each peer is what its documentation shows first, with
its defaults, in a venv of its own (`.venv-evidently`, `.venv-nannyml`), made on the first call.
`any` is an alarm for one column or more, `whole` the peer's own verdict on all of them. Ours are a
window in which a feature differs, and a ticket: sustained over three windows, the season off.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from drift import Table, profile_of, read_table
from simulated_traffic import make_window

from steadynet.monitoring.drift import assess_drift
from steadynet.monitoring.reports import DriftState
from steadynet.spec.operating import MonitoringSpec

ROOT = Path(__file__).resolve().parents[1]
PEERS = {
    "evidently": ("evidently", "pandas<3"),
    "nannyml": ("nannyml", "statsmodels", "pandas<3"),
}
"""Peer → what is installed. Both import what pandas 3 no longer has, NannyML statsmodels too."""
QUIET = ("telco_churn", "bank_additional", "california_housing")
MOST_WINDOWS = 12
MOST_REFERENCE = 10_000


@dataclass(frozen=True)
class Case:
    """A reference and windows after it."""

    name: str
    reference: Table
    windows: list[Table]
    moves: bool


def rows_of(table: Table, index: np.ndarray) -> Table:
    """Return some rows."""
    return {name: values[index] for name, values in table.items()}


def cut_up(table: Table, index: np.ndarray, size: int) -> list[Table]:
    """Cut rows into whole windows of `size`."""
    starts = range(0, len(index) - size + 1, size)
    return [rows_of(table, index[start : start + size]) for start in list(starts)[:MOST_WINDOWS]]


def quiet_case(name: str, table: Table) -> Case:
    """Return windows of rows that are like the reference's."""
    order = np.random.default_rng(5).permutation(len(next(iter(table.values()))))
    cut = len(order) // 2
    size = min(1000, cut // 6)
    return Case(
        name, rows_of(table, order[:cut][:MOST_REFERENCE]), cut_up(table, order[cut:], size), False
    )


def moving_cases(data: Path) -> Iterator[Case]:
    """Yield the four real changes."""
    for name in ("elec2", "bank_additional"):
        table = read_table(data / name)
        total = len(next(iter(table.values())))
        cut = int(0.4 * total)
        reference = np.arange(max(0, cut - MOST_REFERENCE), cut)
        windows = cut_up(table, np.arange(cut, total), 1000)
        yield Case(f"{name}, in time order", rows_of(table, reference), windows, True)
    bikes = read_table(data / "bike_sharing_hour")
    year = np.asarray(bikes.pop("yr"), np.float64)
    first, second = np.flatnonzero(year == 0), np.flatnonzero(year == 1)
    order = np.random.default_rng(6).permutation(second)
    windows = cut_up(bikes, order, 1000)
    yield Case("bike_sharing 2011, 2012", rows_of(bikes, first), windows, True)
    wine = read_table(data / "wine_quality")
    white = np.asarray(wine.pop("color")) == "white"
    windows = cut_up(wine, np.flatnonzero(white), 400)
    yield Case("wine red, white", rows_of(wine, np.flatnonzero(~white)), windows, True)


def ours(case: Case) -> list[dict[str, bool]]:
    """Return per window whether a feature differs, and whether a ticket is open."""
    size = len(next(iter(case.windows[0].values())))
    plan = MonitoringSpec(drift_window_rows=size, drift_season_s=0)
    profile, state, told = profile_of(case.reference), DriftState(), []
    for table in case.windows:
        window = make_window(profile, table, np.linspace(0, 1, size, endpoint=False))
        report = assess_drift(profile, [window], plan, state)
        state = report.state
        differs = any(drift.kinds for drift in report.features)
        told.append({"any": differs, "whole": report.verdict == "drifted"})
    return told


def write_table(path: Path, table: Table) -> None:
    """Write a table as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        columns = [["" if v != v else v for v in values.tolist()] for values in table.values()]
        writer.writerows(zip(*columns, strict=True))


def peer(name: str, case: Case) -> list[dict[str, bool]] | str:
    """Return what a peer tells of each window, or why it tells nothing."""
    python = ROOT / f".venv-{name}" / "bin" / "python"
    if not python.exists():
        print(f"making .venv-{name}; this takes minutes", file=sys.stderr)
        made = subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=False)
        pip = [str(python), "-m", "pip", "install", "-q", *PEERS[name]]
        if made.returncode or subprocess.run(pip, check=False).returncode:
            return "cannot be installed here"
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / "reference.csv", case.reference)
        for number, window in enumerate(case.windows):
            write_table(Path(folder) / f"window-{number:03d}.csv", window)
        script = str(Path(__file__).with_name(f"peer_{name}.py"))
        done = subprocess.run(
            [str(python), script, folder], capture_output=True, text=True, check=False
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return f"failed: {done.stderr.strip().splitlines()[-1][:80] if done.stderr else ''}"
    return [json.loads(line) for line in lines]


def shown(case: Case, told: list[dict[str, bool]] | str) -> str:
    """Say how many windows alarm, or when the first one does."""
    if isinstance(told, str):
        return told
    words = []
    for key in ("any", "whole"):
        alarms = [line[key] for line in told]
        if case.moves:
            words.append(str(alarms.index(True) + 1) if any(alarms) else "never")
        else:
            words.append(f"{sum(alarms)} of {len(alarms)}")
    return " / ".join(words)


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    quiet = [quiet_case(name, read_table(options.data / name)) for name in QUIET]
    for title, cases in (
        ("Quiet: windows with an alarm, any column / whole", quiet),
        ("Moving: the window of the first alarm", list(moving_cases(options.data))),
    ):
        print(f"\n{title}")
        print(f"  {'':<30}{'windows':>9}{'steadynet':>18}{'Evidently':>18}{'NannyML':>18}")
        for case in cases:
            size = len(next(iter(case.windows[0].values())))
            cells = [shown(case, ours(case)), *(shown(case, peer(name, case)) for name in PEERS)]
            print(
                f"  {case.name:<30}{f'{len(case.windows)}x{size}':>9}"
                + "".join(f"{cell:>18}" for cell in cells),
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
