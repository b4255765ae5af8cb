"""False alarms and delays of drift and quality: `python bench/drift.py [--data FOLDER]`.

Without `--data` on simulated traffic alone. With a folder of tables (one folder each, with
`meta.json`), also on these: no drift (windows drawn from the rows that the profile did not see)
and the drift that is in them (rows in their order after the profile's).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from simulated_traffic import Column, make_profile, make_window

from steadynet.bundle.profile import Profile
from steadynet.monitoring.drift import assess_drift
from steadynet.monitoring.quality import LONGEST_WINDOW, LabelledRows, assess_quality
from steadynet.monitoring.reports import DriftState
from steadynet.spec.model import MonitoringSpec

Table = dict[str, Column]
PLAN = MonitoringSpec(drift_season_s=0)
TRAINING_ROWS = 10_000
QUIET_TABLES = ("telco_churn", "bank_additional", "diabetes_130", "california_housing")
MOVING_TABLES = ("bank_additional", "bike_sharing_hour", "elec2", "wine_quality")


@dataclass(frozen=True)
class Quiet:
    """What watching said where nothing changed."""

    stream: str
    windows: int
    features: int
    feature_alarms: int
    """Features said to differ, over all windows."""
    windows_with_alarm: int
    sustained: int
    """Windows whose verdict was `drifted`: what would retrain and send a ticket."""


@dataclass(frozen=True)
class Caught:
    """When watching saw a change."""

    change: str
    first_rows: int | None
    """Rows from the change to the first window that differs; None: never."""
    sustained_rows: int | None
    named: str


def draw(rng: np.random.Generator, rows: int) -> Table:
    """Draw rows of an unchanging world: ten numbers, some missing, and five categories."""
    table: Table = {}
    for i in range(10):
        values = rng.normal(0, 1, rows) if i % 2 else rng.lognormal(0, 1, rows)
        values[rng.random(rows) < 0.02 * i] = np.nan
        table[f"number {i}"] = values
    for i, count in enumerate((2, 5, 20, 80, 300)):
        shares = 1 / np.arange(1, count + 1)
        names = np.array([f"c{j}" for j in range(count)], dtype=object)
        table[f"category {i}"] = rng.choice(names, rows, p=shares / shares.sum())
    return table


def watch(
    profile: Profile, windows: Iterator[Table], name: str, size: int = PLAN.drift_window_rows
) -> tuple[Quiet, int | None, int | None, str]:
    """Assess windows of `size` rows; returns counts, and the rows until drift was seen."""
    plan = MonitoringSpec(drift_window_rows=size, drift_season_s=0)
    state, judged, alarms, with_alarm, sustained = DriftState(), 0, 0, 0, 0
    rows, first, lasting, named = 0, None, None, ""
    for table in windows:
        rows += size
        score = np.linspace(0, 1, size, endpoint=False)
        window = make_window(profile, table, score, start=float(judged))
        report = assess_drift(profile, [window], plan, state)
        state, judged = report.state, judged + 1
        differing = [drift for drift in report.features if drift.kinds]
        alarms += len(differing)
        with_alarm += bool(differing)
        sustained += report.verdict == "drifted"
        if differing and first is None:
            first = rows
        if report.verdict == "drifted" and lasting is None:
            lasting = rows
            kinds = {drift.name: drift.kinds for drift in report.features}
            named = ", ".join(f"{n} ({'+'.join(kinds[n])})" for n in report.sustained[:4])
    quiet = Quiet(name, judged, len(profile.features), alarms, with_alarm, sustained)
    return quiet, first, lasting, named


def profile_of(table: Table) -> Profile:
    """Return the profile of a table, with an even score."""
    size = len(next(iter(table.values())))
    return make_profile(table, np.linspace(0, 1, size, endpoint=False))


def simulated_quiet(windows: int) -> Quiet:
    """Watch an unchanging world."""
    rng = np.random.default_rng(1)
    profile = profile_of(draw(rng, TRAINING_ROWS))
    stream = (draw(rng, PLAN.drift_window_rows) for _ in range(windows))
    return watch(profile, stream, "simulated")[0]


def _shift(deviations: float) -> Callable[[Table, np.random.Generator], None]:
    def change(table: Table, rng: np.random.Generator) -> None:
        table["number 1"] = np.asarray(table["number 1"], np.float64) + deviations

    return change


def _miss(share: float) -> Callable[[Table, np.random.Generator], None]:
    def change(table: Table, rng: np.random.Generator) -> None:
        table["number 1"][rng.random(len(table["number 1"])) < share] = np.nan

    return change


def _unseen(share: float) -> Callable[[Table, np.random.Generator], None]:
    def change(table: Table, rng: np.random.Generator) -> None:
        table["category 2"][rng.random(len(table["category 2"])) < share] = "new"

    return change


def _scale(table: Table, rng: np.random.Generator) -> None:
    table["number 0"] = np.asarray(table["number 0"], np.float64) * 100


def simulated_changes() -> list[Caught]:
    """Watch a world that changes at once, in several ways."""
    changes = {
        "mean of a number moves by 0.25 deviations": _shift(0.25),
        "mean of a number moves by 0.5 deviations": _shift(0.5),
        "mean of a number moves by 1 deviation": _shift(1.0),
        "missing values of a number: +4 points": _miss(0.04),
        "missing values of a number: +8 points": _miss(0.08),
        "a new category on 8 % of rows": _unseen(0.08),
        "a number in another unit (x100)": _scale,
    }
    rng = np.random.default_rng(2)
    profile = profile_of(draw(rng, TRAINING_ROWS))
    caught = []
    for name, change in changes.items():
        tables = []
        for _ in range(8):
            table = draw(rng, PLAN.drift_window_rows)
            change(table, rng)
            tables.append(table)
        _, first, lasting, named = watch(profile, iter(tables), name)
        caught.append(Caught(name, first, lasting, named))
    return caught


def simulated_quality(windows: int) -> tuple[float, float]:
    """Return the share of windows falsely lost, and of those lost with 10 % of labels turned."""
    rng = np.random.default_rng(3)
    shares = []
    for turned in (0.0, 0.1):
        lost = 0
        for _ in range(windows):
            longest = LONGEST_WINDOW * PLAN.quality_window_rows
            rows = _answers(rng, longest, turned)
            lost += any(
                assess_quality(_quality_profile(), _first(rows, n), PLAN).verdict == "lost"
                for n in range(100, longest + 1, 100)
            )
        shares.append(lost / windows)
    return shares[0], shares[1]


def _answers(rng: np.random.Generator, rows: int, turned: float) -> LabelledRows:
    odds = rng.normal(-1.0, 1.5, rows)
    positive = 1 / (1 + np.exp(-odds))
    target = (rng.random(rows) < positive) ^ (rng.random(rows) < turned)
    answers = np.stack([1 - positive, positive], axis=1)
    return LabelledRows(
        target=target.astype(np.int64), answers=answers, at=np.zeros(rows), classes=("no", "yes")
    )


def _first(rows: LabelledRows, count: int) -> LabelledRows:
    return LabelledRows(
        target=rows.target[:count],
        answers=rows.answers[:count],
        at=rows.at[:count],
        classes=rows.classes,
    )


def _quality_profile() -> Profile:
    """Return the profile with the true mean and deviation of the loss of `_answers`."""
    score = np.linspace(0, 1, 20_000)
    # Entropy of the labels given the odds, by quadrature over the same normal odds.
    odds = np.random.default_rng(4).normal(-1.0, 1.5, 100_000)
    p = 1 / (1 + np.exp(-odds))
    mean = float(np.mean(-p * np.log(p) - (1 - p) * np.log(1 - p)))
    square = float(np.mean(p * np.log(p) ** 2 + (1 - p) * np.log(1 - p) ** 2))
    return make_profile({}, score, loss_mean=mean, loss_deviation=float(np.sqrt(square - mean**2)))


def read_table(folder: Path) -> Table:
    """Read one of the data sets: texts as categories, numbers as numbers, no identifiers."""
    import polars as pl

    meta = json.loads((folder / "meta.json").read_text())
    path = folder / meta["file"]
    frame = (
        pl.read_parquet(path)
        if path.suffix == ".parquet"
        else pl.read_csv(path, infer_schema_length=None)
    )
    left_out = {*meta.get("non_feature_columns", ()), "customerID", "dteday", "instant", "date"}
    table: Table = {}
    for column in frame.iter_columns():
        if column.name in left_out:
            continue
        numbers = column.cast(pl.Float64, strict=False)
        if column.dtype.is_numeric() or numbers.null_count() < len(numbers) // 20:
            table[column.name] = numbers.fill_null(float("nan")).to_numpy().copy()
        else:
            texts = column.cast(pl.String).fill_null("").to_list()
            table[column.name] = np.array(texts, dtype=object)
    return table


def _rows(table: Table, index: np.ndarray) -> Table:
    return {name: values[index] for name, values in table.items()}


def real_quiet(name: str, table: Table, windows: int) -> Quiet:
    """Profile one random half, watch windows drawn from the other."""
    rng = np.random.default_rng(5)
    order = rng.permutation(len(next(iter(table.values()))))
    half = len(order) // 2
    profile = profile_of(_rows(table, order[:half]))
    size = min(PLAN.drift_window_rows, half)
    stream = (
        _rows(table, rng.choice(order[half:], size, replace=size > half)) for _ in range(windows)
    )
    return watch(profile, stream, name, size)[0]


def real_change(name: str, table: Table) -> Caught:
    """Profile the first 40 % of the rows, then watch the rest in their order."""
    total = len(next(iter(table.values())))
    cut, size = int(total * 0.4), PLAN.drift_window_rows
    if name == "wine_quality":
        cut = int((table["color"] == "white").argmax())
        table = {key: values for key, values in table.items() if key != "color"}
        size = min(size, (total - cut) // 4)
    profile = profile_of(_rows(table, np.arange(cut)))
    windows = (
        _rows(table, np.arange(start, start + size)) for start in range(cut, total - size, size)
    )
    _, first, lasting, named = watch(profile, windows, name, size)
    return Caught(f"{name}, rows after the first {cut}", first, lasting, named)


def main() -> int:
    """Print both tables; exit code 1 where an unchanging simulated world is said to drift."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    quiet, caught = [simulated_quiet(options.windows)], simulated_changes()
    if options.data is not None:
        for name in QUIET_TABLES:
            quiet.append(real_quiet(name, read_table(options.data / name), options.windows // 5))
        caught += [real_change(name, read_table(options.data / name)) for name in MOVING_TABLES]
    falsely, rightly = simulated_quality(options.windows // 5)
    if options.json:
        found = {"quiet": [asdict(q) for q in quiet], "caught": [asdict(c) for c in caught]}
        print(json.dumps({**found, "quality_falsely_lost": falsely, "quality_lost": rightly}))
    else:
        _print(quiet, caught)
        print(f"Quality: falsely lost in {falsely:.1%} of windows of {PLAN.quality_window_rows}")
        print(f"labels; lost in {rightly:.1%} of those with 10 % of labels turned around")
    return int(quiet[0].sustained > 0)


def _print(quiet: list[Quiet], caught: list[Caught]) -> None:
    print(f"No drift, windows of {PLAN.drift_window_rows} rows (all counts should be near 0)")
    print(
        f"  {'':<24}{'windows':>8}{'features':>9}{'features said':>15}{'windows':>9}{'drifted':>9}"
    )
    for row in quiet:
        print(
            f"  {row.stream:<24}{row.windows:>8}{row.features:>9}{row.feature_alarms:>15}"
            f"{row.windows_with_alarm:>9}{row.sustained:>9}"
        )
    print("\nDrift: rows until a window differed, and until it was sustained")
    for item in caught:
        print(f"  {item.change:<48}{item.first_rows!s:>7}{item.sustained_rows!s:>7}  {item.named}")
    print()


if __name__ == "__main__":
    sys.exit(main())
