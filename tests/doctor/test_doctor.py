"""Every fault that is put into a clean table is found, with its rows; without one it is quiet."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import polars as pl
import pytest

from steadynet.doctor.check import check_table
from steadynet.doctor.labels import suspects_of_classes, suspects_of_numbers
from steadynet.doctor.report import Report, Symptom
from steadynet.doctor.shift import Cells, columns_in_order
from steadynet.spec.model import Spec, SplitSpec, TableSpec

ROWS = 1500
SPEC = Spec(table=TableSpec(target="y"))


def clean(seed: int = 0, *, numeric: bool = False) -> pl.DataFrame:
    """Return a table whose target follows from three columns, with some noise."""
    random = np.random.default_rng(seed)
    size = random.normal(size=ROWS).round(3)
    weight = random.lognormal(2, 0.4, ROWS).round(2)
    color = random.choice(["red", "green", "blue"], ROWS)
    score = 2.5 * size + 2 * (color == "red") - weight / 5
    frame = pl.DataFrame(
        {"size": size, "weight": weight, "color": color, "noise": random.normal(size=ROWS).round(3)}
    )
    if numeric:
        return frame.with_columns(y=pl.Series((score + 0.3 * random.normal(size=ROWS)).round(3)))
    chance = 1 / (1 + np.exp(-3 * score))
    return frame.with_columns(y=pl.Series(np.where(random.random(ROWS) < chance, "yes", "no")))


def found(report: Report, code: str) -> Symptom | None:
    """Return the symptom of a code."""
    return next((symptom for symptom in report.symptoms if symptom.code == code), None)


@pytest.mark.parametrize("numeric", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_clean_table_is_left_alone(seed: int, numeric: bool) -> None:
    report = check_table(clean(seed, numeric=numeric), SPEC)
    assert [symptom.message for symptom in report.symptoms if symptom.level != "note"] == []
    assert (report.rows, report.columns, report.target) == (ROWS, 5, "y")


def test_flipped_labels_are_found_and_most_that_are_named_were_flipped() -> None:
    frame = clean()
    flipped = np.random.default_rng(9).permutation(ROWS)[:90]
    labels = frame["y"].to_numpy().copy()
    labels[flipped] = np.where(labels[flipped] == "yes", "no", "yes")
    symptom = found(check_table(frame.with_columns(y=pl.Series(labels)), SPEC), "label_error")
    assert symptom is not None
    assert symptom.level == "warning"
    assert symptom.count > 45
    named = np.array(symptom.rows) - 1
    assert np.isin(named, flipped).mean() > 0.75


def test_a_slip_of_the_decimal_point_in_the_target_is_found() -> None:
    frame = clean(numeric=True)
    values = frame["y"].to_numpy().copy()
    slipped = [17, 400, 1203]
    values[slipped] = values[slipped] * 100 + 300
    symptom = found(check_table(frame.with_columns(y=pl.Series(values)), SPEC), "label_error")
    assert symptom is not None
    assert set(symptom.rows[:3]) == {row + 1 for row in slipped}


FAULTS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "sentinel": lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) % 40 == 3).then(-999.0).otherwise("size").alias("size")
    ),
    "spelling_variants": lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) % 50 == 3)
        .then(pl.col("color").str.to_uppercase() + " ")
        .otherwise("color")
        .alias("color")
    ),
    "near_duplicates": lambda frame: pl.concat([frame, frame.head(60)]),
    "nearly_constant": lambda frame: frame.with_columns(
        flag=pl.when(pl.int_range(pl.len()) == 700).then(pl.lit("odd")).otherwise(pl.lit("usual"))
    ),
    "groups": lambda frame: frame.with_columns(
        customer_id="c" + (pl.int_range(pl.len()) * 7919 % 900).cast(pl.Utf8)
    ),
    "in_order": lambda frame: frame.with_columns(day=pl.int_range(pl.len()) // 3 + 0.5),
    "copy": lambda frame: frame.with_columns((pl.col("weight") ** 2 + 1).alias("area")),
    "leak": lambda frame: frame.with_columns(
        pl.when(pl.col("y") == "yes").then(1.0).otherwise(0.0).alias("answer")
        + pl.col("noise") / 1e3
    ),
    "shift": lambda frame: frame.with_columns(
        (pl.col("weight") + pl.int_range(pl.len()) / 100).alias("weight")
    ),
}


@pytest.mark.parametrize("code", sorted(FAULTS))
def test_every_fault_is_found(code: str) -> None:
    symptom = found(check_table(FAULTS[code](clean()), SPEC), code)
    assert symptom is not None
    if code in ("sentinel", "spelling_variants", "near_duplicates"):
        assert symptom.rows
        assert symptom.count >= len(symptom.rows)
        assert symptom.do


def test_values_that_pair_off_are_copies() -> None:
    frame = clean().with_columns(shade=pl.col("color").replace({"red": "r", "green": "g"}))
    symptom = found(check_table(frame, SPEC), "copy")
    assert symptom is not None
    assert symptom.column == "shade"
    assert "'color'" in symptom.message


def test_only_what_never_falls_or_never_rises_is_in_order() -> None:
    up = np.arange(100, dtype=np.float32)
    halves = (up > 49) * 10 + up % 3
    values = np.stack([up // 9, -up, halves, np.where(up % 7 == 0, np.nan, up), up * 0], axis=1)
    names = ["weeks", "left", "halves", "gaps", "constant"]
    assert columns_in_order(Cells(values, names)) == ["left", "gaps", "weeks"]


def test_what_is_in_order_is_no_shift_of_its_own() -> None:
    report = check_table(FAULTS["in_order"](clean()), SPEC)
    symptom = found(report, "in_order")
    assert symptom is not None
    assert "'day'" in symptom.message
    assert "--time-column 'day'" in symptom.do
    assert found(report, "shift") is None


def test_a_split_by_time_is_asked_whether_its_test_part_is_another_world() -> None:
    frame = FAULTS["in_order"](clean())
    by_time = msgspec.structs.replace(SPEC, split=SplitSpec(time_column="day"))
    assert found(check_table(frame, by_time), "shift") is None
    late = pl.int_range(pl.len()) > 0.85 * pl.len()
    moved = frame.with_columns(size=pl.col("size") + pl.when(late).then(2.0).otherwise(0.0))
    symptom = found(check_table(moved, by_time), "shift")
    assert symptom is not None
    assert "the test part can be told from the training part" in symptom.message
    assert "size" in symptom.message


def test_identifiers_that_come_back_are_no_worry_where_the_split_minds_them() -> None:
    frame = FAULTS["groups"](clean())
    symptom = found(check_table(frame, SPEC), "groups")
    assert symptom is not None
    assert (symptom.level, symptom.column, symptom.count) == ("warning", "customer_id", 600)
    grouped = msgspec.structs.replace(SPEC, split=SplitSpec(group_column="customer_id"))
    assert found(check_table(frame, grouped), "groups") is None


def test_one_cause_is_told_once() -> None:
    report = check_table(FAULTS["near_duplicates"](clean()), SPEC)
    codes = [symptom.code for symptom in report.symptoms]
    assert "near_duplicates" in codes
    assert not any(code.startswith("duplicates_in") for code in codes)


def test_a_sentinel_that_means_a_number_elsewhere_is_not_to_be_missing_everywhere() -> None:
    frame = FAULTS["sentinel"](clean())
    symptom = found(check_table(frame, SPEC), "sentinel")
    assert symptom is not None
    assert "table.missing" in symptom.do
    both = frame.with_columns(balance=pl.int_range(pl.len()) * 4 - 999.0)
    symptom = found(check_table(both, SPEC), "sentinel")
    assert symptom is not None
    assert "'balance' holds -999 too" in symptom.do


def test_large_tables_are_looked_at_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadynet.doctor.folds.MOST_ROWS", 300)
    frame = clean(numeric=True)
    values = frame["y"].to_numpy().copy()
    slipped = [17, 400, 1203, 1499]
    values[slipped] = 900.0
    symptom = found(check_table(frame.with_columns(y=pl.Series(values)), SPEC), "label_error")
    assert symptom is not None
    assert {row + 1 for row in slipped} <= set(symptom.rows)


def test_repeats_that_chance_explains_are_no_duplicates() -> None:
    random = np.random.default_rng(0)
    data = {f"c{place}": random.integers(0, 4, ROWS) for place in range(5)}
    frame = pl.DataFrame({**data, "y": random.choice(["yes", "no"], ROWS)})
    report = check_table(frame, SPEC)
    assert found(report, "near_duplicates") is None
    assert found(report, "conflicting_labels") is None


def test_like_rows_with_different_classes_are_named() -> None:
    frame = clean()
    again = frame.head(40).with_columns(
        y=pl.when(pl.col("y") == "yes").then(pl.lit("no")).otherwise(pl.lit("yes"))
    )
    symptom = found(check_table(pl.concat([frame, again]), SPEC), "conflicting_labels")
    assert symptom is not None
    assert symptom.count == 80


def test_a_capped_target_is_found() -> None:
    frame = clean(numeric=True).with_columns(pl.col("y").clip(upper_bound=1.0))
    symptom = found(check_table(frame, SPEC), "capped_target")
    assert symptom is not None
    assert symptom.count > 100


def test_newer_rows_of_another_kind_can_be_told_apart() -> None:
    newer = clean(5).with_columns(pl.col("size") + 1.5)
    report = check_table(clean(), SPEC, compare=newer)
    told = [symptom.message for symptom in report.symptoms if symptom.code == "shift"]
    assert any("compared table" in message and "size" in message for message in told)
    same = check_table(clean(), SPEC, compare=clean(5))
    assert found(same, "shift") is None


def test_row_numbers_are_those_of_the_file_where_targets_are_missing() -> None:
    frame = clean().with_columns(
        pl.when(pl.int_range(pl.len()) < 5).then(None).otherwise("y").alias("y"),
        pl.when(pl.int_range(pl.len()).is_in([9, 500]))
        .then(-999.0)
        .otherwise("size")
        .alias("size"),
    )
    symptom = found(check_table(frame, SPEC), "sentinel")
    assert symptom is not None
    assert symptom.rows == (10, 501)


def test_a_report_holds_no_cell_and_goes_through_json() -> None:
    report = check_table(FAULTS["spelling_variants"](clean()), SPEC)
    text = msgspec.json.encode(report).decode()
    assert "GREEN" not in text
    assert msgspec.json.decode(text, type=Report) == report


def test_labels_that_nothing_speaks_against_are_no_suspects() -> None:
    probabilities = np.random.default_rng(0).dirichlet([0.3, 0.3, 0.3], 2000)
    assert len(suspects_of_classes(probabilities, probabilities.argmax(axis=1))) == 0
    least = probabilities.argmin(axis=1)
    rows = suspects_of_classes(probabilities, least)
    margins = probabilities.max(axis=1)[rows] - probabilities[rows, least[rows]]
    assert (np.diff(margins) <= 1e-12).all()
    assert len(rows) > 500


def test_numbers_near_their_expectation_are_no_suspects() -> None:
    random = np.random.default_rng(0)
    expected = random.normal(size=3000)
    assert len(suspects_of_numbers(expected, expected + 0.1 * random.normal(size=3000))) == 0
