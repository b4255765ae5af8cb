"""Rows count by their weights: in the fit, in stopping, in calibration, in the metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.errors import TableError
from steadynet.estimators import NetClassifier, NetRegressor
from steadynet.home import Home
from steadynet.model import train
from steadynet.runtime.metrics import classification_metrics, regression_metrics
from steadynet.spec.kinds import Task
from steadynet.spec.losses import LOSSES, choose_loss
from steadynet.training.comparing import held_losses
from steadynet.training.data import encode_for_fit
from steadynet.training.objective import fit_loss, held_loss
from steadynet.training.welding import counted_places

QUICK: dict[str, Any] = {"max_epochs": 4, "width": 8, "depth": 1}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), name=st.sampled_from(sorted(LOSSES)))
def test_a_weight_of_two_is_the_row_twice(seed: int, name: Any) -> None:
    random = np.random.default_rng(seed)
    task: Task = LOSSES[name].tasks[-1]
    target = random.integers(0, 3, 20)
    code = encode_for_fit(
        target,
        task,
        3,
        np.arange(20),
        loss=choose_loss(name, task, ordered=True, quantile=0.3 if name == "quantile" else None),
    )
    outputs = torch.from_numpy(random.normal(size=(1, 20, 2, code.outputs)))
    coded = torch.from_numpy(code.encode(target) if task == "regression" else target)[None]
    counts = random.integers(0, 3, 20)
    counts[0] = 1
    twice = torch.from_numpy(np.repeat(np.arange(20), counts))
    weights = torch.from_numpy(counts / counts.mean())[None]
    weighted = float(fit_loss(outputs, coded, code, weights))
    repeated = float(fit_loss(outputs[:, twice], coded[:, twice], code))
    assert weighted == pytest.approx(repeated)
    answers = torch.rand(1, 20, max(code.classes, 1), dtype=torch.float64) + 0.1
    found = float(held_loss(answers, coded, code, weights))
    assert found == pytest.approx(float(held_loss(answers[:, twice], coded[:, twice], code)))
    own = held_losses(answers[0].numpy(), target, code, weights[0].numpy()).mean()
    again = held_losses(answers[0].numpy()[twice], target[twice], code).mean()
    assert own == pytest.approx(float(again))


def test_metrics_count_rows_by_their_weights() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(1, 4, 200)
    twice = np.repeat(np.arange(200), counts)
    truth = random.integers(0, 3, 200)
    chance = random.dirichlet(np.ones(3), 200)
    weights = counts.astype(np.float64)
    classes = ("a", "b", "c")
    found = classification_metrics(truth, chance, classes, ordered=True, weights=weights)
    wanted = classification_metrics(truth[twice], chance[twice], classes, ordered=True)
    found.pop("ece"), wanted.pop("ece")  # its bins are of equal numbers of rows
    assert found == pytest.approx(wanted)
    numbers = random.gamma(2, 1, 200)
    for name in ("poisson", "quantile", "absolute"):
        loss = choose_loss(name, "regression", quantile=0.8 if name == "quantile" else None)
        got = regression_metrics(numbers, numbers * 0.9 + 0.2, loss=loss, weights=weights)
        repeated = regression_metrics(numbers[twice], numbers[twice] * 0.9 + 0.2, loss=loss)
        got.pop("d2"), repeated.pop("d2")  # the best constant is that of all rows alike
        assert got == pytest.approx(repeated)


def test_held_rows_stand_as_often_as_they_count() -> None:
    held = np.arange(2000).reshape(2, 1000)
    weights = np.where(np.arange(2000) % 4 == 0, 3.0, 1.0)
    places = counted_places(weights, held, 0)
    share = np.mean(places % 4 == 0)
    assert share == pytest.approx(3 / 6, abs=0.01)
    worth = 1000 * (0.25 * 3 + 0.75) ** 2 / (0.25 * 9 + 0.75)
    assert len(places) == pytest.approx(2 * worth, abs=4)
    assert (places.reshape(2, -1)[0] < 1000).all()
    assert (places.reshape(2, -1)[1] >= 1000).all()
    np.testing.assert_array_equal(counted_places(None, held, 0), np.arange(2000))


def test_a_weighted_half_decides_what_is_learned_and_told(tmp_path: Path) -> None:
    """Half the rows say y = x, half y = -x; the weights say whom to believe."""
    random = np.random.default_rng(0)
    x = random.normal(size=800)
    sign = np.where(np.arange(800) % 2 == 0, 1.0, -1.0)
    frame = pl.DataFrame({"x": x, "y": sign * x, "w": np.where(sign > 0, 1.0, 0.001)})
    settings = {"table.weight_column": "w", "training.max_epochs": 3, "training.width": 8}
    model = train(frame, target="y", settings=settings, home=Home(tmp_path))
    found = model.predict({"x": [1.0, -1.0]})
    np.testing.assert_allclose(found, [1, -1], atol=0.15)
    assert [column.name for column in model.schema.features] == ["x"]
    metrics = model.manifest.metrics["test"]
    assert metrics["rmse"].value < 0.3
    assert model.manifest.weight_column == "w"
    assert "Rows count by `w`" in model.bundle.read("README.md").decode()
    lower, upper = model.predict_interval({"x": [1.0]})[0]
    assert upper - lower < 1  # the rows that count little do not widen it


def test_a_further_targets_metrics_count_rows_by_their_weights(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=200)
    trusted = np.arange(200) % 2 == 0
    y = np.where(trusted, x, 10 * random.normal(size=200))
    frame = pl.DataFrame({"x": x, "y": y, "same": y, "w": np.where(trusted, 1.0, 1e-4)})
    settings: dict[str, object] = {
        "table.weight_column": "w", "training.max_epochs": 1,
        "training.width": 8, "training.trees": "never", "training.pictures": False,
    }  # fmt: skip
    home = Home(tmp_path)
    manifest = train(frame, target=["y", "same"], settings=settings, home=home).manifest
    further = manifest.more_targets["same"]
    assert further.references == manifest.references
    assert further.metrics["test"]["rmse"].value < 2  # 7 where all rows count the same


def test_a_part_that_counts_nothing_is_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"t": range(60), "x": np.arange(60) % 7, "y": np.arange(60) * 1.5, "w": [1] * 40 + [0] * 20}
    )
    settings = {"table.weight_column": "w", "split.time_column": "t"}
    with pytest.raises(TableError, match="weight 0"):
        train(frame, target="y", settings=settings, home=Home(tmp_path))


def test_estimators_take_weights_of_rows_and_classes() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 2))
    chance = 1 / (1 + np.exp(-(x[:, 0] - 1)))
    y = (random.random(400) < chance).astype(int)
    plain = NetClassifier(**QUICK).fit(x, y)
    weighed = NetClassifier(**QUICK, class_weight={1: 10.0}).fit(x, y)
    assert weighed.predict(x).mean() > plain.predict(x).mean() + 0.2
    assert weighed.predict_proba(x)[:, 1].mean() == pytest.approx(y.mean(), abs=0.08)
    of_rows = NetClassifier(**QUICK).fit(x, y, sample_weight=np.where(y == 1, 10.0, 1.0))
    wanted = 10 * y.mean() / (10 * y.mean() + 1 - y.mean())
    assert of_rows.predict_proba(x)[:, 1].mean() == pytest.approx(wanted, abs=0.1)
    high = NetRegressor(**QUICK, loss="quantile", quantile=0.9).fit(
        x, x[:, 0] + random.normal(size=400)
    )
    assert np.mean(high.predict(x) > x[:, 0]) > 0.9
    with pytest.raises(ValueError, match="class_weights names '7'"):
        NetClassifier(**QUICK, class_weight={7: 2.0}).fit(x, y)
