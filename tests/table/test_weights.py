"""A column of weights is read as one, or refused with what is wrong."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.errors import TableError
from steadynet.spec.kinds import MISSING_SPELLINGS
from steadynet.table.weights import read_weights


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30))
def test_weights_are_one_on_average_and_keep_their_ratios(values: list[float]) -> None:
    found = read_weights(pl.DataFrame({"w": values}), "w", MISSING_SPELLINGS)
    assert found.mean() == pytest.approx(1)
    np.testing.assert_allclose(found * values[0], np.array(values) * found[0])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["1", "-2"], "1 below 0"),
        (["1", ""], "1 missing"),
        (["1", "heavy"], "1 no numbers"),
        (["1", "inf"], "1 not finite"),
        (["0", "0"], "0 in every row"),
    ],
)
def test_what_is_no_weight_is_named_and_counted(values: list[str], says: str) -> None:
    with pytest.raises(TableError, match=says):
        read_weights(pl.DataFrame({"w": values}), "w", MISSING_SPELLINGS)


def test_a_column_that_is_absent_is_told_with_the_nearest() -> None:
    with pytest.raises(TableError, match="weight"):
        read_weights(pl.DataFrame({"weight": [1.0]}), "wieght", MISSING_SPELLINGS)
