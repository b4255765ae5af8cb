"""An example tells how a column is written, and is written where a retrain hands it on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.table.examples import Written, read_example, write_example, write_number
from steadynet.table.schema import PLAIN, Column, DateOrder, NumberFormat
from steadynet.table.units import CURRENCIES, UNITS

FORMATS = st.builds(
    NumberFormat,
    grouped=st.just(False),
    decimal_comma=st.booleans(),
    prefix=st.sampled_from(["", "$", "€", *sorted(CURRENCIES)]),
    suffix=st.sampled_from(["", "months", *sorted(UNITS | CURRENCIES)]),
) | st.builds(NumberFormat, grouped=st.just(True), prefix=st.sampled_from(["", "£", "USD"]))


@given(FORMATS)
def test_what_is_written_is_read_back(number_format: NumberFormat) -> None:
    example = write_number(number_format)
    if number_format == PLAIN:
        assert example is None
    else:
        assert example is not None
        assert read_example(example) == Written(number_format=number_format)


@pytest.mark.parametrize("order", ["day_first", "month_first"])
def test_dates_are_read_back(order: DateOrder) -> None:
    column = Column(name="x", kind="datetime", reason="", date_order=order)
    example = write_example(column)
    assert example is not None
    assert read_example(example) == Written(date_order=order)


@pytest.mark.parametrize("example", ["", "soon", "1,2,3", "12 apples and 3 pears", "A12"])
def test_what_tells_nothing(example: str) -> None:
    assert read_example(example) is None
