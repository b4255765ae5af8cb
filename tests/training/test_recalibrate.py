"""Recalibrating a bundle: the network stays, the probabilities move, what does not do is said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from steadynet.bundle.manifest import MODEL, TRAINING, WEIGHTS
from steadynet.bundle.read import Bundle, verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.errors import TableError, UserError
from steadynet.home import Home
from steadynet.model import Model
from steadynet.runtime.metrics import per_row_loss
from steadynet.runtime.predictor import Predictor
from steadynet.spec.model import CalibrationSpec, Spec, TableSpec, TrainingSpec
from steadynet.training.answers import WeldedGraph
from steadynet.training.progress import Event
from steadynet.training.recalibrate import recalibrate
from steadynet.training.record import TrainingFile
from steadynet.training.run import train

Make = Callable[..., pl.DataFrame]
QUICK = TrainingSpec(width=16, members=2, max_epochs=8, pictures=False)


def spec_of(training: TrainingSpec = QUICK, coverage: float = 0.9) -> Spec:
    return Spec(
        table=TableSpec(target="answer"),
        training=training,
        calibration=CalibrationSpec(coverage=coverage),
    )


def opened(home: Home, path: Path) -> Bundle:
    return verify_bundle(path, signing_key(home).public)


def parent_of(home: Home, table: pl.DataFrame, training: TrainingSpec = QUICK) -> Bundle:
    return opened(home, train(table, spec_of(training), home=home, name="r").bundle)


def child_of(home: Home, parent: Bundle, table: pl.DataFrame) -> Bundle:
    made = recalibrate(table, spec_of(), home=home, name="r", parent=parent)
    assert made.ending == "recalibrated"
    return opened(home, made.bundle)


def answers(bundle: Bundle, table: pl.DataFrame) -> dict[str, np.ndarray]:
    return Model(bundle, name="r", version="1").answer(table)


def rarer(table: pl.DataFrame, classes: list[str]) -> pl.DataFrame:
    """Leave nine of ten rows of the last class out: a prior shift."""
    place = pl.int_range(pl.len()).over("answer")
    return table.filter((pl.col("answer") != classes[-1]) | (place % 10 == 0))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_prior_shift_is_mended_and_the_order_of_rows_stays(
    frame: Make, tmp_path: Path, task: str
) -> None:
    home = Home(tmp_path)
    parent = parent_of(home, frame(task, rows=600))
    classes = list(parent.manifest.schema.target.classes)
    later = rarer(frame(task, rows=3000, seed=5), classes)
    child = child_of(home, parent, later)
    assert child.read(WEIGHTS) == parent.read(WEIGHTS)
    assert child.read(MODEL) != parent.read(MODEL)
    assert child.manifest.provenance.parent == parent.manifest_sha256
    assert child.manifest.schema == parent.manifest.schema
    Predictor(child).check_golden()
    fresh = rarer(frame(task, rows=3000, seed=6), classes)
    truth = np.array([classes.index(name) for name in fresh["answer"].cast(pl.String).to_list()])
    before = answers(parent, fresh)["probabilities"]
    after = answers(child, fresh)["probabilities"]
    assert per_row_loss(truth, after).mean() < per_row_loss(truth, before).mean() - 0.02
    assert abs(after[:, -1].mean() - (truth == len(classes) - 1).mean()) < 0.03
    # What the graph tells beside its answers is the network's, which stays.
    columns = dict(Predictor(child).decoder.rows(later.head(50).drop("answer").to_dicts()))
    graphs = [
        WeldedGraph(item.read(MODEL), item.manifest.schema, threads=1) for item in (parent, child)
    ]
    for name, values in graphs[0].novelty(columns).items():
        np.testing.assert_array_equal(values, graphs[1].novelty(columns)[name])
    if task == "binary":
        order = np.argsort(before[:, -1], kind="stable")
        assert (np.diff(after[order, -1]) >= -1e-5).all()


@pytest.mark.parametrize(
    "training",
    [
        QUICK,
        TrainingSpec(width=16, members=2, max_epochs=8, pictures=False, loss="absolute"),
        TrainingSpec(width=16, members=2, max_epochs=8, pictures=False, target_transform="log"),
    ],
    ids=["mean", "median", "transformed"],
)
def test_numbers_are_put_in_place_and_their_interval_holds_what_it_promises(
    frame: Make, tmp_path: Path, training: TrainingSpec
) -> None:
    home = Home(tmp_path)

    def positive(table: pl.DataFrame, factor: float) -> pl.DataFrame:
        return table.with_columns(answer=factor * (pl.col("answer") - pl.col("answer").min() + 1))

    parent = parent_of(home, positive(frame("regression", rows=600), 1.0), training)
    later = positive(frame("regression", rows=2000, seed=5), 1.6)
    child = opened(
        home, recalibrate(later, spec_of(training), home=home, name="r", parent=parent).bundle
    )
    Predictor(child).check_golden()
    fresh = positive(frame("regression", rows=2000, seed=6), 1.6)
    truth = fresh["answer"].to_numpy()
    before, after = answers(parent, fresh), answers(child, fresh)
    assert per_row_loss(truth, after["prediction"]).mean() < (
        0.8 * per_row_loss(truth, before["prediction"]).mean()
    )
    inside = (truth >= after["lower"]) & (truth <= after["upper"])
    assert 0.85 < inside.mean() < 0.95


def test_a_recalibrated_bundle_can_be_recalibrated_and_gone_on_from(
    frame: Make, tmp_path: Path
) -> None:
    home = Home(tmp_path)
    parent = parent_of(home, frame("binary", rows=600))
    classes = list(parent.manifest.schema.target.classes)
    later = rarer(frame("binary", rows=2000, seed=5), classes)
    again = child_of(home, child_of(home, parent, later), frame("binary", rows=600, seed=7))
    fresh = frame("binary", rows=2000, seed=8)
    truth = np.array([classes.index(name) for name in fresh["answer"].cast(pl.String).to_list()])
    first, last = answers(parent, fresh)["probabilities"], answers(again, fresh)["probabilities"]
    # Twice there and back: as good as at first.
    assert per_row_loss(truth, last).mean() < per_row_loss(truth, first).mean() + 0.02
    grown = train(
        frame("binary", rows=400, seed=9), spec_of(), home=home, name="r", start_from=again
    )
    assert grown.manifest.provenance.parent == again.manifest_sha256


def test_rows_that_do_not_do_are_refused(frame: Make, tmp_path: Path) -> None:
    home = Home(tmp_path)
    parent = parent_of(home, frame("binary", rows=400))
    with pytest.raises(TableError, match="too few rows to recalibrate"):
        child_of(home, parent, frame("binary", rows=60, seed=3))
    with pytest.raises(TableError) as few:
        child_of(home, parent, frame("binary", rows=60, seed=3))
    assert "more labels" in (few.value.do or "")
    one = frame("binary", rows=800, seed=3)
    name = parent.manifest.schema.target.classes[0]
    with pytest.raises(TableError, match="lack a class") as lacking:
        child_of(home, parent, one.filter(pl.col("answer").cast(pl.String) == name))
    assert "Add rows" in (lacking.value.do or "")
    asked = {"target": "city", "task": "multiclass", "positive_class": "no"}
    for key, wanted in asked.items():
        table = msgspec.structs.replace(TableSpec(target="answer"), **{key: wanted})
        spec = msgspec.structs.replace(spec_of(), table=table)
        with pytest.raises(UserError, match=f"table.{key} is not the parent's") as refused:
            recalibrate(one, spec, home=home, name="r", parent=parent)
        assert "without --recalibrate" in (refused.value.do or "")


def test_a_recalibrated_bundle_says_what_is_true_of_it(frame: Make, tmp_path: Path) -> None:
    home = Home(tmp_path)
    table = frame("regression", rows=300).with_columns(count=pl.int_range(pl.len()) % 3 + 1)
    tiny = TrainingSpec(width=8, members=1, max_epochs=1, trees="never", pictures=False)
    asked = Spec(
        table=TableSpec(target="answer", weight_column="count"),
        training=tiny,
        calibration=CalibrationSpec(interval="cross"),
    )
    parent = opened(home, train(table, asked, home=home, name="r").bundle)
    assert parent.manifest.weight_column == "count"
    old = msgspec.structs.replace(
        parent.manifest.provenance, steadynet="0.0.1", python="3.0", libraries={"numpy": "1.0"}
    )
    aged = dataclasses.replace(
        parent, manifest=msgspec.structs.replace(parent.manifest, provenance=old)
    )
    child = opened(home, recalibrate(table, asked, home=home, name="r", parent=aged).bundle)
    # Its metrics count every row once, and so does nobody take them for weighted ones.
    assert child.manifest.weight_column is None
    assert "all rows count the same" in child.manifest.notes["weights"]
    assert child.manifest.provenance.libraries == parent.manifest.provenance.libraries
    assert child.manifest.provenance.python == parent.manifest.provenance.python
    assert child.manifest.provenance.steadynet == parent.manifest.provenance.steadynet
    record = msgspec.json.decode(child.read(TRAINING), type=TrainingFile)
    assert record.calibration.interval == "constant"


def test_recalibrating_keeps_to_the_threads_of_its_spec(frame: Make, tmp_path: Path) -> None:
    """Seen from inside, where its progress is told."""

    class Threads:
        def __init__(self) -> None:
            self.most: list[int] = []

        def on(self, event: Event) -> None:
            self.most.append(max(int(pool["num_threads"]) for pool in threadpool_info()))

    home, seen = Home(tmp_path), Threads()
    parent = parent_of(
        home, frame("binary", rows=400), msgspec.structs.replace(QUICK, max_epochs=1)
    )
    with threadpool_limits(2):
        recalibrate(
            frame("binary", rows=400, seed=3), spec_of(), home=home, name="r", parent=parent,
            progress=seen,
        )  # fmt: skip
    assert set(seen.most) == {1}
