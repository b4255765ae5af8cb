"""Splits: complete, disjoint, seeded, stratified, by time and by group."""

from __future__ import annotations

import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.errors import TableError
from steadynet.spec.model import SplitSpec
from steadynet.table.schema import Column, Schema, Target
from steadynet.table.split import Split, split_rows

CLASSES = ("a", "b", "c")


def schema_for(task: str) -> Schema:
    """Return a schema with the target y."""
    classes = CLASSES if task == "multiclass" else ()
    return Schema(
        columns=(Column(name="x", kind="number", reason=""),),
        target=Target(name="y", task=task, reason="", classes=classes),  # type: ignore[arg-type]
    )


def assert_complete(split: Split, rows: int) -> None:
    """Each row is in one part, and no part is empty."""
    assert all(len(part) > 0 and part.dtype == np.int64 for part in split)
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(rows))


SHARES = st.tuples(st.floats(0.01, 0.44), st.floats(0.01, 0.44))


@settings(max_examples=50, deadline=None)
@given(
    st.integers(SplitSpec().min_rows, 200),
    st.lists(st.sampled_from(CLASSES), min_size=200, max_size=200),
    SHARES,
    st.integers(0, 5),
)
def test_classes_are_in_every_part(
    rows: int, cells: list[str], shares: tuple[float, float], seed: int
) -> None:
    frame = pl.DataFrame({"y": cells[:rows]})
    spec = SplitSpec(validation_share=shares[0], test_share=shares[1], seed=seed)
    split = split_rows(frame, schema_for("multiclass"), spec)
    assert_complete(split, rows)
    names, counts = np.unique(cells[:rows], return_counts=True)
    for name, count in zip(names, counts, strict=True):
        present = [name in set(frame["y"].gather(part)) for part in split]
        assert all(present) if count >= 3 else present[0]


def test_shares_are_kept_in_each_class() -> None:
    frame = pl.DataFrame({"y": ["a"] * 800 + ["b"] * 180 + ["c"] * 20})
    split = split_rows(frame, schema_for("multiclass"), SplitSpec())
    for part, share in zip(split, (0.7, 0.15, 0.15), strict=True):
        counts = frame["y"].gather(part).value_counts().sort("y")["count"].to_list()
        assert counts == [round(rows * share) for rows in (800, 180, 20)]


def test_the_seed_decides() -> None:
    frame = pl.DataFrame({"y": np.arange(100.0)})
    first, again, other = (
        split_rows(frame, schema_for("regression"), SplitSpec(seed=seed)) for seed in (1, 1, 2)
    )
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.test, other.test)


def test_a_regression_is_stratified_by_the_target() -> None:
    target = np.random.default_rng(0).lognormal(sigma=2, size=2000)
    split = split_rows(pl.DataFrame({"y": target}), schema_for("regression"), SplitSpec())
    assert_complete(split, 2000)
    edges = np.quantile(target, np.linspace(0, 1, 11))[1:-1]
    for part in (split.validation, split.test):
        counts = np.bincount(np.searchsorted(edges, target[part]), minlength=10)
        assert counts.tolist() == [30] * 10


@pytest.mark.parametrize("written", ["datetime", "iso", "day_first", "number"])
def test_by_time_the_newest_rows_test(written: str) -> None:
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=i // 3) for i in range(300)]
    order = np.random.default_rng(0).permutation(300)
    mixed = [days[i] for i in order]
    cells: list[object] = list(mixed)
    if written == "iso":
        cells = [day.isoformat() for day in mixed]
    if written == "day_first":
        cells = [day.strftime("%d/%m/%Y") for day in mixed]
    if written == "number":
        cells = [day.toordinal() for day in mixed]
    frame = pl.DataFrame({"y": np.arange(300.0), "day": cells})
    split = split_rows(frame, schema_for("regression"), SplitSpec(time_column="day"))
    assert_complete(split, 300)
    seen = np.array([day.toordinal() for day in mixed])
    # Rows of one day stay together, so the parts do not even touch.
    assert seen[split.train].max() < seen[split.validation].min()
    assert seen[split.validation].max() < seen[split.test].min()
    assert [len(part) for part in split] == [210, 45, 45]


def test_rows_without_a_time_train() -> None:
    cells = [None, *range(59)]
    frame = pl.DataFrame({"y": np.arange(60.0), "t": cells})
    split = split_rows(frame, schema_for("regression"), SplitSpec(time_column="t"))
    assert 0 in split.train


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=SplitSpec().min_rows, max_size=150), st.integers(0, 3))
def test_groups_stay_together(cells: list[int], seed: int) -> None:
    frame = pl.DataFrame({"y": np.arange(float(len(cells))), "g": cells})
    spec = SplitSpec(group_column="g", seed=seed)
    if len(set(cells)) < 3:
        with pytest.raises(TableError, match="at least 3 groups"):
            split_rows(frame, schema_for("regression"), spec)
        return
    split = split_rows(frame, schema_for("regression"), spec)
    assert_complete(split, len(cells))
    groups = [set(frame["g"].gather(part)) for part in split]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_many_groups_give_the_shares() -> None:
    cells = np.random.default_rng(0).integers(0, 500, 5000)
    frame = pl.DataFrame({"y": np.zeros(5000), "g": cells.astype(str)})
    split = split_rows(frame, schema_for("regression"), SplitSpec(group_column="g"))
    sizes = np.array([len(part) for part in split]) / 5000
    np.testing.assert_allclose(sizes, [0.7, 0.15, 0.15], atol=0.01)


def test_rows_without_a_group_are_each_their_own() -> None:
    frame = pl.DataFrame({"y": np.zeros(60), "g": [None] * 40 + ["row 1"] * 20})
    split = split_rows(frame, schema_for("regression"), SplitSpec(group_column="g"))
    assert_complete(split, 60)
    assert sum(bool(np.isin(np.arange(40, 60), part).any()) for part in split) == 1


@pytest.mark.parametrize(
    ("frame", "spec", "message"),
    [
        (
            pl.DataFrame({"y": np.zeros(SplitSpec().min_rows - 1)}),
            SplitSpec(),
            f"at least {SplitSpec().min_rows} rows",
        ),
        (pl.DataFrame({"y": np.zeros(40)}), SplitSpec(time_column="t"), "no column 't'"),
        (pl.DataFrame({"y": np.zeros(40)}), SplitSpec(group_column="g"), "no column 'g'"),
        (
            pl.DataFrame({"y": np.zeros(40), "t": [1, 2] * 20}),
            SplitSpec(time_column="t"),
            "at least 3 different times; got 2",
        ),
        (
            pl.DataFrame({"y": np.zeros(40), "t": ["soon", "2024-01-01"] * 20}),
            SplitSpec(time_column="t"),
            "cannot be put in order.*20 values",
        ),
        (
            pl.DataFrame({"y": np.zeros(40), "g": [[1], [2]] * 20}),
            SplitSpec(group_column="g"),
            "cannot be read",
        ),
    ],
)
def test_tables_that_cannot_be_split(frame: pl.DataFrame, spec: SplitSpec, message: str) -> None:
    with pytest.raises(TableError, match=message):
        split_rows(frame, schema_for("regression"), spec)
