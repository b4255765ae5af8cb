"""Numbers and booleans in the graph: imputed, scaled, clipped, marked where missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.features.fit import fit_features
from steadynet.features.numbers import CLIP, fit_number
from steadynet.features.run import run_features
from steadynet.table.schema import Column, Schema, Target

NAN, INF = math.nan, math.inf
MakeFeatures = Callable[..., Any]


def smooth(value: float) -> float:
    """Return RealMLP's smooth clipping, written once more."""
    return value / math.sqrt(1 + (value / 3) ** 2)


def test_the_median_is_zero_and_the_interquartile_range_one(make_features: MakeFeatures) -> None:
    cells = [float(n) for n in range(101)]
    features = make_features({"x": "number"}, x=cells)
    assert features.layout.numbers == ("x",)
    out = features.part("x", x=[50.0, 100.0, 75.0, 0.0])
    np.testing.assert_allclose(out, [0, smooth(1), smooth(0.5), smooth(-1)], rtol=1e-6)


def test_missing_numbers_are_the_median_and_marked(make_features: MakeFeatures) -> None:
    features = make_features({"x": "number"}, x=[1.0, NAN, 3.0, 5.0])
    assert features.layout.numbers == ("x", "x is missing")
    assert features.layout.number_sources == ("x", "x")
    assert features.part("x", x=[NAN, 3.0]) == [0.0, 0.0]
    assert features.part("x is missing", x=[NAN, 3.0]) == [1.0, 0.0]


def test_without_gaps_in_training_nothing_is_marked(make_features: MakeFeatures) -> None:
    features = make_features({"x": "number"}, x=[1.0, 2.0, 3.0])
    assert features.layout.numbers == ("x",)
    assert features.part("x", x=[NAN]) == [0.0]


def test_only_columns_with_gaps_are_marked(make_features: MakeFeatures) -> None:
    kinds = {"a": "number", "b": "number", "c": "boolean", "d": "number"}
    cells = {"a": [1.0, 2.0], "b": [1.0, NAN], "c": [NAN, 1.0], "d": [0.0, 5.0]}
    features = make_features(kinds, **cells)
    assert features.layout.numbers == ("a", "b", "c", "d", "b is missing", "c is missing")
    assert features.layout.number_sources == ("a", "b", "c", "d", "b", "c")
    out = features.run(a=[NAN], b=[NAN], c=[1.0], d=[NAN]).numbers[0]
    assert out[-2:].tolist() == [1.0, 0.0]


def test_infinite_and_huge_numbers_stay_finite(make_features: MakeFeatures) -> None:
    features = make_features({"x": "number"}, x=[1.0, 2.0, INF, -INF, NAN, 3.0])
    out = features.part("x", x=[INF, -INF, 3e38, -3e38, 1e-38, NAN])
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[:4], [CLIP, -CLIP, CLIP, -CLIP], rtol=1e-5)


def test_booleans_are_plus_and_minus_and_missing_between(make_features: MakeFeatures) -> None:
    features = make_features({"b": "boolean"}, b=[0.0, 1.0, NAN])
    out = features.part("b", b=[0.0, 1.0, NAN])
    np.testing.assert_allclose(out, [smooth(-1), smooth(1), 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("cells", "centre", "width"),
    [
        ([0.0, 1, 2, 3, 4], 2.0, 2.0),
        ([0.0] * 9 + [10.0], 0.0, 3.0),
        ([7.0] * 5, 7.0, 1.0),
        ([NAN, NAN], 0.0, 1.0),
        ([INF, -INF], 0.0, 1.0),
        ([NAN, INF, 1.0, 2.0, 3.0], 2.0, 1.0),
    ],
)
def test_the_fallbacks_of_the_scale(cells: list[float], centre: float, width: float) -> None:
    scale = fit_number("x", np.array(cells, dtype=np.float32).reshape(-1, 1))
    assert scale.centre == pytest.approx(centre)
    assert scale.width == pytest.approx(width)
    assert scale.has_gaps == bool(np.isnan(cells).any())


def test_rounding_noise_is_no_range(make_features: MakeFeatures) -> None:
    base = np.float32(1e8)
    features = make_features({"x": "number"}, x=[base, np.nextafter(base, np.float32(2e8))] * 4)
    assert np.abs(features.part("x", x=[base])).max() <= CLIP


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=20),
    st.lists(st.floats(width=32), min_size=1, max_size=20),
)
def test_any_numbers_give_finite_numbers_within_bounds(
    training: list[float], later: list[float]
) -> None:
    schema = Schema(
        columns=(Column(name="x", kind="number", reason=""),),
        target=Target(name="y", task="regression", reason=""),
    )
    cells = np.array(training, dtype=np.float32).reshape(-1, 1)
    graph = fit_features({"x": cells}, schema)
    out = run_features(graph, {"x": np.array(later, dtype=np.float32).reshape(-1, 1)}).numbers
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= CLIP * 1.0001
