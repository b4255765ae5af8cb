"""What is said of real tables, as their readers would have it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from steadynet.errors import TableError
from steadynet.spec.model import SplitSpec, TableSpec
from steadynet.table.convert import encode_target, to_columns
from steadynet.table.infer import infer_schema
from steadynet.table.quality import check_quality, errors_of
from steadynet.table.read import read_table
from steadynet.table.schema import Schema
from steadynet.table.split import split_rows

TASKS = {
    "telco_churn": ("binary", ("No", "Yes")),
    "bank_additional": ("binary", ("no", "yes")),
    "german_credit": ("binary", ("1", "2")),
    "diabetes_130": ("multiclass", ("<30", ">30", "NO")),
    "california_housing": ("regression", ()),
    "bike_sharing_hour": ("regression", ()),
    "wine_quality": ("regression", ()),
    "elec2": ("binary", ("DOWN", "UP")),
    "cmapss_fd001": ("regression", ()),
}

LEFT_OUT = {
    "telco_churn": {"customerID": "identifier"},
    "bank_additional": {},
    "german_credit": {},
    "diabetes_130": {
        "encounter_id": "identifier",
        "patient_nbr": "identifier",
        "examide": "constant",
        "citoglipton": "constant",
    },
    "california_housing": {},
    "bike_sharing_hour": {"instant": "identifier"},
    "wine_quality": {},
    "elec2": {},
    "cmapss_fd001": dict.fromkeys(("setting3", "s1", "s5", "s10", "s16", "s18", "s19"), "constant"),
}


class Known(NamedTuple):
    """A real table with its inferred schema."""

    frame: pl.DataFrame
    schema: Schema


def load(folder: Path, name: str) -> Known:
    """Read and infer a real table."""
    meta = json.loads((folder / name / "meta.json").read_text())
    table = TableSpec(target=meta["target"])
    frame = read_table(folder / name / meta["file"], table)
    return Known(frame, infer_schema(frame, table, SplitSpec()))


Load = Callable[[str], Known]


@pytest.fixture(scope="session")
def real_table(real_data: Path) -> Load:
    """Loads a real table once for all tests."""
    loaded: dict[str, Known] = {}

    def get(name: str) -> Known:
        if name not in loaded:
            loaded[name] = load(real_data, name)
        return loaded[name]

    return get


@pytest.mark.parametrize("name", list(TASKS))
def test_a_real_table_goes_all_the_way(real_table: Load, name: str) -> None:
    frame, schema = real_table(name)
    assert (schema.target.task, schema.target.classes) == TASKS[name]
    assert {column.name: column.kind for column in schema.left_out} == LEFT_OUT[name]
    columns = to_columns(frame, schema)
    target = encode_target(frame, schema)
    split = split_rows(frame, schema, SplitSpec())
    assert errors_of(check_quality(frame, schema, split)) == ()
    assert {len(values) for values in columns.values()} == {len(target)} == {frame.height}
    for column in schema.features:
        values = columns[column.name]
        if values.dtype == np.float32:
            missing = float(np.isnan(values).mean())
            assert missing == pytest.approx(column.missing_share)


def test_telco_total_charges_are_numbers_with_blanks(real_table: Load) -> None:
    schema = real_table("telco_churn").schema
    column = next(column for column in schema.columns if column.name == "TotalCharges")
    assert column.kind == "number"
    assert "missing in 11 of 7043" in column.reason


def test_bike_days_are_dates_and_the_sum_is_seen(real_table: Load) -> None:
    frame, schema = real_table("bike_sharing_hour")
    kinds = {column.name: column.kind for column in schema.columns}
    assert kinds["dteday"] == "datetime"
    findings = check_quality(frame, schema, split_rows(frame, schema, SplitSpec()))
    assert [finding.code for finding in findings if finding.level == "warning"] == ["leak_sum"]


def test_diabetes_codes_are_categories(real_table: Load) -> None:
    schema = real_table("diabetes_130").schema
    kinds = {column.name: column.kind for column in schema.columns}
    for name in ("admission_type_id", "diag_1", "medical_specialty", "weight"):
        assert kinds[name] == "category"
    patient = next(column for column in schema.columns if column.name == "patient_nbr")
    assert "split.group_column = 'patient_nbr'" in patient.reason


def test_wine_duplicates_are_seen(real_table: Load) -> None:
    frame, schema = real_table("wine_quality")
    findings = check_quality(frame, schema, split_rows(frame, schema, SplitSpec()))
    assert {finding.code for finding in findings} == {
        "duplicates_in_validation",
        "duplicates_in_test",
    }


def test_messages_alone_are_no_table_yet(real_data: Path) -> None:
    with pytest.raises(TableError, match=r"no column is left to predict from.*1 text"):
        load(real_data, "sms_spam")
