"""Dates and times in the graph against Python's calendar."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.features.fit import fit_features
from steadynet.features.moments import PARTS
from steadynet.features.run import run_features
from steadynet.table.schema import MISSING_DATETIME, Column, Schema, Target
from steadynet.table.values import FIRST_SECOND, LAST_SECOND, datetime_seconds

MakeFeatures = Callable[..., Any]
MOMENTS = [
    datetime_seconds(f"{year}-{month:02d}-{day:02d}T{hour:02d}:15:00")
    for year in (1999, 2004, 2023)
    for month in range(1, 13)
    for day in (1, 9, 28)
    for hour in (0, 11)
]
SCHEMA = Schema(
    columns=(Column(name="at", kind="datetime", reason=""),),
    target=Target(name="y", task="regression", reason=""),
)
GRAPH = fit_features({"at": np.array(MOMENTS, dtype=np.int64).reshape(-1, 1)}, SCHEMA)


def circle(share: float) -> tuple[float, float]:
    """Return the place on a circle."""
    return math.sin(2 * math.pi * share), math.cos(2 * math.pi * share)


def calendar(moment: datetime.datetime) -> list[float]:
    """Return the parts of a date and time, by Python's calendar; the last one left out."""
    minute = moment.hour * 60 + moment.minute
    return [
        *circle((moment.month - 1) / 12),
        (moment.day - 16) / 15,
        *circle((moment.timetuple().tm_yday - 1) / 366),
        *circle(((moment.weekday() - 3) % 7) / 7),
        *circle(minute / 1440),
    ]


def parts_of(seconds: list[int]) -> np.ndarray[Any, Any]:
    """Return the graph's parts of moments."""
    cells = np.array(seconds, dtype=np.int64).reshape(-1, 1)
    return run_features(GRAPH, {"at": cells}).numbers


def test_all_parts_are_there() -> None:
    assert GRAPH.layout.numbers == tuple(f"at {part}" for part in PARTS)
    assert set(GRAPH.layout.number_sources) == {"at"}


@settings(deadline=None)
@given(
    st.lists(
        st.datetimes(datetime.datetime(1901, 1, 1), datetime.datetime(2099, 12, 31, 23, 59)),
        min_size=1,
        max_size=30,
    )
)
def test_parts_are_those_of_the_calendar(moments: list[datetime.datetime]) -> None:
    parts = parts_of([datetime_seconds(moment) for moment in moments])
    np.testing.assert_allclose(parts[:, :-1], [calendar(m) for m in moments], atol=1e-6)


@given(st.lists(st.integers(FIRST_SECOND, LAST_SECOND), min_size=1, max_size=30))
def test_any_moment_has_finite_parts_within_bounds(seconds: list[int]) -> None:
    parts = parts_of(seconds)
    assert np.isfinite(parts).all()
    assert np.abs(parts).max() <= 3.0001


@pytest.mark.parametrize("second", [-(2**63) + 1, 2**63 - 1, FIRST_SECOND - 1, LAST_SECOND + 1])
def test_moments_beyond_the_calendar_stay_finite(second: int) -> None:
    assert np.isfinite(parts_of([second])).all()


def test_later_is_more() -> None:
    elapsed = parts_of([*range(0, 2_000_000_000, 50_000_000)])[:, -1]
    assert (np.diff(elapsed) > 0).all()


def test_dates_without_times_have_no_hour(make_features: MakeFeatures) -> None:
    days = [datetime_seconds(f"2024-{month:02d}-0{month % 9 + 1}") for month in range(1, 13)]
    features = make_features({"day": "datetime"}, day=days)
    assert features.layout.numbers == tuple(
        f"day {part}" for part in PARTS if not part.startswith("hour")
    )


def test_one_moment_alone_leaves_no_parts(make_features: MakeFeatures) -> None:
    features = make_features({"at": "datetime", "x": "number"}, at=[5, 5], x=[1.0, 2.0])
    assert features.layout.numbers == ("x",)
    assert features.run(at=[7], x=[1.0]).numbers.shape == (1, 1)


def test_missing_moments_are_typical_ones_and_marked(make_features: MakeFeatures) -> None:
    gaps = [*MOMENTS, MISSING_DATETIME]
    features = make_features({"at": "datetime"}, at=gaps)
    assert features.layout.numbers[-1] == "at is missing"
    out = features.run(at=[MISSING_DATETIME, MOMENTS[3]]).numbers
    assert out[:, -1].tolist() == [1.0, 0.0]
    assert np.isfinite(out).all()
    place = features.layout.numbers.index("at elapsed time")
    assert out[0, place] == 0.0


def test_all_missing_in_training(make_features: MakeFeatures) -> None:
    features = make_features({"at": "datetime"}, at=[MISSING_DATETIME] * 3)
    assert features.layout.numbers == ("at is missing",)
    assert features.part("at is missing", at=[MISSING_DATETIME, 0]) == [1.0, 0.0]


def test_several_date_columns_keep_apart(make_features: MakeFeatures) -> None:
    features = make_features(
        {"a": "datetime", "b": "datetime"}, a=MOMENTS, b=list(reversed(MOMENTS))
    )
    assert len(features.layout.numbers) == 2 * len(PARTS)
    out = features.run(a=[MOMENTS[5]], b=[MOMENTS[9]]).numbers[0]
    half = len(PARTS)
    np.testing.assert_array_equal(out[: half - 1], parts_of([MOMENTS[5]])[0, :-1])
    np.testing.assert_array_equal(out[half:-1], parts_of([MOMENTS[9]])[0, :-1])
