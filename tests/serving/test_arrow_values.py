"""A value sent as Arrow means what the same value means as JSON, whatever its Arrow type."""

from __future__ import annotations

import datetime
import io
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steadynet.errors import InputError
from steadynet.runtime.columns import ColumnDecoder
from steadynet.serving.arrow import kinds_of, read_body
from steadynet.serving.arrow_messages import Bounds
from steadynet.table.schema import Column, Schema, Target

BOUNDS = Bounds(10_000, 1_000_000)
KINDS = ("number", "boolean", "category", "datetime")
UTC = datetime.UTC

Values = list[Any]
Typed = tuple[pa.DataType, Values, Values]
"""An Arrow type, values of it, and the same values as JSON has them."""

texts = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["1", "2.0", " true ", "NA", "1e3", "2026-01-31", "2026-01-31T10:00:00Z", "Zürich", "y"]
    ),
)
moments = st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31))


def whole(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    """Draw whole numbers of a width, small ones above all."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.one_of(st.integers(low, high), st.integers(0, 2), st.sampled_from([low, high]))


def floats(width: Any) -> st.SearchStrategy[float]:
    """Draw floats of a width; JSON has no infinite ones, and NaN is Python's alone."""
    return st.floats(width=width, allow_nan=False, allow_infinity=False)


@st.composite
def typed_columns(draw: st.DrawFn, count: int) -> Typed:
    """Draw a column of any type that pandas and Polars send."""
    plain: dict[pa.DataType, st.SearchStrategy[Any]] = {
        pa.bool_(): st.booleans(),
        pa.string(): texts,
        pa.large_string(): texts,
        pa.string_view(): texts,
        pa.float16(): floats(16),
        pa.float32(): floats(32),
        pa.float64(): floats(64),
        pa.null(): st.none(),
    }
    for bits in (8, 16, 32, 64):
        plain[getattr(pa, f"int{bits}")()] = whole(bits, signed=True)
        plain[getattr(pa, f"uint{bits}")()] = whole(bits, signed=False)
    kind = draw(st.sampled_from([*plain, pa.decimal128(10, 2), pa.decimal256(40, 3), pa.date32()]))
    if kind in plain:
        values = draw(st.lists(st.none() | plain[kind], min_size=count, max_size=count))
        return kind, values, values
    if kind == pa.date32():
        days = draw(st.lists(st.none() | st.dates(), min_size=count, max_size=count))
        return kind, days, [day and day.isoformat() for day in days]
    whole_cents = st.none() | st.integers(-(10**8), 10**8)
    cents = draw(st.lists(whole_cents, min_size=count, max_size=count))
    sums = [None if each is None else Decimal(each) / 100 for each in cents]
    return kind, sums, [None if each is None else float(each) for each in sums]


@st.composite
def times(draw: st.DrawFn, count: int) -> Typed:
    """Draw a column of dates and times, of any unit, with a zone or without."""
    unit = draw(st.sampled_from(["s", "ms", "us", "ns"]))
    zone = draw(st.sampled_from([None, "UTC", "Europe/Berlin"]))
    each = (
        st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1))
        if unit == "ns"
        else moments
    )
    found = draw(st.lists(st.none() | each, min_size=count, max_size=count))
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    epoch = datetime.datetime(1970, 1, 1)
    ticks = [
        None
        if at is None
        else (at - epoch) // datetime.timedelta(microseconds=1) * per_second // 10**6
        for at in found
    ]
    told = [None if at is None else at.replace(tzinfo=UTC).isoformat() for at in found]
    return pa.timestamp(unit, zone), ticks, told


@st.composite
def tables(draw: st.DrawFn) -> list[tuple[str, Typed]]:
    """Draw kind and column of a table, one of each kind and in any order."""
    count = draw(st.integers(1, 12))
    found = []
    for kind in draw(st.permutations(KINDS)):
        if kind == "datetime" and draw(st.booleans()):
            column = draw(times(count))
        else:
            column = draw(typed_columns(count))
            if pa.types.is_date(column[0]) and kind != "datetime":
                continue
        found.append((kind, column))
    return found


def schema_of(kinds: list[str]) -> Schema:
    """Return a schema with a column named for each kind."""
    columns = [Column(name=f"a {kind}", kind=kind, reason="") for kind in kinds]  # type: ignore[arg-type]
    return Schema(
        columns=tuple(columns), target=Target(name="y", task="regression", reason="numbers")
    )


def stream_of(columns: dict[str, pa.Array], parts: int, *, is_file: bool) -> bytes:
    """Return a table as Arrow, in so many record batches or fewer."""
    table = pa.table(columns)
    sink = io.BytesIO()
    opened = pa.ipc.new_file if is_file else pa.ipc.new_stream
    with opened(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=-(-table.num_rows // parts))
    return sink.getvalue()


def outcome(decoder: ColumnDecoder, table: Any) -> dict[str, Any] | str:
    """Return the decoded columns, or which column is at fault."""
    try:
        return {name: array.tolist() for name, array in decoder.table(table).items()}
    except InputError as error:
        return str(error.column)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.integers(1, 3), st.booleans(), st.booleans())
def test_a_table_sent_as_arrow_is_the_table_sent_as_json(
    found: list[tuple[str, Typed]], parts: int, is_file: bool, has_dictionaries: bool
) -> None:
    schema = schema_of([kind for kind, _ in found])
    decoder = ColumnDecoder(schema)
    columns = {}
    for kind, (type_, values, _) in found:
        array = pa.array(values, type_)
        if has_dictionaries and type_ not in (pa.null(), pa.string_view(), pa.float16()):
            array = array.dictionary_encode()
        columns[f"a {kind}"] = array
    body = stream_of(columns, parts, is_file=is_file)
    as_json = json.loads(json.dumps({f"a {kind}": told for kind, (_, _, told) in found}))
    expected = outcome(decoder, as_json)
    table, rows = read_body(body, kinds_of([schema]), BOUNDS, is_file=is_file)
    assert rows == len(found[0][1][1])
    np.testing.assert_equal(outcome(decoder, table), expected)
