"""A loss does what it promises, from the table to the answers of the signed graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from steadynet.errors import SpecError, TableError
from steadynet.home import Home
from steadynet.model import Model, train

ROWS = 1500
QUICK = {"training.max_epochs": 6, "training.width": 16, "training.members": 2, "training.folds": 2}


def fitted(home: Path, target: np.ndarray, x: np.ndarray, **settings: Any) -> Model:
    """Train on numbers x (N, 2)."""
    table = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": target})
    given = QUICK | {key.replace("__", "."): value for key, value in settings.items()}
    return train(table, target="y", settings=given, home=Home(home))


def new_rows(seed: int = 1, rows: int = 4000) -> np.ndarray:
    """Return numbers (N, 2)."""
    return np.random.default_rng(seed).normal(size=(rows, 2))


def answers(model: Model, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the model's outputs."""
    return model.answer({"a": x[:, 0].tolist(), "b": x[:, 1].tolist()})


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_a_quantile_is_above_its_share_of_new_rows(tmp_path: Path, level: float) -> None:
    def draw(x: np.ndarray, seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(size=len(x))
        return 3 * x[:, 0] + noise * np.exp(0.5 * x[:, 1])

    x, new = new_rows(0, ROWS), new_rows()
    model = fitted(tmp_path, draw(x, 2), x, training__loss="quantile", training__quantile=level)
    found = answers(model, new)["prediction"]
    assert np.mean(draw(new, 3) <= found) == pytest.approx(level, abs=0.04)
    wanted = 3 * new[:, 0] + stats.norm.ppf(level) * np.exp(0.5 * new[:, 1])
    assert np.abs(found - wanted).mean() < 0.35
    test = model.manifest.metrics["test"]
    assert {"pinball", "share_below", "d2"} <= set(test)
    assert test["share_below"].value == pytest.approx(level, abs=0.08)


def test_poisson_loss_beats_squared_loss_on_counts(tmp_path: Path) -> None:
    def rate(x: np.ndarray) -> np.ndarray:
        return np.exp(0.2 + 1.2 * x[:, 0] + 0.5 * x[:, 1])

    x, new = new_rows(0, ROWS), new_rows()
    target = np.random.default_rng(2).poisson(rate(x)).astype(float)
    deviance = {}
    for loss in ("poisson", "squared"):
        model = fitted(tmp_path / loss, target, x, training__loss=loss, table__task="regression")
        found = np.maximum(answers(model, new)["prediction"].astype(float), 1e-3)
        true = rate(new)
        deviance[loss] = float(np.mean(true * np.log(true / found) - true + found))
        if loss == "poisson":
            assert found.min() > 0
            assert found.mean() == pytest.approx(true.mean(), rel=0.1)
            assert "poisson_deviance" in model.manifest.metrics["test"]
    assert deviance["poisson"] < 0.5 * deviance["squared"]


def test_absolute_loss_withstands_outliers(tmp_path: Path) -> None:
    x, new = new_rows(0, ROWS), new_rows()
    random = np.random.default_rng(2)
    target = 2 * x[:, 0] + 0.3 * random.normal(size=ROWS)
    wild = random.random(ROWS) < 0.03
    target[wild] += random.normal(200, 50, wild.sum())
    errors = {
        loss: float(
            np.abs(
                answers(fitted(tmp_path / loss, target, x, training__loss=loss), new)["prediction"]
                - 2 * new[:, 0]
            ).mean()
        )
        for loss in ("absolute", "huber", "squared")
    }
    assert errors["absolute"] < 0.2
    assert errors["huber"] < 0.4
    assert errors["squared"] > 2


@pytest.mark.parametrize(
    "settings",
    [
        {"training__loss": "focal"},
        {"training__class_weights": "balanced"},
        {"training__class_weights": {"yes": 20.0}},
    ],
)
def test_focal_loss_and_weights_keep_probabilities_calibrated(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    def chance(x: np.ndarray) -> np.ndarray:
        logit = 2 * x[:, 0] + x[:, 1] - 2.5
        return np.asarray(1 / (1 + np.exp(-logit)))

    x, new = new_rows(0, ROWS), new_rows()
    yes = np.random.default_rng(2).random(ROWS) < chance(x)
    model = fitted(tmp_path, np.where(yes, "yes", "no"), x, **settings)
    found = answers(model, new)
    positive = found["probabilities"][:, 1]
    assert positive.mean() == pytest.approx(chance(new).mean(), abs=0.03)
    assert np.abs(positive - chance(new)).mean() < 0.05
    weights = settings.get("training__class_weights", {})
    says_yes = float(np.mean(found["label"] == "yes"))
    if weights == {"yes": 20.0}:  # of 20 times the weight from a probability of 1/21 on
        assert says_yes == pytest.approx(float(np.mean(positive >= 1 / 21)), abs=0.01)
    elif not weights:
        assert says_yes == pytest.approx(float(np.mean(positive >= 0.5)), abs=0.01)


def test_ordered_classes_are_fewer_classes_off(tmp_path: Path) -> None:
    x, new = new_rows(0, ROWS), new_rows()
    names = np.array(["low", "middle", "high", "top"])

    def level(x: np.ndarray, seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).logistic(size=len(x))
        return np.digitize(2 * x[:, 0] + noise, [-1.0, 1.0, 3.0])

    model = fitted(tmp_path, names[level(x, 2)], x, table__classes=names.tolist())
    assert model.classes == tuple(names)
    assert model.manifest.loss is not None
    assert model.manifest.loss.name == "ordinal"
    found = answers(model, new)["probabilities"]
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    cuts = 1 / (1 + np.exp(-(np.array([-1.0, 1.0, 3.0]) - 2 * new[:, :1])))
    wanted = np.diff(np.c_[np.zeros(len(new)), cuts, np.ones(len(new))], axis=1)
    assert np.abs(found - wanted).mean() < 0.04
    assert {"class_mae", "kappa"} <= set(model.manifest.metrics["test"])


def test_whole_numbers_are_ordered_where_the_loss_says_so(tmp_path: Path) -> None:
    x = new_rows(0, 600)
    stars = 3 + np.digitize(x[:, 0], [-0.5, 0.5])
    model = fitted(tmp_path, stars, x, training__loss="ordinal")
    assert model.classes == ("3", "4", "5")
    assert model.schema.target.ordered


@pytest.mark.parametrize(
    ("settings", "target", "error", "says"),
    [
        ({"training__loss": "ordinal"}, "words", SpecError, "table.classes"),
        ({"training__loss": "quantile", "training__quantile": 0.9}, "words", SpecError, "loss"),
        ({"training__loss": "focal"}, "numbers", SpecError, "squared, absolute"),
        ({"training__loss": "poisson"}, "numbers", SpecError, "below 0"),
        ({"training__class_weights": {"yse": 2.0}}, "words", SpecError, "yes"),
        ({"training__class_weights": "balanced"}, "numbers", SpecError, "number"),
        ({"table__classes": ("no", "yes", "maybe")}, "words", TableError, "maybe"),
        ({"table__classes": ("no",)}, "words", SpecError, "table.classes"),
        ({"training__quantile": 0.9}, "numbers", SpecError, "training.quantile"),
        ({"training__loss": "quantile"}, "numbers", SpecError, "training.quantile"),
        ({"training__focal_gamma": 2.0}, "words", SpecError, "focal"),
        ({"training__class_weights": {"yes": -1.0}}, "words", SpecError, "weights.yes"),
        ({"training__loss": "mse"}, "numbers", SpecError, "squared"),
    ],
)
def test_what_does_not_fit_is_said_with_its_path(
    tmp_path: Path, settings: dict[str, Any], target: str, error: type[Exception], says: str
) -> None:
    x = new_rows(0, 60)
    words = np.array(["no", "yes", "perhaps"])[np.arange(60) % 3]
    with pytest.raises(error, match=says):
        fitted(tmp_path, words if target == "words" else x[:, 0] * 3, x, **settings)


def test_counts_far_from_their_bounds_pass_the_parity_check(tmp_path: Path) -> None:
    """Predictions near 0 beside an interval of hundreds: rounding there is no disagreement."""
    x = new_rows(0, 600)
    rate = np.exp(3 + 2.5 * x[:, 0])
    target = np.random.default_rng(2).poisson(rate).astype(float)
    model = fitted(tmp_path, target, x, training__loss="poisson", table__task="regression")
    found = answers(model, np.array([[-6.0, 0.0], [3.0, 0.0]]))
    assert found["prediction"][0] < 0.5 < 100 < found["upper"][1]
