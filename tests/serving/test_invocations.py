"""What MLflow's formats hold, read without a server."""

from __future__ import annotations

from typing import Any

import pytest

from steadynet.errors import InputError
from steadynet.serving.invocations import Invocation, read_table

FEATURES = ("amount", "country")


def test_records_keep_the_columns_that_another_version_may_read() -> None:
    """A candidate with a new column must find it, though the champion does not read it."""
    rows: list[dict[str, Any]] = [
        {"amount": 1.0, "country": "DE", "device": "phone", "note": "x"},
        {"amount": 2.0, "country": "FR", "device": None},
    ]
    table, count = read_table(Invocation(dataframe_records=rows), FEATURES)
    assert count == 2
    assert table == {"amount": [1.0, 2.0], "country": ["DE", "FR"], "device": ["phone", None]}
    assert read_table(Invocation(instances=rows), FEATURES) == (table, count)


@pytest.mark.parametrize("more", [{}, {"device": "phone"}])
def test_a_record_without_a_column_is_told(more: dict[str, Any]) -> None:
    rows = [{"amount": 1.0, "country": "DE", **more}, {"amount": 2.0, **more}]
    with pytest.raises(InputError, match="column 'country' is missing in row 1"):
        read_table(Invocation(dataframe_records=rows), FEATURES)
