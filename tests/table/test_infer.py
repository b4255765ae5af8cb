"""Kinds of columns: inferred, explained, declared, refused."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from steadynet.errors import TableError
from steadynet.spec.kinds import Kind
from steadynet.spec.model import SplitSpec, TableSpec
from steadynet.table.infer import MAX_CATEGORIES, infer_column, infer_schema
from steadynet.table.schema import Column, NumberFormat

ROWS = 60
SPLIT = SplitSpec()


def column_of(cells: Sequence[object], name: str = "x", **table: object) -> Column:
    """Infer one column from its cells."""
    spec = TableSpec(**table)  # type: ignore[arg-type]
    return infer_column(pl.Series(name, list(cells)), spec, SPLIT)


def texts(*choices: str, rows: int = ROWS) -> list[str]:
    """Return choices over and over."""
    return [choices[i % len(choices)] for i in range(rows)]


RANDOM = np.random.default_rng(0)
UNIQUE_FLOATS = RANDOM.normal(size=ROWS).tolist()
SCATTERED = RANDOM.permutation(10_000)[:ROWS].tolist()
WORDS = [
    "a red car",
    "the old house by the sea",
    "no one knows what it is for",
    "five words are in here",
]
DAYS = [datetime.date(2024, 1, 1) + datetime.timedelta(days=3 * i) for i in range(ROWS)]


@pytest.mark.parametrize(
    ("cells", "name", "kind", "reason"),
    [
        ([1.5, None, 2.5] * 20, "x", "number", "numbers; blank or spelled as missing in 20 of 60"),
        (UNIQUE_FLOATS, "x", "number", "numbers"),
        (UNIQUE_FLOATS, "id", "number", "numbers"),
        (SCATTERED, "price", "number", "whole numbers"),
        (SCATTERED, "customer_id", "identifier", "name says so"),
        ([float(n) for n in SCATTERED], "customerID", "identifier", "name says so"),
        (list(range(1, 1 + ROWS)), "n", "identifier", "count the rows"),
        (list(range(5000, 6500)), "n", "identifier", "count the rows"),
        (list(range(1000, 1000 + ROWS)), "row_id", "identifier", "count the rows"),
        (list(range(1960, 1960 + ROWS)), "year", "number", "whole numbers"),
        ([str(n) for n in range(ROWS)], "n", "identifier", "count the rows"),
        ([0, 1] * 30, "x", "number", "a flag"),
        (texts("0", "1"), "x", "number", "a flag"),
        ([1, 2, 3] * 20, "admission_type_id", "category", "codes"),
        ([1, 2, 3] * 20, "rooms", "number", "whole numbers"),
        (texts("1.5", " ", "?", "7"), "x", "number", "missing in 30 of 60"),
        (texts("1,234,567", "950"), "x", "number", "grouped by commas"),
        ([f"{n:,}" for n in range(990, 990 + ROWS)], "x", "number|identifier", ""),
        (texts("1,234", "2,5", "3"), "x", "number", "with decimal commas"),
        (texts("0,512", "2,500", "3,000"), "x", "number", "with decimal commas"),
        (texts("1,234", "2,500", "3"), "x", "category", "decimal commas: tell by an example"),
        (texts("1.234.567", "950"), "x", "number", "with decimal commas"),
        (texts("12%", "5%", "7.5 %"), "x", "number", "numbers, '%' behind them"),
        (texts("$1,234.50", "-$3", "$ 7"), "x", "number", "digits grouped by commas, '$' before"),
        (texts("1.234,50 €", "3 €"), "x", "number", "with decimal commas, '€' behind them"),
        (texts("36 months", "60 months"), "term", "number", "'months' behind them"),
        (texts("12kg", "5kg"), "x", "number", "whole numbers, 'kg' behind them"),
        (texts("EUR 12", "EUR 1'250"), "x", "number", "'EUR' before them"),
        (texts("12 kg", "5 lb"), "x", "category", "2 different texts"),
        (
            [f"{n} {('kmpl', 'km/kg')[n % 9 == 0]}" for n in range(30)] * 2,
            "x",
            "category|identifier",
            "km/kg",
        ),
        (texts("A12", "A14"), "x", "category", "2 different texts"),
        (texts("12A", "14A"), "x", "category", "2 different texts"),
        (texts("1 year", "10+ years", "5 years"), "x", "category", "3 different texts"),
        (texts("20-30", "30-40"), "x", "category", "2 different texts"),
        (texts("10:30", "11:30"), "x", "category", "2 different texts"),
        ([*map(str, range(18, 78)), *["n.k."] * 3], "x", "number", "'n.k.' taken for a missing"),
        ([*map(str, range(18, 78)), *["90+"] * 3], "x", "identifier", "different"),
        (texts("02134", "10001", "94103"), "zip", "category", "3 different"),
        (texts(*"123456789", "x", rows=100), "n", "category", "Only 10 of 100 texts"),
        (texts("Yes", "no", ""), "x", "boolean", "no and yes"),
        (texts("T", "f"), "x", "boolean", "f and t"),
        (texts("yes", "no", "maybe"), "x", "category", "3 different texts"),
        ([True, False, None] * 20, "x", "boolean", "true and false"),
        ([True] * ROWS, "x", "constant", "same value"),
        (texts("a", "b", "c"), "x", "category", "3 different texts"),
        ([f"user-{n}" for n in range(ROWS)], "x", "identifier", "100%"),
        ([f"k{n % 40}" for n in range(ROWS)], "order_key", "identifier", "name says so"),
        ([f"k{n % 30}" for n in range(ROWS)], "place", "identifier", "comes back"),
        ([f"{w} {n}" for n, w in enumerate(texts(*WORDS))], "x", "text", "words on average"),
        ([None] * ROWS, "x", "constant", "no row has a value"),
        (texts("?", "NA", " "), "x", "constant", "no row has a value"),
        (texts("same"), "x", "constant", "same value"),
        (texts("same", ""), "x", "category", "1 different"),
        ([3] * ROWS, "x", "constant", "same value"),
        (DAYS, "x", "datetime", "dates or times"),
        ([d.isoformat() for d in DAYS], "x", "datetime", "year first"),
        ([d.strftime("%Y-%m-%dT12:00:00Z") for d in DAYS], "x", "datetime", "year first"),
        ([d.strftime("%d/%m/%Y") for d in DAYS], "x", "datetime", "day before month"),
        ([d.strftime("%m/%d/%Y") for d in DAYS], "x", "datetime", "month before day"),
        ([[1, 2]] * ROWS, "x", "ignored", "List"),
        ([b"ab"] * ROWS, "x", "ignored", "Binary"),
    ],
)
def test_kinds(cells: list[object], name: str, kind: str, reason: str) -> None:
    column = column_of(cells, name)
    assert column.kind in kind.split("|")
    assert reason in column.reason


def test_what_is_known_of_a_number() -> None:
    column = column_of(["3", "-1.5", "?", "inf"] * 15)
    assert (column.minimum, column.maximum, column.distinct) == (-1.5, 3.0, 3)
    assert column.missing_share == 0.25
    assert column.dtype == "String"


def test_categories_come_most_frequent_first() -> None:
    column = column_of(["b"] * 3 + [" a"] * 5 + ["c"] * 3 + ["a "] * 2)
    assert column.categories == ("a", "b", "c")
    assert column.distinct == 3


def test_rare_categories_are_unknown_where_there_are_many() -> None:
    cells = [f"c{n}" for n in range(30) for _ in range(4)] + ["rare", "rare", "once"]
    column = column_of(cells)
    assert len(column.categories) == 30
    assert "30 of 32 are known" in column.reason


def test_a_rare_category_is_known_where_there_are_few() -> None:
    assert column_of([*texts("a", "b"), "once"]).categories == ("a", "b", "once")


def test_no_more_categories_than_the_most() -> None:
    cells = [f"c{n}" for n in range(MAX_CATEGORIES + 50)] * 3
    assert len(column_of(cells).categories) == MAX_CATEGORIES


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["01/02/2024", "03/02/2024", "25/02/2024"], "day_first"),
        (["01/02/2024", "01/30/2024"], "month_first"),
        (["05.01.2024", "06.01.2024", "02.02.2024"], "day_first"),
        (["01/05/2024", "01/06/2024", "02/02/2024"], "month_first"),
    ],
)
def test_the_order_of_a_date_is_decided_over_the_column(cells: list[str], order: str) -> None:
    assert column_of(cells * 10).date_order == order


def test_dates_that_could_be_read_both_ways_are_told() -> None:
    assert "Write YYYY-MM-DD" in column_of(["01/05/2024", "01/06/2024", "02/02/2024"]).reason


def test_a_date_column_with_one_wrong_cell_is_no_date_column() -> None:
    assert column_of([d.isoformat() for d in DAYS[:3]] * 10 + ["someday"]).kind == "category"


def test_declared_kinds_win() -> None:
    column = column_of([1, 2, 3] * 20, kinds={"x": "category"})
    assert (column.kind, column.categories) == ("category", ("1", "2", "3"))
    assert "declared" in column.reason
    left_out: tuple[Kind, ...] = ("identifier", "ignored", "text", "constant")
    for kind in left_out:
        assert column_of([1, 2, 3] * 20, kinds={"x": kind}).kind == kind


def test_a_declared_date_keeps_its_order() -> None:
    column = column_of(["25/01/2024", "26/01/2024"], kinds={"x": "datetime"})
    assert column.date_order == "day_first"


def test_a_declared_kind_that_does_not_fit_is_refused() -> None:
    with pytest.raises(TableError, match="expected a number; got 30 of 60 values"):
        column_of(texts("1", "oops"), kinds={"x": "number"})


def test_an_example_says_how_a_column_is_written() -> None:
    cells: list[object] = ["1,234", "2,500", "3"] * 20
    column = column_of(cells, written={"x": "1.234,5"})
    assert (column.kind, column.minimum, column.maximum) == ("number", 1.234, 3.0)
    column = column_of(cells, written={"x": "1,234.5 €"})
    assert (column.kind, column.minimum, column.maximum) == ("number", 3.0, 2500.0)
    column = column_of(["01/02/2024", "02/01/2024"] * 30, written={"x": "12/31/2024"})
    assert (column.kind, column.date_order) == ("datetime", "month_first")


def test_an_example_that_tells_nothing_is_refused() -> None:
    with pytest.raises(TableError, match=r"tells nothing.*'1,234,'"):
        column_of(["1", "2"], written={"x": "1,234,"})


def test_words_for_a_missing_number_can_be_named() -> None:
    cells: list[object] = ["1", "2", "many"] * 20
    column = column_of(cells, more_missing={"x": ("many",)})
    assert (column.kind, column.distinct) == ("number", 2)
    column = column_of(["1,5 €", "2 €", "many"] * 20, more_missing={"x": ("many",)})
    assert column.number_format == NumberFormat(decimal_comma=True, suffix="€", missing=("many",))


def test_dropped_columns_stay_in_the_schema() -> None:
    column = column_of([1.5, 2.5] * 30, drop=("x",))
    assert (column.kind, column.reason) == ("ignored", "dropped, as asked")


TABLE = pl.DataFrame(
    {
        "age": list(range(20, 80)),
        "job": texts("a", "b", "c"),
        "who": list(range(ROWS)),
        "y": [0, 1] * 30,
    }
)


def test_a_schema_keeps_the_order_of_the_table() -> None:
    table = TableSpec(target="y", drop=("age",))
    schema = infer_schema(TABLE, table, SplitSpec(group_column="who"))
    assert [column.name for column in schema.columns] == ["age", "job", "who"]
    assert [column.name for column in schema.features] == ["job"]
    assert "group" in schema.columns[2].reason
    assert schema.missing_spellings == table.missing


@pytest.mark.parametrize(
    ("table", "split", "message"),
    [
        (TableSpec(target="y", drop=("agee",)), SPLIT, r"table\.drop.*'agee'.*'age'"),
        (TableSpec(target="y", kinds={"jobb": "category"}), SPLIT, r"table\.kinds.*'job'"),
        (TableSpec(target="y"), SplitSpec(time_column="when"), r"split\.time_column"),
        (TableSpec(target="y"), SplitSpec(group_column="whom"), r"split\.group_column.*'who'"),
        (TableSpec(target="y", drop=("y",)), SPLIT, "which is the target"),
        (TableSpec(target="y", drop=("age", "job", "who")), SPLIT, "no column is left.*3 ignored"),
    ],
)
def test_names_that_do_not_fit_the_table(table: TableSpec, split: SplitSpec, message: str) -> None:
    with pytest.raises(TableError, match=message):
        infer_schema(TABLE, table, split)
