"""Requests become columns as `table.values` says, whatever form they come in."""

from __future__ import annotations

import datetime
import math
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from steadynet.errors import InputError
from steadynet.runtime.columns import ColumnDecoder, decode_columns, decode_rows, from_arrays
from steadynet.spec.kinds import Kind
from steadynet.table.schema import GROUPED, MISSING_DATETIME, Column, Schema, Target
from steadynet.table.values import scalar

SCHEMA = Schema(
    columns=(
        Column(name="amount", kind="number", reason=""),
        Column(name="price", kind="number", reason="", number_format=GROUPED),
        Column(name="country", kind="category", reason=""),
        Column(name="new", kind="boolean", reason=""),
        Column(name="at", kind="datetime", reason=""),
        Column(name="comment", kind="text", reason=""),
    ),
    target=Target(name="y", task="regression", reason=""),
    missing_spellings=("", "NA", "?"),
)
FEATURES = {column.name: column for column in SCHEMA.features}
DTYPES: dict[Kind, type] = {
    "number": np.float32,
    "boolean": np.float32,
    "category": np.object_,
    "datetime": np.int64,
}
ROW: dict[str, Any] = {
    "amount": 12.5,
    "price": "1,234.5",
    "country": " DE ",
    "new": True,
    "at": "2026-01-02T03:04:05Z",
}

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(
        ["NA", " ? ", "1e3", "1,000", "inf", "-Infinity", "yes", "F", "0.0", "2024-02-29"]
    ),
    st.datetimes(),
    st.lists(st.integers(), max_size=2),
    st.just({}),
)


def expected(column: Column, values: Sequence[object]) -> np.ndarray | None:
    """Return what the definition says, None where a value does not fit."""
    try:
        decoded = [scalar(column, value, frozenset(SCHEMA.missing_spellings)) for value in values]
    except ValueError:
        return None
    array: np.ndarray = np.empty((len(values), 1), dtype=DTYPES[column.kind])
    for position, value in enumerate(decoded):
        array[position, 0] = value
    return array


@given(st.sampled_from(sorted(FEATURES)), st.lists(ANYTHING, min_size=1, max_size=4))
def test_every_value_is_decoded_as_defined(name: str, values: list[object]) -> None:
    rows = [ROW | {name: value} for value in values]
    table = {column: [row[column] for row in rows] for column in ROW}
    wanted = expected(FEATURES[name], values)
    if wanted is None:
        with pytest.raises(InputError) as caught:
            decode_rows(SCHEMA, rows)
        assert caught.value.column == name
        with pytest.raises(InputError) as caught:
            decode_columns(SCHEMA, table)
        assert caught.value.column == name
        return
    for columns in (decode_rows(SCHEMA, rows), decode_columns(SCHEMA, table)):
        assert columns[name].dtype == DTYPES[FEATURES[name].kind]
        np.testing.assert_array_equal(columns[name], wanted)


@given(st.lists(st.floats(), min_size=1, max_size=5))
def test_numbers_are_rounded_to_float32_without_a_warning(values: list[float]) -> None:
    rows = [ROW | {"amount": value} for value in values]
    with np.errstate(over="ignore"):
        wanted = np.array(values, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(decode_rows(SCHEMA, rows)["amount"][:, 0], wanted)


def test_every_kind_in_one_row() -> None:
    columns = decode_rows(SCHEMA, [ROW])
    assert {name: array.shape for name, array in columns.items()} == dict.fromkeys(FEATURES, (1, 1))
    assert columns["price"][0, 0] == 1234.5
    assert columns["country"][0, 0] == "DE"
    assert columns["new"][0, 0] == 1.0
    seconds = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC).timestamp()
    assert columns["at"][0, 0] == seconds


def test_null_is_missing_in_every_kind() -> None:
    columns = decode_rows(SCHEMA, [dict.fromkeys(FEATURES)])
    assert math.isnan(columns["amount"][0, 0])
    assert math.isnan(columns["new"][0, 0])
    assert columns["country"][0, 0] == ""
    assert columns["at"][0, 0] == MISSING_DATETIME


def test_the_schemas_own_missing_spellings_count() -> None:
    columns = decode_rows(SCHEMA, [ROW | {"country": "?"}, ROW | {"country": "none"}])
    assert columns["country"][:, 0].tolist() == ["", "none"]


def test_columns_that_the_schema_does_not_use_are_ignored() -> None:
    rows = [ROW | {"comment": object(), "other": []}]
    assert decode_rows(SCHEMA, rows).keys() == FEATURES.keys()
    table = {name: [value] for name, value in rows[0].items()} | {"other": [1, 2, 3]}
    assert decode_columns(SCHEMA, table).keys() == FEATURES.keys()


BAD: list[tuple[str, object, str]] = [
    ("amount", "4711 secret", "expected a number; got text"),
    ("amount", "1,000", "expected a number; got text"),
    ("amount", [4711], "got a list"),
    ("country", {"secret": 4711}, "expected a text; got an object"),
    ("new", 4711, "expected true or false; got a number"),
    ("new", "secret", "expected true or false; got text"),
    ("at", "4711-13-77", "expected a date and time .*; got text"),
    ("at", True, "got true or false"),
    ("at", 4711e30, "years 1 to 9999"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_value_that_does_not_fit_is_told_but_not_shown(
    name: str, value: object, message: str
) -> None:
    with pytest.raises(InputError, match=f"column '{name}'.*{message}") as caught:
        decode_rows(SCHEMA, [ROW | {name: value}])
    assert caught.value.column == name
    assert "4711" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_row_is_named_where_there_are_several() -> None:
    with pytest.raises(InputError, match=r"'amount' .* in row 2"):
        decode_rows(SCHEMA, [ROW, ROW, ROW | {"amount": "x"}])
    with pytest.raises(InputError, match=r"'amount' \(and 4 more\) is missing in row 1"):
        decode_rows(SCHEMA, [ROW, {}])


def test_a_missing_column_says_what_to_send() -> None:
    row = {name: value for name, value in ROW.items() if name != "new"}
    with pytest.raises(InputError, match="column 'new' is missing; expected true or false") as one:
        decode_rows(SCHEMA, [row])
    assert "Send null" in str(one.value)
    with pytest.raises(InputError, match=r"column 'amount' \(and 4 more\) is missing"):
        decode_columns(SCHEMA, {})


@pytest.mark.parametrize("rows", [[[1, 2]], ["x"], [None], [7]])
def test_a_row_that_is_no_row_is_refused(rows: Any) -> None:
    with pytest.raises(InputError, match="row 0 is no row"):
        decode_rows(SCHEMA, rows)


def test_no_rows_are_refused() -> None:
    empty: list[Callable[[], object]] = [
        lambda: decode_rows(SCHEMA, []),
        lambda: decode_columns(SCHEMA, {name: [] for name in FEATURES}),
        lambda: from_arrays(SCHEMA, {name: np.array([]) for name in FEATURES}),
    ]
    for decode in empty:
        with pytest.raises(InputError, match="no rows"):
            decode()


def test_columns_of_different_lengths_are_refused() -> None:
    table: dict[str, list[Any]] = {name: [value] for name, value in ROW.items()}
    with pytest.raises(InputError, match="different lengths"):
        decode_columns(SCHEMA, table | {"new": [True, False]})
    with pytest.raises(InputError, match="'country' is no list") as caught:
        decode_columns(SCHEMA, table | {"country": "D"})
    assert caught.value.column == "country"


ARRAYS: dict[str, np.ndarray] = {
    "amount": np.array([1.5, np.nan]),
    "price": np.array([2, 3], dtype=np.int32),
    "country": np.array([b"DE", b"F\xc3\xbc"], dtype=object),
    "new": np.array([True, False]),
    "at": np.array([0, MISSING_DATETIME]),
}


def test_typed_tensors_are_taken_as_they_are() -> None:
    columns = from_arrays(SCHEMA, ARRAYS)
    np.testing.assert_array_equal(columns["amount"], np.array([[1.5], [np.nan]], np.float32))
    np.testing.assert_array_equal(columns["price"], np.array([[2], [3]], np.float32))
    assert columns["country"].tolist() == [["DE"], ["Fü"]]
    np.testing.assert_array_equal(columns["new"], np.array([[1], [0]], np.float32))
    np.testing.assert_array_equal(columns["at"], np.array([[0], [MISSING_DATETIME]]))
    stacked = from_arrays(SCHEMA, {name: array.reshape(-1, 1) for name, array in ARRAYS.items()})
    for name, array in columns.items():
        assert array.dtype == DTYPES[FEATURES[name].kind]
        np.testing.assert_array_equal(stacked[name], array)


NUMERIC = st.one_of(
    st.lists(st.floats(), min_size=2, max_size=2).map(lambda v: np.array(v, dtype=np.float64)),
    st.lists(st.floats(width=32), min_size=2, max_size=2).map(
        lambda v: np.array(v, dtype=np.float32)
    ),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2).map(
        lambda v: np.array(v, dtype=np.int64)
    ),
    st.lists(st.integers(0, 255), min_size=2, max_size=2).map(
        lambda v: np.array(v, dtype=np.uint8)
    ),
    st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=2).map(
        lambda v: np.array(v, dtype=np.uint64)
    ),
    st.lists(st.booleans(), min_size=2, max_size=2).map(np.array),
)


@given(st.sampled_from(sorted(FEATURES)), NUMERIC)
def test_a_tensor_means_what_its_values_mean(name: str, array: np.ndarray) -> None:
    if FEATURES[name].kind == "datetime":
        # In a tensor, which has no null, this number says "missing".
        assume(not np.any(array == MISSING_DATETIME))
    wanted = expected(FEATURES[name], array.tolist())
    arrays = ARRAYS | {name: array}
    if wanted is None:
        with pytest.raises(InputError) as caught:
            from_arrays(SCHEMA, arrays)
        assert caught.value.column == name
    else:
        np.testing.assert_array_equal(from_arrays(SCHEMA, arrays)[name], wanted)


def test_a_flood_of_categories_is_not_remembered() -> None:
    decoder = ColumnDecoder(SCHEMA)
    tracemalloc.start()
    for start in range(0, 40_000, 1000):
        decoder.rows([ROW | {"country": f"country {start + number}"} for number in range(1000)])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1_000_000
    assert decoder.rows([ROW | {"country": "country 39999 "}])["country"][0, 0] == "country 39999"


@pytest.mark.parametrize("unit", ["D", "s", "ms", "us", "ns"])
def test_dates_of_numpy_are_taken(unit: str) -> None:
    dates = np.array(["1969-12-31", "2026-01-02", "NaT"], dtype=f"datetime64[{unit}]")
    arrays = {name: np.concatenate([array, array[:1]]) for name, array in ARRAYS.items()}
    columns = from_arrays(SCHEMA, arrays | {"at": dates})
    assert columns["at"][:, 0].tolist() == [-86_400, 1_767_312_000, MISSING_DATETIME]


def test_dates_of_numpy_beyond_the_calendar_are_refused() -> None:
    dates = np.array(["12026-01-02", "NaT"], dtype="datetime64[s]")
    with pytest.raises(InputError, match=r"'at' .* expected a date and time"):
        from_arrays(SCHEMA, ARRAYS | {"at": dates})


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("amount", np.zeros((2, 2)), r"wrong shape; expected \(N,\) or \(N, 1\); got \(2, 2\)"),
        ("amount", np.array(5.0), "wrong shape"),
        ("amount", np.zeros(3), "different lengths"),
        ("country", np.array([b"\xff", b"a"], dtype=object), "not UTF-8"),
        ("new", np.array([2, 1]), "in row 0; expected true or false; got a number"),
        ("at", np.array([np.inf, 0.0]), "got a number"),
        ("at", np.array([10**15, 0]), "years 1 to 9999"),
        ("amount", np.array([1j, 2j]), "got a value of type complex"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(name: str, array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_arrays(SCHEMA, ARRAYS | {name: array})


def test_a_decoder_serves_many_requests() -> None:
    decoder = ColumnDecoder(SCHEMA)
    first = decoder.rows([ROW])
    second = decoder.rows([ROW | {"amount": 1.0}])
    assert first["amount"][0, 0] == 12.5, "an answer must not change under its owner"
    assert second["amount"][0, 0] == 1.0


def test_any_mapping_is_a_row() -> None:
    class Lazy(Mapping[str, object]):
        def __getitem__(self, name: str) -> object:
            return ROW[name]

        def __iter__(self) -> Any:
            return iter(ROW)

        def __len__(self) -> int:
            return len(ROW)

    np.testing.assert_array_equal(
        decode_rows(SCHEMA, [Lazy()])["amount"], decode_rows(SCHEMA, [ROW])["amount"]
    )


NUMBERS = st.one_of(st.floats(), st.sampled_from([None, 1, True, "2.5", "NA", 10**400]))
TEXTS = st.one_of(st.sampled_from(["a", " b ", "NA", ""]), st.text(max_size=3), st.none())


@given(st.data(), st.integers(1, 40))
def test_many_values_are_read_as_one_by_one(data: st.DataObject, count: int) -> None:
    schema = Schema(
        columns=(
            Column(name="x", kind="number", reason="test"),
            Column(name="c", kind="category", reason="test", categories=("a",)),
        ),
        target=Target(name="y", task="regression", reason="test"),
    )
    numbers = data.draw(st.one_of(st.lists(st.floats(), min_size=count), st.lists(NUMBERS)))
    texts = data.draw(st.lists(TEXTS, min_size=len(numbers), max_size=len(numbers)))
    if not numbers:
        return
    decoder = ColumnDecoder(schema)
    together = decoder.table({"x": numbers, "c": texts})
    # What was read is remembered now.
    again = decoder.table({"x": numbers, "c": texts})
    alone = [decoder.table({"x": [x], "c": [c]}) for x, c in zip(numbers, texts, strict=True)]
    for name in ("x", "c"):
        one_by_one = np.concatenate([one[name] for one in alone])
        np.testing.assert_array_equal(together[name], one_by_one)
        np.testing.assert_array_equal(again[name], one_by_one)
