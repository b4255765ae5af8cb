"""`golden.jsonl`: rows with the answers that the bundle must give on every machine.

Round-trip law: `decode_golden(encode_golden(rows)) == rows`, where NaN equals NaN. JSON has no
NaN and no infinities, so a number that is not finite is written as `{"float": "nan"}`, `"inf"` or
`"-inf"`; `null` is a missing value and stays apart from NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from steadynet.errors import BundleFormat

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

Cell = str | float | int | bool | None
"""A value of a row, as a caller sends it."""
Answer = str | float | tuple[float, ...]
"""A row's part of one output: a label, a number, or the probabilities."""

RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-5
"""How far another runtime's or processor's float32 may be from the recorded one."""


class GoldenRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row and its expected outputs."""

    inputs: dict[str, Cell]
    """Feature column → value."""
    outputs: dict[str, Answer]
    """Output of the graph → the row's answer."""


class _NotFinite(msgspec.Struct, frozen=True):
    float: Literal["nan", "inf", "-inf"]


class _Line(msgspec.Struct, frozen=True):
    inputs: dict[str, str | float | int | bool | _NotFinite | None]
    outputs: dict[str, str | float | _NotFinite | tuple[float | _NotFinite, ...]]


def encode_golden(rows: Iterable[GoldenRow]) -> bytes:
    """Return the rows as JSON lines with sorted keys."""
    lines = [
        _Line(
            {name: _pack(value) for name, value in row.inputs.items()},
            {
                name: tuple(map(_pack, value)) if isinstance(value, tuple) else _pack(value)
                for name, value in row.outputs.items()
            },
        )
        for row in rows
    ]
    return msgspec.json.Encoder(order="sorted").encode_lines(lines)


def decode_golden(data: bytes) -> tuple[GoldenRow, ...]:
    """Read golden rows. Raises `BundleFormat` where the bytes are none."""
    try:
        lines = msgspec.json.Decoder(_Line).decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleFormat("golden.jsonl cannot be read", got=str(error)) from error
    return tuple(
        GoldenRow(
            inputs={name: _unpack(value) for name, value in line.inputs.items()},
            outputs={
                name: tuple(map(_unpack, value)) if isinstance(value, tuple) else _unpack(value)
                for name, value in line.outputs.items()
            },
        )
        for line in lines
    )


def golden_differences(
    rows: Sequence[GoldenRow],
    outputs: Mapping[str, np.ndarray],
    *,
    thresholds: Mapping[str, float] | None = None,
) -> list[str]:
    """Say where outputs, computed from the rows' inputs, differ from what the rows expect.

    `outputs` holds arrays [N] or [N, C] in the order of `rows`. Numbers may differ by the
    tolerances of this module. A label must be the same, unless the expected probabilities are so
    close to a tie (or to the threshold of the positive class) that rounding may decide.
    `thresholds` maps the label output of a binary target to its threshold (0.5 where absent).
    An empty list means that the machine reproduces the bundle.
    """
    problems: list[str] = []
    for position, row in enumerate(rows):
        for name, expected in row.outputs.items():
            if name not in outputs:
                problems.append(f"golden row {position}: output {name!r} is missing")
                continue
            got = outputs[name][position]
            if isinstance(expected, str):
                same = str(got) == expected or _is_tie(row, name, thresholds or {})
            else:
                same = _close(expected, got)
            if not same:
                problems.append(f"golden row {position}: output {name!r} differs")
    return problems


def _close(expected: float | tuple[float, ...], got: np.ndarray) -> bool:
    # Verifying a bundle reads golden rows and compares none: it has not to wait for NumPy.
    import numpy as np

    wanted = np.asarray(expected, dtype=np.float64)
    if np.shape(got) != wanted.shape:
        return False
    return bool(
        np.allclose(
            np.asarray(got, dtype=np.float64),
            wanted,
            rtol=RELATIVE_TOLERANCE,
            atol=ABSOLUTE_TOLERANCE,
            equal_nan=True,
        )
    )


def _is_tie(row: GoldenRow, label: str, thresholds: Mapping[str, float]) -> bool:
    probabilities = row.outputs.get(f"{label.removesuffix('label')}probabilities")
    if not isinstance(probabilities, tuple) or len(probabilities) < 2:
        return False
    margin = RELATIVE_TOLERANCE + ABSOLUTE_TOLERANCE
    if len(probabilities) == 2:
        return abs(probabilities[-1] - thresholds.get(label, 0.5)) <= margin
    first, second = sorted(probabilities, reverse=True)[:2]
    return first - second <= margin


def _pack(value: T) -> T | _NotFinite:
    if isinstance(value, float) and not math.isfinite(value):
        return _NotFinite("nan" if math.isnan(value) else "inf" if value > 0 else "-inf")
    return value


def _unpack(value: T | _NotFinite) -> T | float:
    return float(value.float) if isinstance(value, _NotFinite) else value
