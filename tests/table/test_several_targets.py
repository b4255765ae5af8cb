"""Several targets in a table: what they are, what they may lack, and what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from steadynet.errors import SpecError, TableError
from steadynet.spec.check import check
from steadynet.spec.model import Spec, SplitSpec, TableSpec
from steadynet.table.convert import encode_known_target
from steadynet.table.infer import infer_schema
from steadynet.table.quality import check_quality
from steadynet.table.schema import (
    Schema,
    Target,
    answers_about,
    output_name,
    output_names,
)
from steadynet.table.split import split_rows

ROWS = 300


def table() -> pl.DataFrame:
    """Return a table with a binary, a number and a class target; the number is often missing."""
    random = np.random.default_rng(0)
    x = random.normal(size=ROWS)
    spend = [None if row % 3 == 0 else f"{10 + v:.2f}" for row, v in enumerate(x)]
    return pl.DataFrame(
        {
            "x": x,
            "left": np.where(x + random.normal(size=ROWS) > 0, "yes", "no"),
            "spend": spend,
            "tier": random.choice(["basic", "gold", "plus"], ROWS),
        }
    )


SPEC = TableSpec(target="left", more_targets=("spend", "tier"))


def schema_of(frame: pl.DataFrame, spec: TableSpec = SPEC) -> Schema:
    """Infer with the default split."""
    return infer_schema(frame, spec, SplitSpec())


def test_every_target_has_its_own_task_and_none_is_a_feature() -> None:
    schema = schema_of(table())
    assert [(t.name, t.task) for t in schema.targets] == [
        ("left", "binary"),
        ("spend", "regression"),
        ("tier", "multiclass"),
    ]
    assert [column.name for column in schema.columns] == ["x"]
    assert schema.about(schema.targets[2]).targets == (schema.targets[2],)


def test_a_further_targets_task_and_positive_class_can_be_declared() -> None:
    frame = table().with_columns(stars=pl.Series([row % 5 for row in range(ROWS)]))
    spec = TableSpec(
        target="tier",
        more_targets=("stars", "left"),
        more_tasks={"stars": "regression"},
        more_positive_classes={"left": "no"},
    )
    schema = schema_of(frame, spec)
    assert schema.targets[1].task == "regression"
    assert schema.targets[2].classes == ("yes", "no")
    assert schema_of(frame, TableSpec(target="stars")).target.task == "multiclass"


def test_rows_without_a_further_target_are_known_to_lack_it() -> None:
    frame = table()
    schema = schema_of(frame)
    truth = encode_known_target(frame, schema.about(schema.targets[1]))
    assert truth.rows.tolist() == [row for row in range(ROWS) if row % 3]
    assert truth.values.dtype == np.float64
    np.testing.assert_allclose(
        truth.values[truth.rows], [float(v) for v in frame["spend"].drop_nulls()]
    )
    assert truth.among(np.array([0, 1, 2, 3, 4])).tolist() == [1, 2, 4]


def test_outputs_are_named_by_their_target_but_for_the_main_one() -> None:
    schema = schema_of(table())
    assert output_names(schema) == (
        *("label", "probabilities"),
        *("spend/prediction", "spend/lower", "spend/upper"),
        *("tier/label", "tier/probabilities"),
    )
    answers = {name: place for place, name in enumerate(output_names(schema))}
    assert answers_about(answers, schema, schema.targets[2]) == {"label": 5, "probabilities": 6}
    assert output_name(schema, Target(name="a/b", task="binary", reason=""), "label") == "a/b/label"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TableSpec(target="a", more_targets=("b", "b")), "every target once; got 'b'"),
        (TableSpec(target="a", more_targets=("a",)), "every target once; got 'a'"),
        (TableSpec(more_targets=("b",)), r"a table\.target beside them"),
        (TableSpec(target="a", more_targets=("b",), drop=("b",)), "columns beside the targets"),
        (
            TableSpec(target="a", more_targets=("b",), more_tasks={"c": "binary"}),
            r"columns of table\.more_targets",
        ),
    ],
)
def test_targets_that_do_not_fit_together_are_refused(spec: TableSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check(Spec(table=spec))


def test_a_constant_further_target_is_refused_by_its_name() -> None:
    frame = table().with_columns(same=pl.lit("a"))
    with pytest.raises(TableError, match="'same' has the same value in every row"):
        schema_of(frame, TableSpec(target="left", more_targets=("same",)))


def test_a_further_target_that_is_no_column_or_empty_is_refused_by_its_name() -> None:
    frame = table().with_columns(empty=pl.lit(None, pl.String))
    with pytest.raises(TableError, match=r"no column 'speend'.*'spend'"):
        schema_of(frame, TableSpec(target="left", more_targets=("speend",)))
    with pytest.raises(TableError, match="'empty' has no value in any row"):
        schema_of(frame, TableSpec(target="left", more_targets=("empty",)))


def test_a_column_named_as_an_answer_is_refused() -> None:
    frame = table().with_columns(pl.col("x").alias("tier/label"))
    with pytest.raises(TableError, match="'tier/label' has the name of an answer"):
        schema_of(frame)
    schema_of(frame, TableSpec(target="left", more_targets=("spend",)))


def test_the_checks_look_at_further_targets_too() -> None:
    frame = table().with_columns(told=pl.col("tier"))
    schema = schema_of(frame)
    split = split_rows(frame, schema, SplitSpec())
    found = {(item.code, item.column): item.message for item in check_quality(frame, schema, split)}
    assert "alone predicts the target 'tier'" in found["leak", "told"]
    assert "100 rows have no value of 'spend'" in found["target_missing", "spend"]


def test_a_part_without_a_further_target_is_an_error() -> None:
    frame = table()
    schema = schema_of(frame)
    split = split_rows(frame, schema, SplitSpec())
    gone = frame["spend"].to_list()
    for row in split.test:
        gone[row] = None
    findings = check_quality(frame.with_columns(spend=pl.Series(gone)), schema, split)
    errors = [item for item in findings if item.level == "error"]
    assert [item.code for item in errors] == ["target_not_in_part"]
    assert "test part" in errors[0].message
