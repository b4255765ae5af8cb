"""Golden rows survive JSON, whatever is in them, and tell machines apart."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.bundle.golden import (
    GoldenRow,
    decode_golden,
    encode_golden,
    golden_differences,
)
from steadynet.errors import BundleFormat

CELLS = st.one_of(
    st.none(), st.booleans(), st.text(), st.floats(), st.integers(-(2**63), 2**63 - 1)
)
NUMBERS = st.floats(width=32)
ANSWERS = st.one_of(st.text(), NUMBERS, st.lists(NUMBERS, max_size=4).map(tuple))
ROWS = st.builds(
    GoldenRow,
    inputs=st.dictionaries(st.text(), CELLS, max_size=5),
    outputs=st.dictionaries(st.text(), ANSWERS, max_size=3),
)


def same(a: Any, b: Any) -> bool:
    """Equality of types and values, where NaN equals NaN and 0.0 is not -0.0."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (
            a == b and math.copysign(1, a) == math.copysign(1, b)
        )
    return type(a) is type(b) and bool(a == b)


@given(st.lists(ROWS, max_size=4))
def test_golden_rows_survive_a_round_trip(rows: list[GoldenRow]) -> None:
    decoded = decode_golden(encode_golden(rows))
    assert len(decoded) == len(rows)
    for before, after in zip(rows, decoded, strict=True):
        assert same(before.inputs, after.inputs)
        assert same(before.outputs, after.outputs)


@given(st.lists(ROWS, max_size=4))
def test_golden_rows_are_plain_json_lines(rows: list[GoldenRow]) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    lines = encode_golden(rows).decode().split("\n")
    assert len(lines) == len(rows) + 1
    for line in lines[:-1]:
        assert json.loads(line, parse_constant=refuse).keys() == {"inputs", "outputs"}


def test_a_missing_value_is_not_nan() -> None:
    row = GoldenRow(inputs={"a": None, "b": math.nan}, outputs={})
    [decoded] = decode_golden(encode_golden([row]))
    assert decoded.inputs["a"] is None
    assert isinstance(decoded.inputs["b"], float)


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]\n",
        b'{"inputs": {"a": [1]}, "outputs": {}}\n',
        b'{"inputs": {"a": {"float": "huge"}}, "outputs": {}}\n',
        b"\xff\n",
        b'{"inputs": {}}\n',
    ],
)
def test_bytes_that_are_no_golden_rows_are_refused(data: bytes) -> None:
    with pytest.raises(BundleFormat, match=r"golden\.jsonl"):
        decode_golden(data)


def binary(probability: float, label: str = "no") -> GoldenRow:
    return GoldenRow(
        inputs={}, outputs={"label": label, "probabilities": (1 - probability, probability)}
    )


def answers(probability: float, label: str = "no") -> dict[str, np.ndarray]:
    return {
        "label": np.array([label], dtype=object),
        "probabilities": np.array([[1 - probability, probability]], dtype=np.float32),
    }


@pytest.mark.parametrize(
    ("expected", "got", "differs"),
    [
        (0.3, 0.3, False),
        (0.3, 0.30003, False),
        (0.3, 0.3001, True),
        (1e-6, 5e-6, False),
        (1e-6, 5e-5, True),
        (math.nan, math.nan, False),
        (math.nan, 0.3, True),
        (0.3, math.nan, True),
    ],
)
def test_numbers_may_differ_by_rounding_alone(expected: float, got: float, differs: bool) -> None:
    row = GoldenRow(inputs={}, outputs={"prediction": expected})
    found = golden_differences([row], {"prediction": np.array([got], dtype=np.float32)})
    assert bool(found) is differs


def test_infinities_must_be_the_same() -> None:
    row = GoldenRow(inputs={}, outputs={"prediction": math.inf})
    for got, count in ((math.inf, 0), (-math.inf, 1), (1e30, 1)):
        outputs = {"prediction": np.array([got], dtype=np.float32)}
        assert len(golden_differences([row], outputs)) == count


def test_another_label_is_another_answer() -> None:
    found = golden_differences([binary(0.3)], answers(0.3, "yes"))
    assert found == ["golden row 0: output 'label' differs"]


@pytest.mark.parametrize(("threshold", "allowed"), [(0.3, True), (None, False), (0.31, False)])
def test_rounding_may_decide_the_label_at_the_threshold(
    threshold: float | None, allowed: bool
) -> None:
    found = golden_differences(
        [binary(0.3)],
        answers(0.30002, "yes"),
        thresholds=None if threshold is None else {"label": threshold},
    )
    assert (found == []) is allowed


def test_rounding_may_decide_the_label_at_a_tie_of_classes() -> None:
    row = GoldenRow(inputs={}, outputs={"label": "a", "probabilities": (0.4, 0.4, 0.2)})
    got = {
        "label": np.array(["b"], dtype=object),
        "probabilities": np.array([[0.39999, 0.40001, 0.2]], dtype=np.float32),
    }
    assert golden_differences([row], got) == []
    clear = msgspec.structs.replace(row, outputs=row.outputs | {"probabilities": (0.5, 0.3, 0.2)})
    got["probabilities"] = np.array([[0.5, 0.3, 0.2]], dtype=np.float32)
    assert len(golden_differences([clear], got)) == 1


def test_an_output_that_is_missing_or_has_another_shape_differs() -> None:
    rows = [binary(0.3)]
    assert len(golden_differences(rows, {})) == 2
    three = {**answers(0.3), "probabilities": np.zeros((1, 3), np.float32)}
    assert golden_differences(rows, three) == ["golden row 0: output 'probabilities' differs"]
