"""The task, its classes and the positive class."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from steadynet.errors import TableError
from steadynet.spec.model import TableSpec
from steadynet.table.convert import encode_target
from steadynet.table.schema import Column, Schema, Target
from steadynet.table.target import drop_rows_without_target, infer_target


def target_of(cells: list[object], name: str = "y", **table: Any) -> Target:
    """Infer the target from its cells."""
    spec = TableSpec(target=name, **table)
    return infer_target(pl.DataFrame({name: cells}), spec)


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["Yes", "No", "No"] * 10, ("No", "Yes")),
        (["no", "yes", "yes"] * 10, ("no", "yes")),
        ([1, 0, 1] * 10, ("0", "1")),
        ([1, 2, 1] * 10, ("1", "2")),
        ([1, 2, 2] * 10, ("2", "1")),
        ([1.0, -1.0, 1.0] * 10, ("-1", "1")),
        ([True, False, True] * 10, ("false", "true")),
        (["ham", "ham", "spam"] * 10, ("ham", "spam")),
        (["up", "down"] * 10, ("down", "up")),
        (["1", "0", "?"] * 10, ("0", "1")),
    ],
)
def test_binary_targets(cells: list[object], classes: tuple[str, ...]) -> None:
    target = target_of(cells)
    assert (target.task, target.classes) == ("binary", classes)
    assert "positive class" in target.reason


@pytest.mark.parametrize(
    ("cells", "lowest", "written"),
    [
        ([f"${n},500" for n in range(100, 130)], 100_500.0, "'$' before them"),
        ([f"{n},5 €" for n in range(30)], 0.5, "with decimal commas, '€' behind them"),
        ([f"{n}.5%" for n in range(30)], 0.5, "'%' behind them"),
        ([f"{n}.5" for n in range(30)], 0.5, "different numbers"),
    ],
)
def test_amounts_are_a_regression(cells: list[object], lowest: float, written: str) -> None:
    target = target_of(cells)
    assert (target.task, target.minimum) == ("regression", lowest)
    assert written in target.reason
    schema = Schema(columns=(), target=target)
    encoded = encode_target(pl.DataFrame({"y": [cells[0]]}), schema)
    assert encoded[0] == lowest


def test_a_few_amounts_are_classes() -> None:
    assert target_of(["16GB", "32GB", "64GB"] * 10).task == "multiclass"


@pytest.mark.parametrize(
    ("cells", "name", "classes"),
    [
        (["b", "c", "a"] * 10, "y", ("a", "b", "c")),
        ([0, 1, 2] * 10, "y", ("0", "1", "2")),
        (list(range(10)) * 5, "digit", tuple("0123456789")),
        ([10, 20, 5] * 10, "class", ("5", "10", "20")),
        (["NO", ">30", "<30"] * 10, "readmitted", ("<30", ">30", "NO")),
    ],
)
def test_multiclass_targets(cells: list[object], name: str, classes: tuple[str, ...]) -> None:
    target = target_of(cells, name)
    assert (target.task, target.classes) == ("multiclass", classes)


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [
        ([3, 4, 5, 6, 7, 8, 9] * 5, 3.0, 9.0),
        ([0.5, 1.5, 2.5] * 10, 0.5, 2.5),
        (["10", "20.5", ""] * 10 + ["3"], 3.0, 20.5),
        (list(range(40)), 0.0, 39.0),
    ],
)
def test_regression_targets(cells: list[object], low: float, high: float) -> None:
    target = target_of(cells)
    assert (target.task, target.minimum, target.maximum) == ("regression", low, high)


def test_the_task_can_be_declared() -> None:
    assert target_of([3, 4, 5] * 10, task="multiclass").classes == ("3", "4", "5")
    assert target_of([0, 1, 2] * 10, task="regression").task == "regression"


def test_the_positive_class_can_be_declared() -> None:
    target = target_of(["yes", "no"] * 10, positive_class="no")
    assert target.classes == ("yes", "no")
    assert "as declared" in target.reason


@pytest.mark.parametrize(
    ("cells", "table", "message"),
    [
        (["a", "a", "a"], {}, "same value in every row"),
        (["", "?", None], {}, "no value in any row"),
        ([f"u{n}" for n in range(50)], {}, "too many classes"),
        (["a", "b", "c"] * 9, {"task": "regression"}, "does not fit a regression"),
        ([1.5, float("inf"), 2.5] * 9, {"task": "regression"}, "does not fit a regression"),
        (["a", "b", "c"] * 9, {"task": "binary"}, "two classes; got 3"),
        (["yes", "no"] * 9, {"positive_class": "yess"}, "Did you mean 'yes'"),
        (["a", "b", "c"] * 9, {"positive_class": "a"}, "not binary"),
        ([[1], [2]] * 9, {}, "cannot be predicted"),
    ],
)
def test_targets_that_cannot_be(cells: list[object], table: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        target_of(cells, **table)


def test_a_target_that_is_not_there_or_not_named() -> None:
    frame = pl.DataFrame({"Churn": [1, 2], "age": [3, 4]})
    with pytest.raises(TableError, match="Did you mean 'Churn'"):
        infer_target(frame, TableSpec(target="churn"))
    with pytest.raises(TableError, match=r"no target is named.*--target"):
        infer_target(frame, TableSpec())


def test_rows_without_a_target_are_dropped_and_counted() -> None:
    frame = pl.DataFrame({"x": [1, 2, 3, 4, 5], "y": ["a", "?", None, " ", "b"]})
    kept, dropped = drop_rows_without_target(frame, TableSpec(target="y"))
    assert (kept["x"].to_list(), dropped) == ([1, 5], 3)


def test_none_is_a_class_among_words_and_a_gap_among_numbers() -> None:
    frame = pl.DataFrame({"y": ["none", "minor", "", "none", "major"] * 8})
    table = TableSpec(target="y")
    kept, dropped = drop_rows_without_target(frame, table)
    assert dropped == 8
    target = infer_target(kept, table)
    assert target.classes == ("major", "minor", "none")
    assert encode_target(kept, schema_of(target)).tolist()[:4] == [2, 1, 2, 0]
    numbers = pl.DataFrame({"y": ["1.5", "None", "2.5"] * 8})
    assert drop_rows_without_target(numbers, table)[1] == 8


def schema_of(target: Target) -> Schema:
    """Return a schema with one column beside a target."""
    return Schema(columns=(Column(name="x", kind="number", reason=""),), target=target)


def test_classes_become_their_places() -> None:
    target = Target(name="y", task="binary", reason="", classes=("no", "yes"))
    encoded = encode_target(pl.DataFrame({"y": ["yes", " no", "yes"]}), schema_of(target))
    assert encoded.dtype == np.int64
    assert encoded.tolist() == [1, 0, 1]


def test_class_numbers_are_the_same_as_text_and_number() -> None:
    target = Target(name="y", task="binary", reason="", classes=("1", "2"))
    for cells in (["1", "2"], [1, 2], [1.0, 2.0], ["1.0", "2.0"]):
        assert encode_target(pl.DataFrame({"y": cells}), schema_of(target)).tolist() == [0, 1]


def test_a_regression_target_becomes_float64() -> None:
    target = Target(name="y", task="regression", reason="")
    encoded = encode_target(pl.DataFrame({"y": ["1.5", "2"]}), schema_of(target))
    assert encoded.dtype == np.float64
    assert encoded.tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("cells", "task", "message"),
    [
        (["yes", "maybe"], "binary", "1 rows with another class"),
        (["yes", None], "binary", "1 rows without one"),
        (["1", "x", "y"], "regression", "2 values that are none"),
        (["1", "inf"], "regression", "1 values that are none"),
        ([1.0, None], "regression", "1 rows without one"),
    ],
)
def test_targets_that_do_not_fit_the_schema(cells: list[object], task: str, message: str) -> None:
    target = Target(name="y", task=task, reason="", classes=("no", "yes"))  # type: ignore[arg-type]
    with pytest.raises(TableError, match=message):
        encode_target(pl.DataFrame({"y": cells}), schema_of(target))


def test_a_table_to_evaluate_needs_the_target() -> None:
    target = Target(name="Churn", task="regression", reason="")
    with pytest.raises(TableError, match="Did you mean 'churn'"):
        encode_target(pl.DataFrame({"churn": [1]}), schema_of(target))
