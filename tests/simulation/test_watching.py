"""Long quiet weeks without an alarm, and changes that are seen: the code of `bench/drift.py`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from drift import (
    read_table,
    real_change,
    real_quiet,
    simulated_changes,
    simulated_quality,
    simulated_quiet,
)

from steadynet.spec.model import MonitoringSpec


@pytest.fixture(scope="module")
def data() -> Path:
    """The folder of real tables."""
    named = os.environ.get("STEADYNET_TEST_DATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real tables at {folder}; set STEADYNET_TEST_DATA")
    return folder


def test_an_unchanging_world_does_not_drift() -> None:
    quiet = simulated_quiet(60)
    assert quiet.windows == 60
    assert quiet.sustained == 0
    assert quiet.windows_with_alarm <= 1


@pytest.mark.parametrize("name", ["telco_churn", "bank_additional", "california_housing"])
def test_rows_of_the_same_table_do_not_drift(data: Path, name: str) -> None:
    quiet = real_quiet(name, read_table(data / name), 20)
    assert (quiet.windows, quiet.sustained) == (20, 0)
    assert quiet.windows_with_alarm <= 1


def test_changes_that_matter_are_sustained_after_the_planned_windows() -> None:
    plan = MonitoringSpec()
    seen = {item.change: item for item in simulated_changes()}
    missed = {name for name, item in seen.items() if item.sustained_rows is None}
    assert missed == {
        "mean of a number moves by 0.25 deviations",
        "missing values of a number: +4 points",
    }
    for name in seen.keys() - missed:
        assert seen[name].sustained_rows == plan.drift_windows * plan.drift_window_rows
    assert seen["a number in another unit (x100)"].named == "number 0 (unit)"


@pytest.mark.parametrize(
    ("name", "feature"), [("elec2", "nswprice"), ("wine_quality", "chlorides")]
)
def test_drift_in_real_tables_is_seen(data: Path, name: str, feature: str) -> None:
    caught = real_change(name, read_table(data / name))
    assert caught.sustained_rows is not None
    assert feature in caught.named


def test_quality_is_not_lost_by_chance_and_is_by_wrong_labels() -> None:
    falsely, rightly = simulated_quality(60)
    assert falsely <= 1 / 60
    assert rightly > 0.2
