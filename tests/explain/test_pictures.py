"""Pictures are the same for the same numbers, small, whole, and say in words what they show."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from steadynet.bundle.picture import Picture, is_picture
from steadynet.explain.illustrate import Shown, illustrate
from steadynet.explain.importance import permutation_importance
from steadynet.explain.pictures import chance_bands, draw_learning, draw_reliability
from steadynet.runtime.metrics import mass_bins
from steadynet.spec.kinds import Task
from steadynet.table.schema import MISSING_DATETIME, Column, Schema, Target

ROWS = 400
LARGEST = 50_000
HOSTILE = "$x_{1}$ <script>alert(1)</script> & 'a' \"b\" | " + "long" * 20


def rows(seed: int = 0) -> dict[str, np.ndarray]:
    """Return columns of every kind, with missing values."""
    random = np.random.default_rng(seed)
    columns = {
        "a": random.normal(size=(ROWS, 1)).astype(np.float32),
        HOSTILE: random.choice(["x", "y", HOSTILE, ""], (ROWS, 1)).astype(object),
        "d": random.integers(0, 2, (ROWS, 1)).astype(np.float32),
        "e": random.integers(10**9, 2 * 10**9, (ROWS, 1)),
    }
    columns["a"][::7] = np.nan
    columns["e"][::9] = MISSING_DATETIME
    return columns


def schema(task: Task, classes: int) -> Schema:
    """Return the schema of `rows`."""
    names = tuple(f"class {place} {HOSTILE[: 5 * place]}" for place in range(classes))
    return Schema(
        columns=(
            Column(name="a", kind="number", reason=""),
            Column(name=HOSTILE, kind="category", reason="", categories=("x", "y", HOSTILE)),
            Column(name="d", kind="boolean", reason=""),
            Column(name="e", kind="datetime", reason=""),
        ),
        target=Target(name="answer", task=task, reason="", classes=names),
    )


def run(columns: dict[str, np.ndarray], classes: int) -> dict[str, np.ndarray]:
    """Answer as a graph does."""
    score = np.nan_to_num(columns["a"][:, 0]) + (columns[HOSTILE][:, 0] == "x")
    late = np.where(columns["e"][:, 0] > 1.5e9, 0.7, 0.0)
    score = score + late + 0.4 * columns["d"][:, 0]
    if not classes:
        return {"prediction": score, "lower": score - 1, "upper": score + 1 + score**2}
    logits = np.stack([score * place for place in range(classes)], axis=1)
    even = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {"probabilities": even / even.sum(axis=1, keepdims=True)}


def drawn(task: Task, classes: int) -> tuple[Picture, ...]:
    """Return the pictures of a made-up model."""
    random = np.random.default_rng(1)
    columns, known = rows(), schema(task, classes)
    answers = run(columns, classes)
    if classes:
        cumulated = np.cumsum(answers["probabilities"], axis=1)
        target = (random.random((ROWS, 1)) > cumulated).sum(axis=1).clip(max=classes - 1)
    else:
        target = answers["prediction"] + random.normal(size=ROWS)
    importance = permutation_importance(
        lambda given: run(given, classes), known, columns, target, repeats=1
    )
    shown = Shown(schema=known, columns=columns, target=target, answers=answers, threshold=0.5)
    return illustrate(lambda given: run(given, classes), shown, importance)


@pytest.mark.parametrize(
    ("task", "classes", "names"),
    [
        ("binary", 2, ["importance", "dependence", "reliability", "roc", "confusion"]),
        ("multiclass", 4, ["importance", "dependence", "reliability", "roc", "confusion"]),
        ("multiclass", 13, ["importance", "dependence", "reliability"]),
        ("regression", 0, ["importance", "dependence", "residuals"]),
    ],
)
def test_pictures_are_whole_small_and_the_same_each_time(
    task: Task, classes: int, names: list[str]
) -> None:
    found = drawn(task, classes)
    assert [picture.name for picture in found] == names
    for picture in found:
        root = ElementTree.fromstring(picture.svg)
        assert root.tag.endswith("svg")
        assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
        assert len(picture.svg) <= LARGEST, picture.name
        assert is_picture(picture.file)
        assert picture.alt.endswith(".")
        assert "nan" not in picture.alt
        assert not re.search(rb"\d\d:\d\d:\d\d|dc:date", picture.svg)
    assert drawn(task, classes) == found


def test_words_say_what_is_shown() -> None:
    by_name = {picture.name: picture for picture in drawn("regression", 0)}
    assert "the largest: a (+" in by_name["importance"].alt
    inside = re.search(r"([\d.]+)% of all rows lie inside", by_name["residuals"].alt)
    assert inside is not None
    assert 60 < float(inside[1]) < 95


def test_the_band_holds_calibrated_models_and_not_others() -> None:
    random = np.random.default_rng(0)
    holds = []
    for seed in range(100):
        score = random.random(1000)
        outcome = random.random(1000) < score
        holds += [
            band.holds for band in chance_bands(score, outcome, mass_bins(score, 10), seed=seed)
        ]
    assert np.mean(holds) == pytest.approx(0.95, abs=0.02)
    off = chance_bands(score**2, outcome, mass_bins(score**2, 10), seed=0)
    assert sum(not band.holds for band in off) >= 5
    assert f"; {sum(not band.holds for band in off)} of them outside" in draw_reliability(off).alt
    many = chance_bands(np.full(5000, 0.1), np.arange(5000) < 500, np.zeros(5000, int), seed=0)
    assert many[0].holds
    assert many[0].high - many[0].low == pytest.approx(2 * 1.96 * 0.3 / 5000**0.5, rel=0.15)


def test_one_epoch_is_a_picture_too() -> None:
    assert b"<svg" in draw_learning([1], [0.5], [0.6], 1).svg


def test_matplotlib_is_imported_only_to_draw() -> None:
    asked = (
        "import sys, steadynet.explain.illustrate, steadynet.training.run;"
        "sys.exit('matplotlib.figure' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
