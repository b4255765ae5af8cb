"""Tensors become tables: the datatypes, their limits, and the same answer however they came."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.errors import InputError
from steadynet.runtime.columns import ColumnDecoder
from steadynet.serving.binary import decode_tensor, encode_tensor
from steadynet.serving.oip import InferIn, TensorIn, TensorParameters, join_binary
from steadynet.serving.tensors import DTYPES, Tensor, read_table
from steadynet.table.schema import MISSING_DATETIME, Column, Schema, Target

SCHEMA = Schema(
    columns=(
        Column(name="n", kind="number", reason=""),
        Column(name="c", kind="category", reason=""),
        Column(name="b", kind="boolean", reason=""),
        Column(name="t", kind="datetime", reason=""),
    ),
    target=Target(name="y", task="regression", reason=""),
)
NUMBERS = [name for name in DTYPES if name != "BOOL"]
MIXED = Schema(columns=SCHEMA.columns[:1], target=SCHEMA.target)


class Version:
    """As much of a loaded version as reading tensors looks at."""

    columns = ("n", "c", "b", "t")
    all_numbers = False
    categories = frozenset({"c"})
    datetimes = frozenset({"t"})


def limits(datatype: str) -> st.SearchStrategy[float | int]:
    """Return values that the datatype holds."""
    dtype = DTYPES[datatype]
    if dtype.kind == "f":
        widths: dict[str, Literal[16, 32, 64]] = {"FP16": 16, "FP32": 32, "FP64": 64}
        # JSON has no infinity.
        return st.floats(width=widths[datatype], allow_nan=False, allow_infinity=False)
    info = np.iinfo(dtype)
    return st.integers(int(info.min), int(info.max))


@st.composite
def columns_of_numbers(draw: st.DrawFn) -> tuple[str, str, list[Any]]:
    """Draw a column, a datatype and values that fit both."""
    name = draw(st.sampled_from(["n", "c", "b", "t"]))
    datatype = draw(st.sampled_from(NUMBERS))
    values: st.SearchStrategy[Any] = limits(datatype)
    if name == "b":
        values = st.sampled_from([0, 1] if DTYPES[datatype].kind != "f" else [0.0, 1.0])
    if name == "t":
        low, high = (0, 100) if DTYPES[datatype].itemsize == 1 else (0, 30_000)
        values = st.integers(low, high)
        if DTYPES[datatype].kind == "f":
            values = values.map(float)
        elif datatype == "INT64":
            values = values | st.just(MISSING_DATETIME)
    return name, datatype, draw(st.lists(values, min_size=1, max_size=5))


def decoded(inputs: Sequence[Any], name: str) -> np.ndarray:
    """Return one column's graph input of a request."""
    table, _ = read_table(inputs, Version())
    column = next(column for column in SCHEMA.columns if column.name == name)
    schema = Schema(columns=(column,), target=SCHEMA.target)
    return ColumnDecoder(schema).table(table)[name]


@given(columns_of_numbers())
def test_json_and_binary_agree_to_the_bit(drawn: tuple[str, str, list[Any]]) -> None:
    name, datatype, values = drawn
    raw = np.array(values, dtype=DTYPES[datatype]).tobytes()
    as_json = msgspec.json.decode(
        msgspec.json.encode([value if abs(value) != np.inf else 1e999 for value in values])
    )
    as_json = [
        np.inf * np.sign(v) if j is None else j for j, v in zip(as_json, values, strict=True)
    ]
    sent = TensorIn(name, (len(values), 1), datatype, as_json)  # type: ignore[arg-type]
    binary = Tensor(name, datatype, (len(values),), decode_tensor(name, datatype, len(values), raw))
    one, other = decoded([sent], name), decoded([binary], name)
    assert one.dtype == other.dtype
    if one.dtype == object:
        assert one.tolist() == other.tolist()
    else:
        assert one.tobytes() == other.tobytes()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=6))
def test_texts_survive_the_round_trip(texts: list[str]) -> None:
    array = np.array(texts, dtype=object)
    assert decode_tensor("c", "BYTES", len(texts), encode_tensor(array)) == texts


def decoded_or_told(datatype: str, count: int, raw: bytes) -> np.ndarray | list[str] | None:
    """Return the elements, or None where an `InputError` says why there are none."""
    try:
        return decode_tensor("n", datatype, count, raw)
    except InputError:
        return None


@given(st.sampled_from(list(DTYPES)), st.binary(max_size=64), st.integers(0, 2**62))
def test_a_size_that_lies_is_an_input_error(datatype: str, raw: bytes, count: int) -> None:
    values = decoded_or_told(datatype, count, raw)
    fits = len(raw) == count * DTYPES[datatype].itemsize
    if datatype == "BOOL":
        fits = fits and not set(raw) - {0, 1}
    assert (values is not None) == fits
    assert values is None or len(values) == count


@given(st.binary(max_size=64), st.integers(0, 2**62))
def test_texts_whose_lengths_lie_are_an_input_error(raw: bytes, count: int) -> None:
    texts = decoded_or_told("BYTES", count, raw)
    if texts is not None:
        assert len(texts) == count
        assert encode_tensor(np.array(texts, dtype=object)) == raw


def test_arrays_are_aligned_wherever_the_json_part_ends() -> None:
    body = b"x" + np.arange(4, dtype="<f8").tobytes()
    array = decode_tensor("n", "FP64", 4, memoryview(body)[1:])
    assert isinstance(array, np.ndarray)
    assert array.flags.aligned
    assert array.tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("datatype", "data", "words"),
    [
        ("FP32", ["1.5"], "no FP32.*numbers, or null.*text"),
        ("FP64", [True], "no FP64.*numbers"),
        ("INT8", [128], "beyond its datatype.*-128 to 127"),
        ("UINT16", [-1], "beyond its datatype.*0 to 65535"),
        ("INT32", [1.5], "no INT32.*whole numbers"),
        ("INT32", [True], "no INT32"),
        ("BOOL", ["true"], "no BOOL.*true or false"),
        ("BOOL", [2], "beyond its datatype"),
        ("BYTES", [5], "no BYTES.*texts, or null"),
        ("FP32", [1.0, {}], "row 1.*numbers"),
        ("FP32", None, "has no data"),
    ],
)
def test_values_that_their_datatype_does_not_hold(
    datatype: Any, data: list[Any] | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read_table([TensorIn("n", (len(data or [0]),), datatype, data)], Version())


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("FP16", [0.1], float(np.float16(0.1))),
        ("FP32", [7], 7.0),
        ("FP64", [10**400], np.inf),
        ("INT8", [5.0], 5.0),
        ("UINT64", [2**64 - 1], float(np.float32(2.0**64))),
        ("BOOL", [True], 1.0),
        ("BOOL", [1], 1.0),
        ("BYTES", [" 12.5 "], 12.5),
        ("INT16", [None], np.nan),
        ("FP16", [None], np.nan),
    ],
)
def test_every_datatype_reaches_a_number(datatype: Any, data: list[Any], expected: float) -> None:
    column = decoded([TensorIn("n", (1, 1), datatype, data)], "n")
    np.testing.assert_array_equal(column, np.array([[expected]], np.float32))


def binary_input(name: str, shape: tuple[int, ...], size: int, **changes: Any) -> TensorIn:
    """Return an input whose data stand behind the JSON part."""
    return TensorIn(name, shape, "FP32", parameters=TensorParameters(size), **changes)


@pytest.mark.parametrize(
    ("inputs", "tail", "words"),
    [
        ([binary_input("n", (1,), 8)], b"1234", "cut off.*0 to 4 bytes.*8 bytes"),
        ([binary_input("n", (1,), -4)], b"1234", "cut off"),
        ([binary_input("n", (1,), 4)], b"12345678", "no input names.*4 bytes.*8 bytes"),
        ([binary_input("n", (2,), 4)], b"1234", "another size.*8 bytes"),
        ([binary_input("n", (-1, -1), 4)], b"1234", "wrong shape"),
        ([binary_input("n", (2**40, 2**40), 4)], b"1234", "another size"),
        ([binary_input("n", (1,), 4, data=[1.0])], b"1234", "twice"),
        ([TensorIn("n", (1,), "FP32")], b"", "no data"),
    ],
)
def test_binary_data_that_do_not_fit(inputs: list[TensorIn], tail: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        join_binary(inputs, memoryview(tail))


@given(st.binary(max_size=24), st.lists(st.integers(-2, 20), max_size=3))
def test_no_tail_is_a_surprise(tail: bytes, sizes: list[int]) -> None:
    inputs = [binary_input(f"x{at}", (size // 4,), size) for at, size in enumerate(sizes)]
    try:
        joined = join_binary(inputs, memoryview(tail))
    except InputError:
        return
    assert sum(len(tensor.data) for tensor in joined if tensor.data is not None) * 4 == len(tail)


def test_binary_and_json_inputs_may_be_mixed() -> None:
    inputs = [
        TensorIn("c", (2,), "BYTES", ["a", None]),
        binary_input("n", (2, 1), 8),
        TensorIn("b", (2,), "BOOL", [True, False]),
    ]
    joined = join_binary(inputs, memoryview(struct.pack("<2f", 1.5, float("nan"))))
    table, rows = read_table(joined, Version())
    assert rows == 2
    assert table["c"] == ["a", None]
    np.testing.assert_array_equal(table["n"], np.array([1.5, np.nan], np.float32))


def test_unknown_parameters_are_no_error() -> None:
    body = b'{"inputs": [{"name": "n", "shape": [1], "datatype": "FP32", "data": [1],'
    body += b'"parameters": {"content_type": "np"}}]}'
    assert msgspec.json.decode(body, type=InferIn).inputs[0].parameters == TensorParameters()
