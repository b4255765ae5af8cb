"""Real tables with nothing but file, target and what leaks: at least the linear model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from steadynet.bundle.read import verify_bundle
from steadynet.bundle.sign import ensure_key
from steadynet.home import Home
from steadynet.runtime.predictor import Predictor
from steadynet.spec.model import Spec, TableSpec, TrainingSpec
from steadynet.table.convert import encode_target, to_columns
from steadynet.table.read import read_table
from steadynet.table.split import split_rows
from steadynet.training.run import train

DATA = Path(
    os.environ.get("STEADYNET_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the real tables are not at {DATA}; set STEADYNET_TEST_DATA"
)


@needs_data
@pytest.mark.parametrize(
    ("table", "target"),
    [
        ("german_credit/german_credit.csv", "class"),
        pytest.param("telco_churn/telco_churn.csv", "Churn", marks=pytest.mark.slow),
    ],
)
def test_classes_are_told_apart_as_well_as_by_the_references(
    tmp_path: Path, table: str, target: str
) -> None:
    spec = Spec(table=TableSpec(target=target))
    result = train(str(DATA / table), spec, home=Home(tmp_path), name="real")
    network = result.manifest.metrics["test"]["auc"].value
    for reference in result.manifest.references.values():
        assert network >= reference["auc"] - 0.01
    assert result.manifest.metrics["test"]["log_loss"].value < 0.56


@needs_data
def test_numbers_are_predicted_better_than_by_a_line(tmp_path: Path) -> None:
    table = DATA / "bike_sharing_hour" / "bike_sharing_hour.csv"
    spec = Spec(
        table=TableSpec(target="cnt", drop=("casual", "registered")),
        training=TrainingSpec(width=32, members=4, max_epochs=10),
    )
    result = train(str(table), spec, home=Home(tmp_path), name="bikes")
    metrics = result.manifest.metrics["test"]
    assert metrics["rmse"].value < 0.6 * result.manifest.references["linear"]["rmse"]
    bundle = verify_bundle(result.bundle, ensure_key(Home(tmp_path)).public)
    schema = bundle.manifest.schema
    frame = read_table(str(table), spec.table)
    rows = split_rows(frame, schema, spec.split).test
    columns = {name: values[rows] for name, values in to_columns(frame, schema).items()}
    answers = Predictor(bundle).run(columns)
    truth = encode_target(frame, schema)[rows]
    inside = np.mean((answers["lower"] <= truth) & (truth <= answers["upper"]))
    assert 0.87 <= inside <= 0.93
