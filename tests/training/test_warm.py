"""Going on from a bundle: the same answers at first, better ones later, and clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load

from steadynet.bundle.manifest import TRAINING, WEIGHTS
from steadynet.bundle.read import Bundle, verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.errors import SteadynetError, TableError, TrainingError, UserError
from steadynet.home import Home
from steadynet.model import Model
from steadynet.networks.growth import NEW, Growth, growth_between
from steadynet.spec.losses import Loss
from steadynet.spec.model import Spec, TableSpec, TrainingSpec
from steadynet.table.layout import FeatureLayout
from steadynet.training.record import TrainingFile
from steadynet.training.run import train

Make = Callable[..., pl.DataFrame]
STEADY = TrainingSpec(
    width=16, members=2, max_epochs=6, learning_rate=1e-12, weight_decay=0.0, trees="never"
)
"""Steps so small that nothing is learnt."""
QUICK = TrainingSpec(width=16, members=2, max_epochs=8)


def spec_of(training: TrainingSpec = QUICK, **table: Any) -> Spec:
    """Return a spec for the made tables."""
    return Spec(table=TableSpec(target="answer", **table), training=training)


def trained(table: pl.DataFrame, home: Home, **more: Any) -> Bundle:
    """Train and return the verified bundle."""
    spec = more.pop("spec", spec_of())
    result = train(table, spec, home=home, name="warm", **more)
    return verify_bundle(result.bundle, signing_key(home).public)


def answers(bundle: Bundle, table: pl.DataFrame) -> dict[str, np.ndarray]:
    """Answer a table by a bundle, labels and intervals left out."""
    found = Model(bundle, name="warm", version="1").answer(table)
    return {name: found[name] for name in ("probabilities", "prediction") if name in found}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("folds", [1, 3])
def test_before_any_step_the_child_answers_as_its_parent(
    frame: Make, tmp_path: Path, task: str, folds: int
) -> None:
    home = Home(tmp_path)
    table = frame(task, rows=300)
    fitted = TrainingSpec(width=16, members=2, max_epochs=4, folds=folds, trees="never")
    parent = trained(table, home, spec=spec_of(fitted))
    later = frame(task, rows=260, seed=7)
    grown = later.with_columns(
        pl.int_range(pl.len()).mod(7).cast(pl.Utf8).alias("shelf"),
        pl.int_range(pl.len()).mod(5).alias("weight"),
        pl.when(pl.int_range(pl.len()) % 9 == 0)
        .then(pl.lit("Oslo"))
        .otherwise(pl.col("city"))
        .alias("city"),
        pl.when(pl.int_range(pl.len()) % 11 == 0).then(None).otherwise(pl.col("age")).alias("age"),
    )
    spec = spec_of(STEADY)
    child = trained(grown, home, spec=spec, start_from=parent)
    assert child.manifest.provenance.parent == parent.manifest_sha256
    before, after = answers(parent, later), answers(child, grown.with_columns(city=later["city"]))
    if task == "regression":
        scale = float(before["prediction"].std())
        same = grown["age"].is_not_null().to_numpy()
        apart = np.abs(before["prediction"] - after["prediction"])[same]
        assert apart.max() < 1e-4 * scale
    else:
        same = grown["age"].is_not_null().to_numpy()
        order = np.argsort(before["probabilities"][same, -1], kind="stable")
        # Calibration is fitted anew, so that the order is what stays.
        moved = after["probabilities"][same, -1][order]
        if task == "binary":
            assert (np.diff(moved) >= -1e-6).all()


def test_going_on_beats_the_parent_and_a_fresh_start_on_few_new_rows(tmp_path: Path) -> None:
    def world(rows: int, seed: int, shift: float) -> pl.DataFrame:
        random = np.random.default_rng(seed)
        x = random.normal(size=(rows, 6))
        wave = np.sin(2 * x[:, 0]) * x[:, 1] + np.cos(2 * x[:, 2]) + 0.5 * np.abs(x[:, 3])
        target = wave + shift * x[:, 4] + 0.1 * random.normal(size=rows)
        columns = {f"x{place}": x[:, place] for place in range(6)}
        return pl.DataFrame({**columns, "answer": target})

    home, training = Home(tmp_path), TrainingSpec(width=32, members=2)
    parent = trained(world(5000, 0, 0.0), home, spec=spec_of(training))
    news, fresh = world(400, 1, 0.6), world(3000, 2, 0.6)
    child = trained(news, home, spec=spec_of(training), start_from=parent)
    anew = trained(news, home, spec=spec_of(training))
    errors = {
        name: float(
            np.sqrt(np.square(answers(bundle, fresh)["prediction"] - fresh["answer"]).mean())
        )
        for name, bundle in {"parent": parent, "child": child, "anew": anew}.items()
    }
    assert errors["child"] < 0.85 * errors["parent"]
    assert errors["child"] < 0.85 * errors["anew"]


def test_what_does_not_continue_the_parent_is_refused(frame: Make, tmp_path: Path) -> None:
    home = Home(tmp_path)
    table = frame("binary", rows=200)
    parent = trained(table, home)
    later = frame("binary", rows=200, seed=3)
    cases: list[tuple[pl.DataFrame, Spec, type[Exception], str]] = [
        (later.drop("income"), spec_of(), TableError, "income"),
        (later.head(31), spec_of(), TableError, "too few rows"),
        (
            later.with_columns(pl.col("answer").replace("yes", "maybe")),
            spec_of(),
            UserError,
            "maybe|yes",
        ),
        (later, spec_of(TrainingSpec(preset="balanced")), UserError, "one network"),
        (later, Spec(table=TableSpec(target="city")), UserError, "table.target"),
        (later, spec_of(positive_class="no"), UserError, "table.positive_class"),
        (later, spec_of(TrainingSpec(width=32)), UserError, "training.width"),
        (later, spec_of(TrainingSpec(members=3)), UserError, "training.members"),
        (later, spec_of(TrainingSpec(depth=4)), UserError, "training.depth"),
        (later, spec_of(TrainingSpec(network="tabm")), UserError, "training.network"),
        (later, spec_of(TrainingSpec(folds=5)), UserError, "training.folds is not the parent's"),
        (later.drop("age"), spec_of(), TableError, "the parent reads are missing; expected age"),
        (later, spec_of(drop=("age",)), TableError, "the parent reads are dropped; expected age"),
        (later.with_columns(pl.lit("many").alias("age")), spec_of(), TableError, "age"),
    ]
    for changed, spec, kind, words in cases:
        with pytest.raises(kind, match=words) as refused:
            trained(changed, home, spec=spec, start_from=parent)
        assert isinstance(refused.value, SteadynetError)
        assert refused.value.do, words


def test_of_a_blend_its_network_is_gone_on_from(frame: Make, tmp_path: Path) -> None:
    home = Home(tmp_path)
    table = frame("regression", rows=300)
    blend = trained(table, home)
    child = trained(table, home, spec=spec_of(STEADY), start_from=blend)
    for name, value in load(child.read(WEIGHTS)).items():
        kept = load(blend.read(WEIGHTS))[name]
        np.testing.assert_allclose(value, kept, atol=1e-6)


def test_a_network_that_trees_left_out_is_kept_to_go_on_from(tmp_path: Path) -> None:
    home = Home(tmp_path)
    place = np.random.default_rng(0).uniform(0, 15, 900)
    stripes = pl.DataFrame({"place": place, "answer": place.astype(int) % 2})
    tiny = TrainingSpec(width=1, members=1, max_epochs=1, folds=1)
    result = train(stripes, spec_of(tiny), home=home, name="warm")
    assert {share.name: share.weight for share in result.shares}["network"] == 0
    trees = verify_bundle(result.bundle, signing_key(home).public)
    steady = spec_of(msgspec.structs.replace(STEADY, max_epochs=1, width=None, members=None))
    child = trained(stripes, home, spec=steady, start_from=trees)
    for name, value in load(child.read(WEIGHTS)).items():
        np.testing.assert_allclose(value, load(trees.read(WEIGHTS))[name], atol=1e-6)


def test_a_child_of_a_child_keeps_weights_loss_and_class_weights(
    frame: Make, tmp_path: Path
) -> None:
    home = Home(tmp_path)
    table = frame("binary", rows=300)
    asked = TrainingSpec(
        width=16, members=2, max_epochs=2, trees="never", loss="focal", focal_gamma=1.5,
        class_weights={"yes": 3.0}, metric="auc",
    )  # fmt: skip
    found = trained(table, home, spec=spec_of(asked))
    first = load(found.read(WEIGHTS))
    for seed in (1, 2):
        later = frame("binary", rows=260, seed=seed)
        found = trained(later, home, spec=spec_of(STEADY), start_from=found)
    training = msgspec.json.decode(found.read(TRAINING), type=TrainingFile).training
    assert (training.loss, training.focal_gamma) == ("focal", 1.5)
    assert training.class_weights == {"yes": 3.0}
    assert training.metric == "auc"
    assert found.manifest.loss == Loss(name="focal", parameter=1.5)
    last = load(found.read(WEIGHTS))
    for name in ("network/matrices.1", "network/heads"):
        np.testing.assert_allclose(last[name], first[name], atol=1e-6)


def test_the_scale_of_the_parents_answers_stays(frame: Make, tmp_path: Path) -> None:
    home = Home(tmp_path)
    table = frame("regression", rows=200)
    counts = table.with_columns(pl.col("answer").cast(pl.Float64).round())
    tiny = TrainingSpec(width=8, members=1, max_epochs=1, trees="never", loss="poisson")
    parent = trained(counts, home, spec=spec_of(tiny))
    for changed in (TrainingSpec(loss="squared"), TrainingSpec(target_transform="log")):
        with pytest.raises(UserError, match=r"training\.(loss|target_transform)"):
            trained(counts, home, spec=spec_of(changed), start_from=parent)


def test_growth_maps_by_name_and_starts_new_categories_as_unknown() -> None:
    before = FeatureLayout(
        numbers=("a", "b"), number_sources=("a", "b"), categories=("k", "l"), cardinalities=(3, 4)
    )
    now = FeatureLayout(
        numbers=("b", "new", "a"),
        number_sources=("b", "new", "a"),
        categories=("m", "l", "k"),
        cardinalities=(2, 4, 5),
    )
    found = growth_between(before, now)
    assert found.numbers == (1, NEW, 0)
    assert found.categories == (NEW, 1, 0)
    assert found.entries == (NEW, NEW, 3, 4, 5, 6, 0, 1, 2, 1, 1)
    assert growth_between(before, before) == Growth.none(before)
    with pytest.raises(TrainingError, match="gone"):
        growth_between(now, before)


def test_the_parents_sizes_stay_and_are_not_written_as_the_users(
    frame: Make, tmp_path: Path
) -> None:
    home = Home(tmp_path)
    table = frame("binary", rows=200)
    tiny = TrainingSpec(width=24, depth=1, members=3, max_epochs=1, trees="never")
    parent = trained(table, home, spec=spec_of(tiny))
    unset = spec_of(TrainingSpec(max_epochs=1, trees="never"))
    for named in (unset, spec_of(tiny)):
        child = trained(table, home, spec=named, start_from=parent)
        record = msgspec.json.decode(child.read(TRAINING), type=TrainingFile)
        asked = named.training
        assert (record.plan.size.width, record.plan.size.depth) == (24, 1)
        assert record.plan.size.members == 3
        written = record.training
        assert (written.width, written.depth, written.members) == (
            asked.width, asked.depth, asked.members,
        )  # fmt: skip
