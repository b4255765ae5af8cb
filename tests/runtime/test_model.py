"""The Python face: one verified bundle, every form of rows, the same answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import steadynet
from steadynet.bundle.read import Bundle
from steadynet.bundle.sign import ensure_key
from steadynet.errors import BundleTampered, InputError, UnknownModel, UserError
from steadynet.home import Home
from steadynet.model import Model, load
from steadynet.registry.local import LocalRegistry
from steadynet.runtime.predictor import CHUNK_ROWS, Predictor

Rows = list[dict[str, Any]]
MakeRows = Callable[[int, int], Rows]
MakeBundle = Callable[..., Bundle]


@pytest.fixture
def model(tiny_bundle: Bundle, home: Home) -> Model:
    """The tiny binary bundle, loaded by its path."""
    return load(tiny_bundle.path, home=home)


def test_what_the_package_offers_is_a_list() -> None:
    assert (
        sorted(dir(steadynet))
        == sorted(steadynet.__all__)
        == [
            "Model",
            "NetClassifier",
            "NetRegressor",
            "__version__",
            "load",
            "train",
        ]
    )
    for name in steadynet.__all__:
        assert getattr(steadynet, name)
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        steadynet.__getattr__("fit")


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import steadynet; "
        "print(*sorted(m.split('.')[0] for m in set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    third_party = {"numpy", "msgspec", "onnxruntime", "torch", "polars", "pandas", "sklearn"}
    assert "steadynet" in done.stdout.split()
    assert not third_party & set(done.stdout.split())


def test_every_form_of_rows_gets_the_same_answers(model: Model, make_rows: MakeRows) -> None:
    rows = make_rows(40, 1)
    predictor = Predictor(model.bundle)
    wanted = predictor.run(predictor.decoder.rows(rows))
    names = list(rows[0])
    lists = {name: [row[name] for row in rows] for name in names}
    forms: dict[str, object] = {
        "rows": rows,
        "tuple of rows": tuple(rows),
        "lists": lists,
        "pandas": pd.DataFrame(rows),
        "polars": pl.DataFrame(rows),
        "arrow": pl.DataFrame(rows).to_arrow(),
    }
    for form, data in forms.items():
        answers = model.answer(data)
        np.testing.assert_array_equal(answers["label"], wanted["label"], err_msg=form)
        np.testing.assert_allclose(
            answers["probabilities"], wanted["probabilities"], atol=1e-5, err_msg=form
        )
    assert model.predict(rows[0]).tolist() == wanted["label"][:1].tolist()


def test_files_are_tables(model: Model, make_rows: MakeRows, tmp_path: Path) -> None:
    rows = make_rows(10, 2)
    frame = pl.DataFrame(rows)
    frame.write_csv(tmp_path / "rows.csv")
    frame.write_parquet(tmp_path / "rows.parquet")
    wanted = model.predict_proba(rows)
    for name in ("rows.csv", "rows.parquet"):
        np.testing.assert_allclose(model.predict_proba(tmp_path / name), wanted, atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(str(tmp_path / "rows.csv")), wanted, atol=1e-5)


def test_many_rows_go_through_in_parts(model: Model, make_rows: MakeRows) -> None:
    rows = make_rows(2 * CHUNK_ROWS + 25, 3)
    parts = model.answer(rows)
    last = model.answer(rows[-30:])
    assert len(parts["label"]) == len(rows)
    np.testing.assert_array_equal(parts["label"][-30:], last["label"])
    np.testing.assert_allclose(parts["probabilities"][-30:], last["probabilities"], atol=1e-6)


def test_a_classifier_has_probabilities_and_no_interval(model: Model, make_rows: MakeRows) -> None:
    rows = make_rows(6, 1)
    assert model.classes == ("legit", "fraud")
    np.testing.assert_allclose(model.predict_proba(rows).sum(axis=1), 1, atol=1e-6)
    with pytest.raises(UserError, match="predicts classes"):
        model.predict_interval(rows)
    assert "binary of 'fraud'" in repr(model)


def test_a_regression_has_an_interval_and_no_probabilities(
    make_bundle: MakeBundle, make_rows: MakeRows, home: Home
) -> None:
    regression = load(make_bundle(task="regression").path, home=home)
    rows = make_rows(6, 1)
    interval = regression.predict_interval(rows)
    assert interval.shape == (6, 2)
    assert np.all(interval[:, 0] < regression.predict(rows))
    assert np.all(interval[:, 1] > regression.predict(rows))
    with pytest.raises(UserError, match="predicts a number"):
        regression.predict_proba(rows)


def test_a_version_is_loaded_by_its_reference(make_bundle: MakeBundle, home: Home) -> None:
    local = LocalRegistry(home)
    for version in ("1", "2"):
        local.add(make_bundle(seed=int(version)), "payments", version)
    assert load("payments", home=home).version == "1"
    assert load("payments/2", home=home).version == "2"
    with pytest.raises(UnknownModel, match="Did you mean 'payments'"):
        load("payment", home=home)


def test_a_bundle_that_was_tampered_with_is_not_loaded(tiny_bundle: Bundle, home: Home) -> None:
    (tiny_bundle.path / "golden.jsonl").write_bytes(b"")
    with pytest.raises(BundleTampered, match=r"golden\.jsonl was changed"):
        load(tiny_bundle.path, home=home)


def test_a_foreign_bundle_needs_its_signers_key(
    tiny_bundle: Bundle, home: Home, tmp_path: Path
) -> None:
    other = Home(tmp_path / "other")
    with pytest.raises(UserError, match="Copy it from the machine that signed"):
        load(tiny_bundle.path, home=other)
    assert load(tiny_bundle.path, home=other, key=ensure_key(home).public)


def test_a_column_that_is_missing_is_named(model: Model, make_rows: MakeRows) -> None:
    frame = pd.DataFrame(make_rows(5, 1)).drop(columns="new_card")
    with pytest.raises(InputError, match="new_card"):
        model.predict(frame)
    with pytest.raises(InputError, match="no rows"):
        model.predict([])
    with pytest.raises(UserError, match="no rows"):
        model.predict(pl.DataFrame({name: [] for name in ("amount", "label")}))
