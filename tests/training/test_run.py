"""From a table to a bundle, with real tables and a real kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
import polars as pl
import pytest
from safetensors.numpy import load

from steadynet.bundle.manifest import MODEL, TRAINING, WEIGHTS
from steadynet.bundle.read import Bundle, verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.errors import TableError
from steadynet.home import Home
from steadynet.runtime.metrics import classification_metrics, regression_metrics
from steadynet.runtime.predictor import Predictor
from steadynet.spec.model import Spec, SplitSpec, TableSpec, TrainingSpec
from steadynet.table.convert import encode_target, to_columns
from steadynet.table.schema import HIDDEN, NOVELTY
from steadynet.table.split import split_rows
from steadynet.training.checkpoint import NAME
from steadynet.training.progress import EpochEnded, Event, Resumed, StepStarted
from steadynet.training.record import TrainingFile
from steadynet.training.run import Trained, train

Make = Callable[..., pl.DataFrame]

QUICK = TrainingSpec(width=16, members=2, folds=2, max_epochs=4)
STEPS = (
    "reading the table",
    "fitting the feature graph",
    "fitting the network",
    "calibrating",
    "welding and checking the graph",
    "evaluating beside the references",
    "writing the bundle",
)


def spec_of(training: TrainingSpec = QUICK, **table: Any) -> Spec:
    """Return a spec for the target `answer`."""
    return Spec(table=TableSpec(target="answer", **table), training=training)


class Recorder:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One home for all trainings of this file."""
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def trained(
    request: pytest.FixtureRequest, frame: Make, home: Home
) -> tuple[Trained, pl.DataFrame, Recorder]:
    """A training of each task, its table and its events."""
    table, recorder = frame(request.param), Recorder()
    result = train(table, spec_of(), home=home, name=f"t-{request.param}", progress=recorder)
    return result, table, recorder


def opened(trained: Trained, home: Home) -> Bundle:
    """Return the verified bundle."""
    return verify_bundle(trained.bundle, signing_key(home).public)


def test_every_step_is_told_in_order(trained: tuple[Trained, pl.DataFrame, Recorder]) -> None:
    result, _, recorder = trained
    steps = [event.step for event in recorder.events if isinstance(event, StepStarted)]
    assert tuple(steps) == STEPS
    epochs = [event.epoch for event in recorder.events if isinstance(event, EpochEnded)]
    assert epochs == [record.epoch for record in result.history]


def test_the_bundle_verifies_and_reproduces_its_golden_rows(
    trained: tuple[Trained, pl.DataFrame, Recorder], home: Home
) -> None:
    bundle = opened(trained[0], home)
    Predictor(bundle).check_golden()
    golden = bundle.golden()
    assert len(golden) >= 24
    assert any(all(cell is None for cell in row.inputs.values()) for row in golden)
    assert any(cell == float("inf") for row in golden for cell in row.inputs.values())


def test_the_graph_tells_how_far_rows_are_from_training(
    trained: tuple[Trained, pl.DataFrame, Recorder], home: Home
) -> None:
    bundle = opened(trained[0], home)
    predictor, profile = Predictor(bundle), bundle.profile()
    golden = predictor.decoder.rows([row.inputs for row in bundle.golden()])
    assert set(predictor.run(golden)) == set(predictor.outputs)
    found = predictor.run_watched(golden)
    assert np.isfinite(found[NOVELTY]).all()
    assert found[HIDDEN].shape[1] == len(profile.hidden) > 0
    assert profile.hidden[0].name == "(hidden 1)"
    assert sum(profile.hidden[0].counts) == bundle.manifest.provenance.rows["test"]
    table = trained[1].select([c.name for c in predictor.schema.features])
    known = predictor.decoder.rows(table.to_dicts())
    near = predictor.run_watched(known)[NOVELTY]
    assert float((near > 1).mean()) < 0.05
    strange = {
        column.name: np.full_like(known[column.name], "steadynet: no such text")
        if column.kind == "category"
        else known[column.name] * np.float32(1000)
        if column.kind == "number"
        else known[column.name]
        for column in predictor.schema.features
    }
    far = predictor.run_watched(strange)[NOVELTY]
    assert float(np.median(far)) > float(np.quantile(near, 0.99))


def test_the_reported_metrics_are_those_of_raw_onnxruntime(
    trained: tuple[Trained, pl.DataFrame, Recorder], home: Home
) -> None:
    result, table, _ = trained
    schema = result.manifest.schema
    rows = split_rows(table, schema, SplitSpec()).test
    session = ort.InferenceSession(
        opened(result, home).read(MODEL), providers=["CPUExecutionProvider"]
    )
    columns = to_columns(table, schema)
    answers = dict(
        zip(
            [node.name for node in session.get_outputs()],
            session.run(None, {name: values[rows] for name, values in columns.items()}),
            strict=True,
        )
    )
    target = encode_target(table, schema)[rows]
    if schema.target.task == "regression":
        found = regression_metrics(target, answers["prediction"])
    else:
        found = classification_metrics(target, answers["probabilities"], schema.target.classes)
    reported = {name: entry.value for name, entry in result.manifest.metrics["test"].items()}
    assert reported == pytest.approx({name: found[name] for name in reported}, rel=1e-5)
    assert set(result.manifest.references) == {"linear", "boosted_trees"}
    for values in result.manifest.references.values():
        assert set(values) == set(found)


def test_the_network_learnt_something(trained: tuple[Trained, pl.DataFrame, Recorder]) -> None:
    metrics = trained[0].manifest.metrics["test"]
    if "auc" in metrics:
        assert metrics["auc"].value > 0.75
        assert metrics["ece"].value < 0.25
    else:
        assert metrics["r2"].value > 0.6


def test_weights_and_training_file_hold_what_rebuilds_the_network(
    trained: tuple[Trained, pl.DataFrame, Recorder], home: Home
) -> None:
    bundle = opened(trained[0], home)
    described = msgspec.json.decode(bundle.read(TRAINING), type=TrainingFile)
    weights = load(bundle.read(WEIGHTS))
    assert described.network == "ensemble"
    assert described.training == QUICK
    assert weights["network/linear.bias"].shape[0] == described.plan.size.groups == 2
    assert all(np.isfinite(values).all() for values in weights.values())


def test_the_profile_counts_every_training_row(
    trained: tuple[Trained, pl.DataFrame, Recorder], home: Home
) -> None:
    result = trained[0]
    profile = opened(result, home).profile()
    assert profile.rows == result.rows["train"]
    for feature in profile.features:
        assert sum(feature.counts) + feature.missing == profile.rows, feature.name
        bins = len(feature.categories) or len(feature.edges)
        assert len(feature.counts) == bins + 1, feature.name
    shares = [feature.importance for feature in profile.features]
    assert sum(shares) == pytest.approx(1.0)
    assert max(shares) > 0.2
    by_name = {feature.name: feature for feature in profile.features}
    assert by_name["income"].missing > 0
    assert by_name["city"].missing > 0
    assert sum(profile.output.counts) == result.rows["test"]
    if result.manifest.schema.target.classes:
        assert sum(item.rows for item in profile.calibration) == result.rows["test"]
        assert sum(profile.output.label_counts.values()) == result.rows["test"]


def test_slices_are_large_enough_and_add_up(
    trained: tuple[Trained, pl.DataFrame, Recorder],
) -> None:
    result = trained[0]
    members = [item for item in result.slices if item.column == "member"]
    assert {item.value for item in members} <= {"true", "false"}
    assert sum(item.rows for item in members) <= result.rows["test"]
    assert all(item.rows >= 30 for item in result.slices)


def test_a_regression_promises_coverage_and_keeps_it(frame: Make, home: Home) -> None:
    table = frame("regression", rows=1500, seed=3)
    result = train(table, spec_of(), home=home, name="coverage")
    assert result.manifest.coverage == 0.9
    predictor = Predictor(opened(result, home))
    rows = split_rows(table, result.manifest.schema, SplitSpec()).test
    columns = {
        name: values[rows] for name, values in to_columns(table, result.manifest.schema).items()
    }
    answers = predictor.run(columns)
    target = encode_target(table, result.manifest.schema)[rows]
    inside = ((answers["lower"] <= target) & (target <= answers["upper"])).mean()
    assert 0.83 <= inside <= 0.97


def test_the_same_table_and_seed_give_the_same_graph(frame: Make, tmp_path: Path) -> None:
    table = frame("binary", rows=200)
    graphs = [
        opened(train(table, spec_of(), home=home, name="twin"), home).read(MODEL)
        for home in (Home(tmp_path / "one"), Home(tmp_path / "two"))
    ]
    assert graphs[0] == graphs[1]


def test_training_again_does_not_overwrite(frame: Make, tmp_path: Path) -> None:
    home, table = Home(tmp_path), frame("binary", rows=120)
    bundles = [train(table, spec_of(), home=home, name="again").bundle.name for _ in range(2)]
    assert bundles == ["bundle", "bundle-2"]
    assert not list(home.runs.rglob(NAME))


def test_a_wish_to_stop_still_leaves_a_good_bundle(frame: Make, tmp_path: Path) -> None:
    result = train(
        frame("binary", rows=200),
        spec_of(TrainingSpec(max_epochs=1000, patience=1000)),
        home=Home(tmp_path),
        name="stopped",
        stop=lambda: True,
    )
    assert result.ending == "stopped"
    Predictor(opened(result, Home(tmp_path))).check_golden()


def test_balanced_weights_stay_calibrated_to_the_end(frame: Make, tmp_path: Path) -> None:
    table = frame("binary", rows=1200, seed=5)
    rare = table.filter((pl.col("answer") == "no") | (pl.col("age").cast(pl.Int64) % 4 == 0))
    training = TrainingSpec(width=16, members=2, folds=2, max_epochs=6, class_weights="balanced")
    result = train(rare, spec_of(training), home=Home(tmp_path), name="rare")
    profile = opened(result, Home(tmp_path)).profile()
    share = (rare["answer"] == "yes").mean()
    assert isinstance(share, float)
    assert profile.output.mean == pytest.approx(share, abs=0.06)


def test_rows_without_a_target_are_left_out_and_said_so(frame: Make, tmp_path: Path) -> None:
    table = frame("binary", rows=200)
    holes = table.with_columns(
        pl.when(pl.int_range(pl.len()) % 10 == 0)
        .then(None)
        .otherwise(pl.col("answer"))
        .alias("answer")
    )
    result = train(holes, spec_of(), home=Home(tmp_path), name="holes")
    assert sum(result.rows.values()) == 180
    assert any(finding.code == "no_target" for finding in result.findings)


def test_a_table_that_cannot_be_trained_on_leaves_nothing(frame: Make, tmp_path: Path) -> None:
    table = frame("binary", rows=40).with_columns(pl.lit("yes").alias("answer"))
    with pytest.raises(TableError):
        train(table, spec_of(), home=Home(tmp_path), name="one-class")
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "keep", [["income"], ["city"], ["member"], ["joined"]], ids=lambda kept: kept[0]
)
def test_one_column_of_any_kind_is_enough(frame: Make, tmp_path: Path, keep: list[str]) -> None:
    table = frame("binary", rows=160).select([*keep, "answer"])
    result = train(table, spec_of(), home=Home(tmp_path), name="narrow")
    Predictor(opened(result, Home(tmp_path))).check_golden()


def test_columns_named_like_outputs_are_trained_on(frame: Make, tmp_path: Path) -> None:
    renamed = frame("binary", rows=160).rename(
        {"income": "probabilities", "city": "label", "member": "steadynet/numbers"}
    )
    result = train(renamed, spec_of(), home=Home(tmp_path), name="names")
    Predictor(opened(result, Home(tmp_path))).check_golden()


def test_the_plain_network_trains_too(frame: Make, tmp_path: Path) -> None:
    training = TrainingSpec(network="mlp", width=16, folds=2, max_epochs=6)
    result = train(frame("binary"), spec_of(training), home=Home(tmp_path), name="plain")
    assert result.manifest.notes["network"].startswith("mlp")
    assert result.manifest.metrics["test"]["auc"].value > 0.6


CHILD = """
import sys
from pathlib import Path
from steadynet.home import Home
from steadynet.spec.model import Spec, TableSpec, TrainingSpec
from steadynet.training import loop
from steadynet.table.schema import HIDDEN, NOVELTY
from steadynet.training.run import train

class Tell:
    def on(self, event):
        print(type(event).__name__, flush=True)

loop.CHECKPOINT_EVERY_S = 0.0
training = TrainingSpec(width=16, members=2, folds=2, max_epochs=12, patience=12)
spec = Spec(table=TableSpec(target="answer"), training=training)
train(sys.argv[1], spec, home=Home(Path(sys.argv[2])), name="killed", progress=Tell())
"""


def test_a_killed_run_resumes_and_ends_as_if_it_had_not_been_killed(
    frame: Make, tmp_path: Path
) -> None:
    path = tmp_path / "table.parquet"
    frame("binary", rows=300).write_parquet(path)
    killed, whole = Home(tmp_path / "killed"), Home(tmp_path / "whole")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(killed.root)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert child.stdout is not None
    epochs = 0
    for line in child.stdout:
        epochs += line.strip() == "EpochEnded"
        if epochs == 5:
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert child.returncode == -signal.SIGKILL
    assert list(killed.runs.rglob(NAME))
    assert not list(killed.runs.rglob(MODEL))

    training = TrainingSpec(width=16, members=2, folds=2, max_epochs=12, patience=12)
    recorder = Recorder()
    resumed = train(str(path), spec_of(training), home=killed, name="killed", progress=recorder)
    from_start = train(str(path), spec_of(training), home=whole, name="killed")
    assert any(isinstance(event, Resumed) and event.epoch >= 4 for event in recorder.events)
    assert opened(resumed, killed).read(MODEL) == opened(from_start, whole).read(MODEL)
    assert resumed.history == from_start.history
    assert not list(killed.runs.rglob(NAME))
