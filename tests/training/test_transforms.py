"""A target's transform is undone in the graph, chosen on data, and its interval is valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steadynet.errors import SpecError
from steadynet.home import Home
from steadynet.model import Model, train
from steadynet.spec.losses import TransformName
from steadynet.training.data import encode_for_fit
from steadynet.training.transforms import choose_transform, fitting_transforms, inverse_of

QUICK = {"training.max_epochs": 5, "training.width": 16, "training.members": 2, "training.folds": 2}


@pytest.mark.parametrize("name", ["none", "log", "quantile"])
@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.one_of(st.integers(0, 9), st.floats(0, 1e6)), min_size=3, max_size=60))
@example(values=[0.0, 1.0, 5e-324, 5e-324])
@example(values=[0.0, 0.0, 1e-310, 2e-310])
@example(values=[1.0, 1.0 + 2e-16, 1.0 + 4e-16, 0.5])
@example(values=[5e-324, 0.0, 1e-323])
def test_a_target_comes_back_as_it_was(name: TransformName, values: list[float]) -> None:
    target = np.array(values, np.float64)
    code = encode_for_fit(target, "regression", 0, np.arange(len(target)), transform=name)
    back = code.decode(code.encode(target))
    if name == "quantile" and code.inverse.kind == "knots":
        assert (np.diff(code.inverse.at) > 0).all()
        assert (np.diff(code.inverse.value) > 0).all()
        assert target.min() <= back.min() <= back.max() <= target.max() * (1 + 1e-12)
    np.testing.assert_allclose(back, target, rtol=1e-6, atol=1e-6 * max(1.0, target.max()))


def test_normal_scores_are_normal_and_monotone() -> None:
    random = np.random.default_rng(0)
    target = random.lognormal(0, 2, 5000)
    inverse = inverse_of("quantile", target, target)
    scores = inverse.undo(target)
    assert scores.mean() == pytest.approx(0, abs=0.02)
    assert scores.std() == pytest.approx(1, abs=0.03)
    far = inverse.apply(np.array([-100.0, 100.0]))
    assert far.tolist() == [target.min(), target.max()]


def test_a_logarithm_is_refused_and_not_tried_below_0() -> None:
    target = np.array([1.0, -2.0, 3.0])
    with pytest.raises(SpecError, match="1 of 3 rows below 0"):
        inverse_of("log", target, target)
    assert fitting_transforms(target) == ("none", "quantile")
    assert fitting_transforms(np.abs(target)) == ("none", "log", "quantile")


def test_the_simplest_that_is_not_worse_beyond_the_noise_is_chosen() -> None:
    random = np.random.default_rng(0)
    base = random.gamma(2, 1, 400)
    losses = {"none": base + 0.001 * random.normal(size=400), "log": base, "quantile": base + 1}
    chosen, scores = choose_transform(("none", "log", "quantile"), lambda name: losses[name])
    assert chosen == "none"
    assert [score.transform for score in scores] == ["none", "log", "quantile"]
    better = losses | {"log": base - 0.5}
    assert choose_transform(("none", "log", "quantile"), lambda name: better[name])[0] == "log"


def skewed(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x (N,) and y, whose logarithm is linear in x."""
    random = np.random.default_rng(seed)
    x = random.normal(size=rows)
    return x, np.exp(2 + 1.5 * x + 0.3 * random.normal(size=rows))


def fitted(home: Path, transform: str, **more: Any) -> Model:
    """Train on skewed numbers."""
    x, y = skewed(1200, 0)
    given = QUICK | {"training.target_transform": transform} | more
    return train(pl.DataFrame({"x": x, "y": y}), target="y", settings=given, home=Home(home))


@pytest.mark.parametrize("transform", ["log", "quantile"])
def test_the_interval_holds_in_the_targets_unit(tmp_path: Path, transform: str) -> None:
    model = fitted(tmp_path, transform)
    x, y = skewed(3000, 1)
    found = model.answer({"x": x.tolist()})
    inside = np.mean((found["lower"] <= y) & (y <= found["upper"]))
    assert inside == pytest.approx(0.9, abs=0.04)
    ratio = np.log(np.maximum(found["prediction"], 1e-3)) - (2 + 1.5 * x)
    assert np.median(np.abs(ratio)) < 0.15
    extreme = model.answer({"x": [np.nan, np.inf, -np.inf, 1e38, -1e38]})
    assert np.isfinite(extreme["prediction"]).all()
    assert (extreme["prediction"] >= 0).all()


def test_auto_takes_the_logarithm_where_it_helps_and_says_so(tmp_path: Path) -> None:
    model = fitted(tmp_path, "auto", **{"training.loss": "absolute", "training.folds": 1})
    said = model.manifest.notes["target transform"]
    assert said.startswith(("log", "quantile"))
    assert "none" in said


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"training.loss": "poisson", "training.target_transform": "log"}, "poisson"),
        ({"table.task": "multiclass", "training.target_transform": "log"}, "multiclass"),
        ({"training.target_transform": "sqrt"}, "quantile"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    frame = pl.DataFrame({"x": range(60), "y": np.arange(60) % 7})
    given = {"table.task": "regression"} | settings
    with pytest.raises(SpecError, match=says):
        train(frame, target="y", settings=given, home=Home(tmp_path))
