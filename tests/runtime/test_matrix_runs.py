"""What is kept in one piece says the same as what is kept apart: rows, columns, runs, outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from models import schema_of

from steadynet.runtime.batching import score_groups
from steadynet.runtime.columns import ColumnDecoder, Columns
from steadynet.runtime.matrix import Grid, Matrix, join_matrices
from steadynet.runtime.outputs import flat_values, parts_of

NAMES = ("n0", "n1", "n2")
DECODER = ColumnDecoder(schema_of(3, 0))
CELL = st.one_of(st.none(), st.floats(), st.integers(), st.sampled_from([10**400, -(10**400)]))
ROWS = st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=5)
DTYPES = st.sampled_from(["f2", "f4", "f8", "i1", "u2", "i8", "u8"])


def apart(matrix: Matrix) -> dict[str, Any]:
    """Return the same rows as a table of columns."""
    return {name: matrix[name] for name in NAMES}


def assert_same(grid: Any, columns: Any) -> None:
    """Compare to the bit."""
    assert list(grid) == list(columns)
    for name, column in columns.items():
        assert grid[name].shape == column.shape
        assert grid[name].dtype == column.dtype == np.float32
        np.testing.assert_array_equal(grid[name], column)


@given(ROWS)
def test_a_matrix_of_values_is_decoded_as_its_columns_are(rows: list[list[Any]]) -> None:
    matrix = Matrix(NAMES, [cell for row in rows for cell in row])
    assert_same(DECODER.table(matrix), DECODER.table(apart(matrix)))


@given(DTYPES, st.integers(1, 5), st.randoms(use_true_random=False))
def test_a_typed_matrix_is_decoded_as_its_columns_are(dtype: str, rows: int, random: Any) -> None:
    raw = np.array([random.randrange(256) for _ in range(rows * 3 * 8)], np.uint8)
    cells = raw.view(dtype)[: rows * 3].reshape(rows, 3)
    matrix = Matrix(NAMES, cells)
    with np.errstate(invalid="ignore"):
        assert_same(DECODER.table(matrix), DECODER.table(apart(matrix)))


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_joined_matrices_hold_the_rows_of_each_in_order(groups: list[list[list[Any]]]) -> None:
    parts = [Matrix(NAMES, [cell for row in rows for cell in row]) for rows in groups]
    joined = join_matrices(parts)
    assert joined is not None
    assert joined.cells == [cell for part in parts for cell in part.cells]


def test_what_is_no_matrix_or_of_another_type_is_not_joined() -> None:
    matrix = Matrix(NAMES, [1.0, 2.0, 3.0])
    narrow = Matrix(NAMES, np.zeros((1, 3), np.float32))
    wide = Matrix(NAMES, np.zeros((1, 3), np.float64))
    assert join_matrices([matrix, {"n0": [1.0]}]) is None
    assert join_matrices([matrix, narrow]) is None
    assert join_matrices([narrow, wide]) is None


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_parts_are_the_rows_of_each_caller(rows: list[int]) -> None:
    total = sum(rows)
    outputs = {
        "label": np.array([f"c{at}" for at in range(total)], object),
        "probabilities": np.arange(2 * total, dtype=np.float32).reshape(total, 2),
    }
    start = 0
    for count, part in zip(rows, parts_of(outputs, rows), strict=True):
        assert list(part) == list(outputs)
        assert len(part) == 2
        for name, array in outputs.items():
            own = array[start : start + count]
            np.testing.assert_array_equal(part[name], own)
            assert name in part
            shape, values = part.flat(name)
            assert (shape, values) == flat_values({name: own}, name)
        assert "prediction" not in part
        start += count


class Doubling:
    """Answers each row with twice its first number."""

    columns = NAMES

    def decode(self, table: Any) -> Any:
        return DECODER.table(table)

    def run(self, columns: Any) -> Columns:
        assert type(columns) is Grid
        return {"y": 2 * columns["n0"][:, 0]}


def test_callers_that_send_matrices_get_their_own_rows() -> None:
    tables = [Matrix(NAMES, [float(n), 0.0, 0.0] * (n + 1)) for n in range(5)]
    outcomes, scored = score_groups(Doubling(), tables, [n + 1 for n in range(5)])
    assert [run.rows for run in scored] == [15]
    for number, outcome in enumerate(outcomes):
        assert not isinstance(outcome, Exception)
        assert outcome.outputs["y"].tolist() == [2.0 * number] * (number + 1)
