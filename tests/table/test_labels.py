"""A column of labels becomes targets of yes and no, and all that it can hold is told apart."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.errors import TableError
from steadynet.spec.model import SplitSpec, TableSpec
from steadynet.table.infer import infer_schema
from steadynet.table.labels import (
    FEWEST_ROWS,
    MOST_LABELS,
    Labelled,
    guess_separator,
    new_labels,
    read_labelled,
    split_labels,
)
from steadynet.table.read import read_with_findings
from steadynet.table.schema import Schema
from steadynet.table.target import drop_rows_without_target
from steadynet.table.values import labels_in

SPEC = TableSpec(target="topics", labels_separator="|")
MISSING = SPEC.missing
ONLY = TableSpec(target="topics", labels_separator="|", labels=("a", "b"))


def table(cells: list[str | None]) -> pl.DataFrame:
    """Return a table with such topics."""
    numbers = [0.5 + row % 7 for row in range(len(cells))]
    return pl.DataFrame({"x": numbers, "topics": pl.Series(cells, dtype=pl.String)})


def often(*cells: str) -> list[str | None]:
    """Return the cells, each often enough for its labels to be predicted."""
    return [cell for cell in cells for _ in range(FEWEST_ROWS)]


def split(cells: list[str | None], spec: TableSpec = SPEC) -> tuple[pl.DataFrame, Labelled]:
    """Return the split table as a frame, and all that was found."""
    found = split_labels(table(cells), spec)
    assert isinstance(found.frame, pl.DataFrame)
    return found.frame, found


def test_each_label_is_a_column_and_the_most_frequent_the_main_target() -> None:
    frame, found = split([*often("a|b", "b", "c | a", ""), "b", "NA", None])
    assert found.table.target == "b"
    assert found.table.more_targets == ("a", "c")
    assert frame.columns == ["x", "b", "a", "c"]
    last = frame.tail(3).rows()
    assert last[0][1:] == ("yes", "no", "no")
    assert last[1][1:] == last[2][1:] == (None, None, None)
    # An empty cell is a row of which all is known.
    assert frame.row(3 * FEWEST_ROWS)[1:] == ("no", "no", "no")
    kept, without = drop_rows_without_target(frame, found.table)
    assert (kept.height, without) == (4 * FEWEST_ROWS + 1, 2)
    schema = infer_schema(kept, found.table, SplitSpec(), found.column)
    assert schema.target.labels is not None
    assert schema.target.labels.known == ("b", "a", "c")
    assert [target.classes for target in schema.targets] == [("no", "yes")] * 3
    assert [column.name for column in schema.columns] == ["x"]


def test_rare_labels_and_those_of_all_rows_are_left_out_and_named() -> None:
    _, found = split([*often("a|all", "b|all", "all"), "all|rare"])
    assert (found.table.target, *found.table.more_targets) == ("a", "b")
    note, warning = found.findings
    assert "2 labels" in note.message
    assert "'all'" in warning.message
    assert "'rare'" in warning.message
    assert found.column is not None
    assert "rare" in found.column.known


def test_who_names_labels_gets_them_in_that_order_however_rare() -> None:
    spec = TableSpec(target="topics", labels_separator="|", labels=("rare", "a"))
    frame, found = split([*often("a|b", "b"), "rare", "rare"], spec)
    assert frame.columns == ["x", "rare", "a"]
    assert "not named" in found.findings[1].message
    wrong = TableSpec(target="topics", labels_separator="|", labels=("rare", "aa"))
    with pytest.raises(TableError, match=r"'aa', which no row has.*Did you mean 'a'"):
        split([*often("a|b", "b"), "rare"], wrong)


def test_bounds_are_told() -> None:
    with pytest.raises(TableError, match=rf"too many; expected 2 to {MOST_LABELS} labels"):
        split(often(*(f"l{number}" for number in range(MOST_LABELS + 1))))
    with pytest.raises(TableError, match=r"too few; .*labels_separator"):
        split(often("a;b", ""), TableSpec(target="topics", labels_separator="/"))
    with pytest.raises(TableError, match="a label has the name of a column, 'x'"):
        split(often("x|b", "b", "c"))
    with pytest.raises(TableError, match=r"cannot be split into labels.*List"):
        split_labels(pl.DataFrame({"x": [1], "topics": [["a", "b"]]}), SPEC)


def test_a_column_of_single_numbers_is_split_as_texts() -> None:
    numbers = [1] * FEWEST_ROWS + [2] * FEWEST_ROWS
    found = split_labels(pl.DataFrame({"x": numbers, "topics": numbers}), SPEC)
    assert found.table.target == "1"
    assert "is '|' what joins them?" in found.findings[-1].message
    assert "joins" not in split(often("a|b", "b"), ONLY)[1].findings[-1].message


def test_an_empty_cell_of_a_csv_file_has_no_label(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    rows = [*often("a|b", "b"), "", '""', "NA", "none"]
    file.write_text("x,topics\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(rows)))
    read = read_with_findings(file, SPEC)
    frame = split_labels(read.frame, SPEC).frame
    assert frame["b"].to_list()[-4:] == ["no", "no", None, "no"]


def schema_of(cells: list[str | None]) -> Schema:
    """Return what a training of such topics knows."""
    found = split_labels(table(cells), SPEC)
    kept, _ = drop_rows_without_target(found.frame, found.table)
    return infer_schema(kept, found.table, SplitSpec(), found.column)


def test_a_later_table_has_the_same_targets_whatever_labels_it_has() -> None:
    schema = schema_of([*often("a|b", "b", "a"), "seen"])
    later = table(["b|new", "seen", "", None, "newer|new"])
    frame = read_labelled(later, schema)
    assert frame["b"].to_list() == ["yes", "no", "no", None, "no"]
    assert frame["a"].to_list() == ["no", "no", "no", None, "no"]
    assert new_labels(frame, schema) == (2, 2)
    bare = later.drop("topics")
    assert read_labelled(bare, schema).columns == ["x"]
    assert new_labels(bare, schema) == (0, 0)


NAMES = st.text("abcdé -_.1", min_size=1, max_size=6).map(str.strip).filter(bool)


@settings(deadline=None, max_examples=150)
@given(rows=st.lists(st.sets(NAMES, max_size=4), min_size=1, max_size=30), pad=st.booleans())
def test_joined_labels_come_apart_as_they_were(rows: list[set[str]], pad: bool) -> None:
    glue = " | " if pad else "|"
    for labels in rows:
        joined = glue.join(sorted(labels))
        if labels != {"none"}:
            assert set(labels_in(joined, "|")) == labels
        twice = glue.join([*sorted(labels), *sorted(labels), ""])
        assert labels_in(twice, "|") == labels_in(joined, "|")


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (["a|b", "b|c", "a", "b", "c", "a|c", "b|a|c"] * 5, ("|", 3)),
        (["red, small", "red, large", "blue, small", "large", "blue", "red, blue"] * 4, (",", 4)),
        (["New York, NY", "Boston, MA", "Albany, NY"] * 20, None),  # no fewer words than cells
        (["yes", "no", "don't know"] * 20, None),
        ([f"{n} Main St, apt {n}" for n in range(60)], None),
        ([], None),
    ],
)
def test_a_column_that_looks_like_labels_is_told_from_one_that_does_not(
    cells: list[str], found: tuple[str, int] | None
) -> None:
    assert guess_separator(pl.Series("topics", cells, dtype=pl.String), MISSING) == found
