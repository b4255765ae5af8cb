"""One tensor for all columns, where all of them are numbers: the same as one tensor per column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.errors import InputError
from steadynet.monitoring.records import LoggedRow
from steadynet.runtime.matrix import Matrix
from steadynet.serving.oip import TensorIn
from steadynet.serving.publisher import Answered, Key, logged_rows
from steadynet.serving.tensors import read_table

NAMES = ("a", "b", "c")


class Version:
    """As much of a loaded version as reading a matrix looks at."""

    def __init__(self, *, all_numbers: bool = True) -> None:
        self.columns = NAMES
        self.all_numbers = all_numbers
        self.categories: frozenset[str] = frozenset()
        self.datetimes: frozenset[str] = frozenset()


def matrix(shape: tuple[int, ...], data: list[Any]) -> list[TensorIn]:
    """Return the request's one tensor."""
    return [TensorIn("x", shape, "FP64", data)]


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
