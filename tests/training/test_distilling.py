"""A network taught by a blend: alone in the graph, never taught what it is checked on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
import torch

from steadynet.bundle.manifest import TRAINING
from steadynet.bundle.read import verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.errors import SpecError
from steadynet.features.fit import fit_features
from steadynet.features.run import run_features
from steadynet.home import Home
from steadynet.spec.model import Spec, SplitSpec, TableSpec, TrainingSpec
from steadynet.training.component_fits import FitContext
from steadynet.training.data import TargetCode
from steadynet.training.distilling import fit_student
from steadynet.training.objective import lesson_loss
from steadynet.training.prepare import prepare
from steadynet.training.progress import Silent
from steadynet.training.record import TrainingFile
from steadynet.training.run import train

Make = Callable[..., pl.DataFrame]
TAUGHT = TrainingSpec(width=8, members=2, max_epochs=4, folds=2, distill=True)
CONTEXT = FitContext(checkpoints=None, progress=Silent(), stop=lambda: False)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_network_alone_becomes_the_graph(frame: Make, tmp_path: Path, task: str) -> None:
    spec = Spec(table=TableSpec(target="answer"), training=TAUGHT)
    home = Home(tmp_path)
    trained = train(frame(task, rows=300), spec, home=home, name="taught")
    lesson = trained.lesson
    assert lesson is not None
    assert {share.name for share in lesson.teacher} == {"network", "trees"}
    assert trained.shares[0].loss == min(lesson.taught_loss, lesson.untaught_loss)
    bundle = verify_bundle(trained.bundle, signing_key(home).public)
    record = msgspec.json.decode(bundle.read(TRAINING), type=TrainingFile)
    assert [component.name for component in record.components] == ["network"]
    assert b"TreeEnsemble" not in bundle.model_path.read_bytes()
    assert "taught by it" in trained.manifest.notes["teacher"]
    assert not list(trained.bundle.parent.glob("*/checkpoint*"))


def test_nobody_is_taught_by_who_saw_the_row_nor_checked_on_what_the_teacher_saw(
    frame: Make,
) -> None:
    spec = Spec(table=TableSpec(target="answer"), training=TAUGHT)
    table = prepare(frame("regression", rows=300), spec)
    features = fit_features(table.part(table.split.train), table.schema)
    tensors = run_features(features, table.columns)
    fitted = fit_student(tensors, features.layout, table, spec, CONTEXT)
    folds = fitted.ground.folds
    np.testing.assert_array_equal(folds.held[0], table.split.validation)
    assert set(folds.fit[0]) <= set(table.split.train)
    taught = fitted.ground.data.taught
    assert taught is not None
    assert not taught[table.split.validation].any()
    assert not taught[table.split.test].any()
    assert bool((taught[folds.fit[0]] != 0).all())


@pytest.mark.parametrize("split", [SplitSpec(time_column="day"), SplitSpec(group_column="city")])
def test_rows_in_an_order_or_in_groups_are_refused(
    frame: Make, tmp_path: Path, split: SplitSpec
) -> None:
    rows = frame("binary", rows=300)
    table = rows.with_columns(day=pl.int_range(pl.len()))
    spec = Spec(table=TableSpec(target="answer"), split=split, training=TAUGHT)
    with pytest.raises(SpecError, match="at random"):
        train(table, spec, home=Home(tmp_path), name="taught")


@pytest.mark.parametrize(("classes", "count"), [(2, 1), (3, 3)])
def test_a_lesson_is_learnt_where_the_probabilities_are_the_teachers(
    classes: int, count: int
) -> None:
    code = TargetCode(
        "binary" if classes == 2 else "multiclass", count, classes, 0.0, 1.0, (1.0,) * classes
    )
    generator = torch.Generator().manual_seed(0)
    taught = torch.rand(2, 5, classes, generator=generator)
    taught = taught / taught.sum(-1, keepdim=True)
    logs = taught.log()
    same = logs[..., 1:] - logs[..., :1] if count == 1 else logs
    equal = same[:, :, None].repeat(1, 1, 3, 1)
    least = lesson_loss(equal, taught, code)
    entropy = -(taught * logs).sum(-1).mean(1)
    torch.testing.assert_close(least, entropy)
    apart = equal + 0.3 * torch.randn(equal.shape, generator=generator)
    assert bool((lesson_loss(apart, taught, code) > least).all())


def test_students_are_judged_by_the_loss_where_validation_rows_have_no_score(frame: Make) -> None:
    # Two rows of a class: both train, so that validation has none of it and no AUC.
    rows = frame("multiclass", rows=300)
    answer = pl.when(pl.int_range(pl.len()) < 2).then(pl.lit("rare")).otherwise("answer")
    training = msgspec.structs.replace(TAUGHT, metric="auc", trees="never")
    spec = Spec(table=TableSpec(target="answer"), training=training)
    table = prepare(rows.with_columns(answer.alias("answer")), spec)
    assert not (table.target[table.split.validation] == table.classes.index("rare")).any()
    features = fit_features(table.part(table.split.train), table.schema)
    tensors = run_features(features, table.columns)
    fitted = fit_student(tensors, features.layout, table, spec, CONTEXT)
    assert fitted.ground.code.metric == "auto"
    losses = [epoch.held_loss for epoch in fitted.first.result.history]
    assert max(losses) < 100
    assert len(set(losses)) > 1
