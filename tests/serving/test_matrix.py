"""One tensor for all columns, where all of them are numbers: the same as one tensor per column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steadynet.errors import InputError
from steadynet.monitoring.records import LoggedRow
from steadynet.runtime.columns import ColumnDecoder
from steadynet.runtime.matrix import Matrix, join_matrices
from steadynet.serving.oip import TensorIn
from steadynet.serving.publisher import Answered, Key, logged_rows
from steadynet.serving.tensors import Datatype, read_table
from steadynet.table.schema import Column, Schema, Target

NAMES = ("a", "b", "c")


class Version:
    """As much of a loaded version as reading a matrix looks at."""

    def __init__(self, *, all_numbers: bool = True) -> None:
        self.columns = NAMES
        self.all_numbers = all_numbers
        self.categories: frozenset[str] = frozenset()
        self.datetimes: frozenset[str] = frozenset()


def matrix(shape: tuple[int, ...], data: list[Any], datatype: Datatype = "FP64") -> list[TensorIn]:
    """Return the request's one tensor."""
    return [TensorIn("x", shape, datatype, data)]


def columns(data: list[Any], datatype: Datatype) -> list[TensorIn]:
    """Return the same rows, one tensor per column."""
    return [
        TensorIn(name, (len(data) // 3,), datatype, data[at::3]) for at, name in enumerate(NAMES)
    ]


DECODER = ColumnDecoder(
    Schema(
        columns=tuple(Column(name=name, kind="number", reason="") for name in NAMES),
        target=Target(name="y", task="regression", reason=""),
    )
)


def read(inputs: list[TensorIn]) -> dict[str, list[float]] | str:
    """Return what the graph is given, column by column, or why the request is refused."""
    try:
        table, _ = read_table(inputs, Version())
        decoded = DECODER.table(table)
    except InputError as error:
        return str(error)
    return {name: np.nan_to_num(decoded[name].ravel(), nan=-1.0).tolist() for name in NAMES}


def values_of(table: Any) -> dict[str, list[Any]]:
    """Return column → list."""
    return {name: list(values) for name, values in table.items()}


rows = st.lists(st.lists(st.floats(allow_nan=False), min_size=3, max_size=3), min_size=1)


@given(rows)
def test_flat_and_nested_matrices_are_the_columns(given_rows: list[list[float]]) -> None:
    expected = {name: [row[at] for row in given_rows] for at, name in enumerate(NAMES)}
    flat = [value for row in given_rows for value in row]
    for data in (flat, given_rows):
        shape = (len(given_rows), 3)
        table, count = read_table(matrix(shape, data), Version())
        assert count == len(given_rows)
        assert values_of(table) == expected


@pytest.mark.parametrize(
    ("shape", "data", "words"),
    [
        ((1, 2), [1.0, 2.0], r"\[N, 3\]"),
        ((0, 3), [], "at least 1"),
        ((1, 3), [1.0, 2.0], "another number of values"),
        ((2, 3), [[1.0, 2.0, 3.0], [1.0]], "another number of values"),
        ((1, 3), [[1.0], [2.0]], "another number of values"),
    ],
)
def test_a_wrong_matrix_is_told_what_is_wrong(
    shape: tuple[int, ...], data: list[Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read_table(matrix(shape, data), Version())


number_texts = st.one_of(
    st.none(),
    st.text(max_size=4),
    st.floats().map(str),
    st.sampled_from(["1_000", "1e3", " 2 ", "NA", "", "abc", "inf", "0x10", "1,5", "\u0661"]),
)


@given(st.lists(st.tuples(*[number_texts] * 3), min_size=1, max_size=12))
@example([("abc", "1", "2")])
@example([("1_000", "1", "2")])
@example([("1.5", "", " 2e3 ")])
def test_texts_in_a_matrix_are_read_as_those_of_its_columns(
    given_rows: list[tuple[str | None, ...]],
) -> None:
    cells = [cell for row in given_rows for cell in row]
    assert read(matrix((len(given_rows), 3), cells, "BYTES")) == read(columns(cells, "BYTES"))


@given(st.lists(st.tuples(*[st.sampled_from([None, True, False, 0, 1, 2, "no"])] * 3), min_size=1))
def test_flags_in_a_matrix_are_read_as_those_of_its_columns(
    given_rows: list[tuple[Any, ...]],
) -> None:
    cells = [cell for row in given_rows for cell in row]
    one, apart = (
        read(matrix((len(given_rows), 3), cells, "BOOL")),
        read(columns(cells, "BOOL")),
    )
    # A tensor that is refused is named, and so is the row within it.
    assert one == apart or (isinstance(one, str) and isinstance(apart, str))


@pytest.mark.parametrize("text", ["abc", "1_000"])
def test_a_text_that_is_no_number_is_refused_though_others_wait_with_it(text: str) -> None:
    refused = read(matrix((1, 3), [text, "1", "2"], "BYTES"))
    assert refused == "column 'a' has a value that does not fit; expected a number; got text"
    first, _ = read_table(matrix((1, 3), [1.0, 2.0, 3.0]), Version())
    second, _ = read_table(matrix((1, 3), [text, "1", "2"], "BYTES"), Version())
    assert join_matrices([first, second]) is None, "what is not numbers is joined as any table is"


def test_a_model_with_texts_takes_no_matrix() -> None:
    with pytest.raises(InputError, match="one tensor"):
        read_table(matrix((1, 3), [1.0, 2.0, 3.0]), Version(all_numbers=False))


@given(rows, st.sets(st.sampled_from(NAMES)))
def test_rows_of_a_matrix_are_logged_as_those_of_its_columns(
    given_rows: list[list[float]], redact: set[str]
) -> None:
    cells = [value for row in given_rows for value in row]
    flat = Matrix(NAMES, cells)
    wide = Matrix(NAMES, np.array(cells).reshape(-1, 3))
    loaded: Any = Version()
    outputs = {"prediction": np.arange(len(given_rows), dtype=np.float32)}

    def logged(table: Any) -> list[LoggedRow]:
        key = Key("1", "champion")
        answered = Answered("id", 1.0, key, loaded, table, len(given_rows), outputs)
        return list(logged_rows(answered, frozenset(redact)))

    apart = logged({name: flat[name] for name in NAMES})
    assert logged(flat) == logged(wide) == apart
    wide.cells[0, 1] = np.nan  # type: ignore[call-overload]
    assert logged(wide) == logged({name: wide[name] for name in NAMES})
    for position, row in enumerate(apart):
        assert row.row == {
            name: None if name in redact else given_rows[position][at]
            for at, name in enumerate(NAMES)
        }
