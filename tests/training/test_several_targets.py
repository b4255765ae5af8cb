"""One training with targets of three tasks, one of them often missing, from table to answer."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pandas as pd
import polars as pl
import pytest

import steadynet
from steadynet.bundle.manifest import MODEL, SEVERAL_TARGETS, Manifest, TargetRecord
from steadynet.bundle.read import Bundle, verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.cli.train import targets_given
from steadynet.control.candidates import check_replaceable
from steadynet.errors import RolloutError, SpecError, TableError, UserError
from steadynet.home import Home
from steadynet.model import Model
from steadynet.registry.pyfunc import BundleModel
from steadynet.spec.model import Spec, TableSpec, TrainingSpec
from steadynet.table.schema import OUTPUTS, output_names
from steadynet.training import judge
from steadynet.training.record import TrainingFile
from steadynet.training.reference import fit_references
from steadynet.training.run import Trained, train

TINY = TrainingSpec(width=16, members=2, folds=2, max_epochs=3, threads=1)
TARGETS = TableSpec(target="left", more_targets=("spend, €", "tier"))


def table(rows: int = 300, seed: int = 0) -> pl.DataFrame:
    """Return rows whose targets all come from the same hidden score."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 3))
    city = random.choice(["Berlin", "Lyon"], rows)
    score = x[:, 0] + x[:, 1] + (city == "Lyon")
    spend = 100 + 20 * (score + 0.2 * random.normal(size=rows))
    tier = np.array(["basic", "plus", "gold"])[
        np.digitize(score + 0.3 * random.normal(size=rows), [0, 1])
    ]
    return pl.DataFrame(
        {
            **{f"x{place}": x[:, place] for place in range(3)},
            "city": city,
            "left": np.where(score + 0.3 * random.normal(size=rows) > 0.5, "yes", "no"),
            "spend, €": [None if row % 3 == 0 else value for row, value in enumerate(spend)],
            "tier": tier,
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One home for the file."""
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def trained(home: Home) -> Trained:
    """A blend of networks and trees over two folds."""
    return train(table(), Spec(table=TARGETS, training=TINY), home=home, name="clients")


@pytest.fixture(scope="module")
def bundle(trained: Trained, home: Home) -> Bundle:
    """Its verified bundle."""
    return verify_bundle(trained.bundle, signing_key(home).public)


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Model:
    """Its model, whose golden rows were reproduced."""
    return Model(bundle, name="clients", version="1")


def test_the_bundle_says_what_it_knows_of_every_target(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.format_version == SEVERAL_TARGETS
    assert set(manifest.more_targets) == {"spend, €", "tier"}
    spend, tier = manifest.more_targets["spend, €"], manifest.more_targets["tier"]
    assert set(spend.metrics["test"]) == {"rmse", "mae", "r2"}
    assert spend.coverage == 0.9
    assert spend.covered is not None
    assert sum(spend.rows.values()) == 200
    assert sum(tier.rows.values()) == 300
    assert set(tier.references) == {"linear", "boosted_trees"}
    assert tier.decision_threshold is None
    profile = bundle.profile()
    assert set(profile.more_targets["tier"].output.label_counts) == {"basic", "gold", "plus"}
    assert profile.more_targets["spend, €"].loss_mean > 0
    card = (bundle.path / "README.md").read_text()
    assert "## Further target `spend, €`" in card
    assert "### Quality on the test part" in card


def test_every_target_is_learnt(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.metrics["test"]["auc"].value > 0.85
    assert manifest.more_targets["spend, €"].metrics["test"]["r2"].value > 0.7
    assert manifest.more_targets["tier"].metrics["test"]["auc"].value > 0.8


def test_raw_onnxruntime_answers_all_targets_as_the_model_does(model: Model) -> None:
    frame = table(40, seed=1)
    session = onnxruntime.InferenceSession(str(model.bundle.path / MODEL))
    names = [node.name for node in session.get_outputs()]
    names = [name for name in names if not name.startswith("steadynet/")]
    assert names == list(output_names(model.schema))
    feed = {name: frame[name].to_numpy().astype(np.float32)[:, None] for name in ("x0", "x1", "x2")}
    feed["city"] = np.array(frame["city"].to_list(), object)[:, None]
    raw = dict(zip(names, session.run(names, feed), strict=True))
    for name, values in model.answer(frame).items():
        if name.endswith("label"):
            assert values.tolist() == raw[name].tolist()
        else:
            np.testing.assert_array_equal(values, raw[name])


def test_predictions_come_in_the_order_of_the_targets(model: Model) -> None:
    frame = table(25, seed=2)
    answers = model.answer(frame)
    assert model.targets == ("left", "spend, €", "tier")
    together = model.predict(frame)
    assert together.shape == (25, 3)
    assert together[:, 0].tolist() == answers["label"].tolist()
    np.testing.assert_array_equal(together[:, 1].astype(np.float32), answers["spend, €/prediction"])
    assert together[:, 2].tolist() == model.predict(frame, target="tier").tolist()
    np.testing.assert_array_equal(
        model.predict_proba(frame, target="tier"), answers["tier/probabilities"]
    )
    low_high = model.predict_interval(frame, target="spend, €")
    assert low_high.shape == (25, 2)
    assert (low_high[:, 0] <= answers["spend, €/prediction"]).all()


def test_a_question_that_a_target_has_no_answer_to_names_it(model: Model) -> None:
    with pytest.raises(UserError, match="predicts a number for 'spend, €'"):
        model.predict_proba(table(5))
    with pytest.raises(UserError, match="predicts classes for 'left'"):
        model.predict_interval(table(5))
    with pytest.raises(UserError, match="no target 'teir'"):
        model.predict(table(5), target="teir")


def test_mlflow_gets_a_column_per_output(bundle: Bundle) -> None:
    frame = table(10, seed=3)
    pandas = pd.DataFrame({name: frame[name].to_list() for name in ("x0", "x1", "x2", "city")})
    answers = BundleModel(bundle).predict(pandas)
    assert list(answers) == [
        *("label", "probability_no", "probability_yes"),
        *("spend, €/prediction", "spend, €/lower", "spend, €/upper"),
        *("tier/label", "tier/probability_basic", "tier/probability_gold", "tier/probability_plus"),
    ]
    steady = Model(bundle, name="clients", version="1").answer(frame)
    np.testing.assert_allclose(answers["spend, €/upper"], steady["spend, €/upper"], rtol=1e-6)


def test_a_training_goes_on_from_all_targets(bundle: Bundle, home: Home) -> None:
    grown = train(
        table(300, seed=4),
        Spec(training=msgspec.structs.replace(TINY, trees="never")),
        home=home,
        name="clients",
        start_from=bundle,
    )
    assert [target.name for target in grown.manifest.schema.targets] == ["left", "spend, €", "tier"]
    earlier = msgspec.json.decode(bundle.read("training.json"), type=TrainingFile)
    later = msgspec.json.decode((grown.bundle / "training.json").read_bytes(), type=TrainingFile)
    assert earlier.more_heads[0].scale == later.more_heads[0].scale  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"table\.more_targets are not the parent's"):
        train(
            table(),
            Spec(table=TableSpec(more_targets=("tier",)), training=TINY),
            home=home,
            name="clients",
            start_from=bundle,
        )


def test_a_successor_must_predict_every_target_alike(bundle: Bundle) -> None:
    manifest = bundle.manifest
    check_replaceable(manifest, manifest)
    fewer = manifest.about(manifest.schema.target)
    check_replaceable(fewer, manifest)
    with pytest.raises(RolloutError, match="further target 'spend, €' alike"):
        check_replaceable(manifest, fewer)
    renamed = msgspec.structs.replace(manifest.schema.more_targets[1], classes=("basic", "gold"))
    other = msgspec.structs.replace(
        manifest.schema, more_targets=(manifest.schema.more_targets[0], renamed)
    )
    with pytest.raises(RolloutError, match="multiclass 'tier' of 3 classes"):
        check_replaceable(manifest, msgspec.structs.replace(manifest, schema=other))


def test_one_thread_fits_the_references_of_every_target(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They keep warnings quiet meanwhile, which is a matter of the whole process."""
    threads: list[threading.Thread] = []

    def seen(*given: Any, **named: Any) -> dict[str, dict[str, float]]:
        threads.append(threading.current_thread())
        return fit_references(*given, **named)

    monkeypatch.setattr(judge, "fit_references", seen)
    short = msgspec.structs.replace(TINY, max_epochs=1, trees="never", pictures=False)
    made = train(table(120), Spec(table=TARGETS, training=short), home=home, name="references")
    assert len(threads) == 3
    assert len(set(threads)) == 1
    more = [record.references for record in made.manifest.more_targets.values()]
    for references in (made.manifest.references, *more):
        assert set(references) == {"linear", "boosted_trees"}
    assert "r2" in made.manifest.more_targets["spend, €"].references["linear"]


def test_a_target_that_no_row_of_a_part_has_is_refused(home: Home) -> None:
    frame = table()
    rows = list(range(frame.height))
    only_early = [value if row < 150 else None for row, value in enumerate(frame["tier"])]
    sorted_by_time = frame.with_columns(
        when=pl.Series(rows), tier=pl.Series(only_early, dtype=pl.String)
    )
    spec = Spec(table=TARGETS, training=TINY)
    spec = msgspec.structs.replace(
        spec, split=msgspec.structs.replace(spec.split, time_column="when")
    )
    with pytest.raises(TableError, match="test part has a value of the further target 'tier'"):
        train(sorted_by_time, spec, home=home, name="early")


def test_one_target_is_written_as_the_first_version_of_the_format(
    home: Home, tmp_path: Path
) -> None:
    model = steadynet.train(
        table(120),
        target="tier",
        settings={"table.drop": ["left", "spend, €"], "training.trees": "never"}
        | {f"training.{key}": getattr(TINY, key) for key in ("width", "members", "max_epochs")},
        home=Home(tmp_path),
    )
    assert model.manifest.format_version == 1
    assert "more_targets" not in (model.bundle.path / "manifest.json").read_text()
    assert model.predict_proba(table(4)).shape == (4, 3)
    assert tuple(model.answer(table(4))) == OUTPUTS["multiclass"]


def test_one_name_is_the_main_target_and_the_specs_further_ones_stay(tmp_path: Path) -> None:
    short = msgspec.structs.replace(TINY, max_epochs=1, trees="never", pictures=False)
    spec = Spec(table=TableSpec(target="left", more_targets=("tier",), drop=("spend, €",)))
    spec = msgspec.structs.replace(spec, training=short)
    home = Home(tmp_path)
    model = steadynet.train(table(120), target="left", spec=spec, home=home)
    assert model.targets == ("left", "tier")
    alone = steadynet.train(table(120), target=["left"], spec=spec, home=home)
    assert alone.targets == ("left",)
    assert targets_given(["left"]) == {"table.target": "left"}
    assert targets_given(["left", "tier"]) == {
        "table.target": "left", "table.more_targets": ["tier"],
    }  # fmt: skip
    with pytest.raises(SpecError, match=r"table\.more_targets"):
        steadynet.train(table(120), target="tier", spec=spec, home=home)


def test_a_manifest_about_a_target_is_that_of_a_model_of_it_alone(bundle: Bundle) -> None:
    manifest = bundle.manifest
    for target in manifest.schema.targets:
        about = manifest.about(target)
        assert about.schema.targets == (target,)
        assert about.more_targets == {}
    record = manifest.more_targets["tier"]
    about = manifest.about(manifest.schema.more_targets[1])
    for name in set(TargetRecord.__struct_fields__) - {"rows"}:
        assert name in Manifest.__struct_fields__
        assert getattr(about, name) == getattr(record, name)
