"""What checks find before training, and what they must not find."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from steadynet.spec.model import SplitSpec, TableSpec
from steadynet.table.explain import explain
from steadynet.table.findings import Finding
from steadynet.table.infer import infer_schema
from steadynet.table.leak import area_under_roc
from steadynet.table.quality import check_quality, errors_of
from steadynet.table.schema import Schema
from steadynet.table.split import Split, split_rows

ROWS = 600


def checked(frame: pl.DataFrame, **table: object) -> tuple[Finding, ...]:
    """Infer, split and check a table with the target y."""
    spec = TableSpec(target="y", **table)  # type: ignore[arg-type]
    schema = infer_schema(frame, spec, SplitSpec())
    return check_quality(frame, schema, split_rows(frame, schema, SplitSpec()))


def codes(findings: tuple[Finding, ...]) -> list[tuple[str, str | None]]:
    """Return codes and columns."""
    return [(finding.code, finding.column) for finding in findings]


def honest(rows: int = ROWS, seed: int = 0) -> pl.DataFrame:
    """Return a table with nothing to find: two features that help, none that tells all."""
    random = np.random.default_rng(seed)
    x = random.normal(size=rows)
    z = random.choice(["a", "b", "c"], rows)
    score = x + (z == "a") + random.normal(size=rows)
    return pl.DataFrame({"x": x, "z": z, "y": np.where(score > 0.5, "yes", "no")})


def test_an_honest_table_has_no_findings() -> None:
    assert checked(honest()) == ()


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("copy", ["same", "renamed", "missing_some"])
def test_copies_of_the_target_leak(task: str, copy: str) -> None:
    random = np.random.default_rng(1)
    target: np.ndarray = {
        "binary": random.choice([0, 1], ROWS, p=[0.8, 0.2]),
        "multiclass": random.choice([0, 1, 2, 3], ROWS),
        "regression": random.lognormal(sigma=1.5, size=ROWS),
    }[task]
    leak: np.ndarray | list[object] = target * 2.0 + 1.0
    if copy == "renamed" and task != "regression":
        leak = [f"code {value}" for value in target]
    if copy == "missing_some" and task != "regression":
        leak = [None if place % 300 == 0 else value for place, value in enumerate(target)]
    frame = pl.DataFrame({"x": random.normal(size=ROWS), "leak": leak, "y": target})
    assert ("leak", "leak") in codes(checked(frame, task=task))


def test_a_strong_feature_is_no_leak() -> None:
    random = np.random.default_rng(2)
    x = random.normal(size=2000)
    y = x + 0.25 * random.normal(size=2000)
    assert np.corrcoef(x, y)[0, 1] > 0.96
    frame = pl.DataFrame({"x": x, "n": random.normal(size=2000), "y": y})
    assert checked(frame) == ()


def test_many_categories_by_chance_are_no_leak() -> None:
    random = np.random.default_rng(3)
    frame = pl.DataFrame(
        {
            "code": [f"c{n}" for n in random.integers(0, 150, ROWS)],
            "y": random.choice(["no", "yes"], ROWS),
        }
    )
    assert not [finding for finding in checked(frame) if finding.code.startswith("leak")]


def test_infinite_and_all_missing_numbers_are_scored_too() -> None:
    frame = honest().with_columns(
        endless=pl.Series([float("inf"), -float("inf"), 1.0] * (ROWS // 3)),
        rest=pl.when(pl.int_range(ROWS) == 0).then(1.0),
    )
    assert {finding.code for finding in checked(frame)} == {"mostly_missing"}


def test_a_target_that_is_a_sum_of_columns_leaks() -> None:
    random = np.random.default_rng(4)
    casual, registered = random.poisson(40, ROWS), random.poisson(100, ROWS)
    frame = pl.DataFrame(
        {"hour": random.integers(0, 24, ROWS), "casual": casual, "registered": registered}
    ).with_columns(y=pl.Series(casual + registered))
    (finding,) = (finding for finding in checked(frame) if finding.code.startswith("leak"))
    assert finding.code == "leak_sum"
    assert "'casual', 'registered'" in finding.message
    assert "hour" not in finding.message


def test_duplicates_across_parts_are_counted() -> None:
    frame = honest(200)
    twice = pl.concat([frame, frame])
    found = dict(codes(checked(twice)))
    assert set(found) == {"duplicates_in_validation", "duplicates_in_test"}
    schema = infer_schema(twice, TableSpec(target="y"), SplitSpec())
    apart = Split(np.arange(200), np.arange(200, 300), np.arange(300, 400))
    first, second = check_quality(twice, schema, apart)
    assert first.message.startswith("100 rows of the validation part (100.0%)")
    assert first.level == second.level == "warning"


def test_few_duplicates_are_a_note() -> None:
    frame = pl.concat([honest(), honest().head(1)])
    schema = infer_schema(frame, TableSpec(target="y"), SplitSpec())
    split = Split(np.arange(300), np.arange(300, 450), np.arange(450, 601))
    (finding,) = check_quality(frame, schema, split)
    assert (finding.level, finding.code) == ("note", "duplicates_in_test")
    assert finding.message.startswith("1 rows")


def test_few_rows_and_rare_classes_are_told() -> None:
    frame = honest(100).with_columns(y=pl.Series(["rare"] * 2 + ["some"] * 10 + ["most"] * 88))
    findings = checked(frame)
    assert [finding.code for finding in findings] == ["few_rows", "rare_class", "rare_class"]
    rare = next(finding for finding in findings if "'rare'" in finding.message)
    assert "none of them in validation and test" in rare.message
    assert errors_of(findings) == ()


def test_a_class_that_training_lacks_is_an_error() -> None:
    frame = pl.DataFrame({"x": np.arange(300.0) % 7, "y": ["a"] * 150 + ["b"] * 150})
    schema = infer_schema(frame, TableSpec(target="y"), SplitSpec())
    split = Split(np.arange(150), np.arange(150, 220), np.arange(220, 300))
    findings = check_quality(frame, schema, split)
    assert [finding.code for finding in errors_of(findings)] == ["class_not_in_training"]
    assert findings[0].level == "error"


def test_columns_left_out_and_mostly_missing() -> None:
    sentences = [f"this is the long text number {n} of many" for n in range(ROWS)]
    frame = honest().with_columns(
        note=pl.Series(sentences),
        same=pl.lit(1),
        gone=pl.when(pl.int_range(ROWS) < 100).then(pl.col("x")),
    )
    found = codes(checked(frame, drop=("z",)))
    assert found == [
        ("text_left_out", "note"),
        ("mostly_missing", "gone"),
        ("ignored_left_out", "z"),
        ("constant_left_out", "same"),
    ]


def test_no_message_shows_a_row() -> None:
    frame = honest().with_columns(secret=pl.Series([f"hunter{n}" for n in range(ROWS)]))
    for finding in checked(frame):
        assert "hunter" not in finding.message


@pytest.mark.parametrize(
    ("score", "expected"),
    [([1.0, 2, 3, 4], 1.0), ([4.0, 3, 2, 1], 0.0), ([1.0, 1, 1, 1], 0.5), ([1.0, 3, 2, 4], 0.75)],
)
def test_the_area_under_the_roc_curve(score: list[float], expected: float) -> None:
    positive = np.array([0.0, 0, 1, 1])
    assert area_under_roc(np.array(score), positive) == expected
    assert area_under_roc(np.array(score), np.zeros(4)) == 0.5


def test_what_was_found_is_told_for_the_spec_file() -> None:
    frame = honest().with_columns(who=pl.Series([f"u{n}" for n in range(ROWS)]))
    schema: Schema = infer_schema(frame, TableSpec(target="y"), SplitSpec())
    findings = (
        Finding(level="note", code="x", column="who", message="said at the column"),
        Finding(level="warning", code="few_rows", message="few rows"),
    )
    found = explain(schema, findings)
    reasons = {column.name: column.reason for column in found.columns}
    assert reasons["who"].startswith("not used: 100%")
    assert " to " in reasons["x"]
    assert found.findings == ("warning: few rows",)
    assert found.target.startswith("binary: two different values")
    assert found.target.endswith("classes no, yes")
