"""Tensors of the Open Inference Protocol, and the table that they mean, whatever carried them.

A tensor's values are a list as JSON has them (checked here against the datatype) or a NumPy array
as a binary body has them (checked by `serving.binary`). A property test holds the two ways equal
to the bit.

Source: https://github.com/kserve/open-inference-protocol (tensor data types, version 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from steadynet.errors import InputError
from steadynet.runtime.batching import Table
from steadynet.runtime.matrix import Matrix
from steadynet.spec.kinds import Kind
from steadynet.table.schema import MISSING_DATETIME
from steadynet.table.values import kind_of

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]

DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""Element types of the datatypes of a fixed size; BYTES is the one without."""

KIND_DATATYPES: dict[Kind, str] = {
    "number": "FP32",
    "boolean": "BOOL",
    "category": "BYTES",
    "datetime": "INT64",
}
"""What metadata says; every datatype whose values fit the column is taken."""

_OUTPUT_DATATYPES: dict[str, str] = {
    "label": "BYTES",
    "probabilities": "FP32",
    "prediction": "FP32",
    "lower": "FP32",
    "upper": "FP32",
    "prediction_set": "BOOL",
}


def output_datatype(name: str) -> str:
    """Return the datatype of an output: of the main target, or named `<target>/<output>`."""
    return _OUTPUT_DATATYPES.get(name) or _OUTPUT_DATATYPES[name.rpartition("/")[2]]


_PLAIN: dict[str, frozenset[type]] = {
    "FP32": frozenset({float, int, type(None)}),
    "FP64": frozenset({float, int, type(None)}),
    "BOOL": frozenset({bool, type(None)}),
    "BYTES": frozenset({str, type(None)}),
}
"""Types of JSON values that can go on as they are."""
_NONE_PLAIN: frozenset[type] = frozenset()


class Tensor(NamedTuple):
    """One input that did not come as JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | np.ndarray


class TensorLike(Protocol):
    """What reading needs of an input."""

    @property
    def name(self) -> str:
        """The column, or any name for a matrix."""
        ...

    @property
    def datatype(self) -> str:
        """One of `Datatype`."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """As the caller says."""
        ...

    @property
    def data(self) -> list[Any] | np.ndarray | None:
        """The values, flat or nested as the shape says."""
        ...


class Columns(Protocol):
    """What reading needs of a loaded version."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the feature columns in the model's order."""
        ...

    @property
    def all_numbers(self) -> bool:
        """Whether all columns can be sent together as one tensor [N, D]."""
        ...

    @property
    def categories(self) -> frozenset[str]:
        """The columns of texts."""
        ...

    @property
    def datetimes(self) -> frozenset[str]:
        """The columns of dates and times."""
        ...


def read_table(inputs: Sequence[TensorLike], loaded: Columns) -> tuple[Table, int]:
    """Return column → values, and the number of rows. Raises `InputError`.

    One tensor [N] or [N, 1] per column, flat or nested; or, where all columns are numbers or
    booleans, one tensor [N, D] with the columns in the model's order.
    """
    if not inputs:
        raise InputError("no inputs", expected="one tensor per column", got="none")
    first = inputs[0]
    shape = first.shape
    if len(inputs) == 1 and len(shape) == 2 and shape[1] > 1:
        return _read_matrix(first, loaded)
    rows = _rows_of(first)
    categories, datetimes = loaded.categories, loaded.datetimes
    table: dict[str, Any] = {}
    for tensor in inputs:
        data, datatype = tensor.data, tensor.datatype
        plain = _PLAIN.get(datatype, _NONE_PLAIN)
        if (
            type(data) is list
            and tensor.shape == shape
            and len(data) == rows
            and (type(data[0]) in plain if rows == 1 else plain.issuperset(map(type, data)))
            # To a category or a datetime it matters how wide a float was.
            and (
                datatype[0] != "F"
                or (tensor.name not in categories and tensor.name not in datetimes)
            )
        ):
            table[tensor.name] = data
        else:
            table[tensor.name] = _read_column(tensor, rows, loaded)
    if len(table) != len(inputs):
        raise InputError("two inputs have the same name", expected="one tensor per column")
    return table, rows


def element_count(name: str, shape: Sequence[int]) -> int:
    """Return how many elements a shape holds. Raises `InputError` for a negative size."""
    count = 1
    for size in shape:
        if size < 0:
            raise InputError(
                f"input {name!r} has a wrong shape",
                expected="sizes of at least 0",
                got=str(list(shape[:8])),
            )
        count *= size
    return count


def _read_column(tensor: TensorLike, rows: int, loaded: Columns) -> list[Any] | np.ndarray:
    """Return the values of one column, of the type that its datatype says."""
    if _rows_of(tensor) != rows:
        raise InputError(
            f"column {tensor.name!r} has another number of rows",
            column=tensor.name,
            expected=str(rows),
            got=str(_rows_of(tensor)),
        )
    data = tensor.data
    if isinstance(data, np.ndarray):
        return data
    values = _flat(tensor, rows)
    typed = _typed(tensor.name, tensor.datatype, values)
    if tensor.datatype == "INT64" and tensor.name in loaded.datetimes:
        return [None if value == MISSING_DATETIME else value for value in typed]
    return typed


def _typed(name: str, datatype: str, values: list[Any]) -> list[Any] | np.ndarray:
    """Return JSON values as their datatype has them; `null` is a missing value in all of them."""
    if datatype in ("FP16", "FP32", "FP64"):
        _check(name, values, datatype, (float, int), "numbers")
        wide = np.array([np.nan if value is None else _double(value) for value in values])
        with np.errstate(over="ignore"):
            return wide.astype(DTYPES[datatype])
    if datatype == "BYTES":
        _check(name, values, datatype, (str,), "texts")
        return values
    if datatype == "BOOL":
        _check(name, values, datatype, (bool, int), "true or false")
        _check_range(name, values, 0, 1, "true or false")
        return [None if value is None else bool(value) for value in values]
    whole = [
        int(value) if type(value) is float and value.is_integer() else value for value in values
    ]
    _check(name, whole, datatype, (int,), "whole numbers")
    limits = np.iinfo(DTYPES[datatype])
    low, high = int(limits.min), int(limits.max)
    _check_range(name, whole, low, high, f"whole numbers from {low} to {high}")
    return whole


def _check(
    name: str, values: list[Any], datatype: str, types: tuple[type, ...], expected: str
) -> None:
    allowed = {type(None), *types}
    if allowed.issuperset(map(type, values)):
        return
    position, value = next(
        (position, value) for position, value in enumerate(values) if type(value) not in allowed
    )
    raise InputError(
        f"input {name!r} has a value that is no {datatype}"
        + (f" in row {position}" if len(values) > 1 else ""),
        column=name,
        expected=f"{expected}, or null",
        got=kind_of(value),
    )


def _check_range(name: str, values: list[Any], low: int, high: int, expected: str) -> None:
    for position, value in enumerate(values):
        if value is not None and not low <= value <= high:
            raise InputError(
                f"input {name!r} has a value beyond its datatype"
                + (f" in row {position}" if len(values) > 1 else ""),
                column=name,
                expected=expected,
                got="a number outside of them",
            )


def _double(value: float | int) -> float:
    try:
        return float(value)
    except OverflowError:
        # Only whole numbers are too large for a double.
        return np.inf if value > 0 else -np.inf


def _rows_of(tensor: TensorLike) -> int:
    """Return N of [N] or [N, 1]. Raises `InputError`."""
    shape = tensor.shape
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)) or shape[0] < 0:
        raise InputError(
            f"column {tensor.name!r} has a wrong shape",
            column=tensor.name,
            expected="[N] or [N, 1]",
            got=str(list(shape[:8])),
        )
    if shape[0] == 0:
        raise InputError("no rows to predict", expected="at least one row", got="none")
    return shape[0]


def _flat(tensor: TensorLike, rows: int) -> list[Any]:
    """Return the values of `[[a], [b]]` or `[a, b]`."""
    data = tensor.data
    if data is None:
        raise no_data(tensor.name)
    if len(tensor.shape) == 2 and all(type(item) is list and len(item) == 1 for item in data):
        data = [item[0] for item in data]
    if len(data) != rows:
        raise InputError(
            f"column {tensor.name!r} has another number of values than its shape says",
            column=tensor.name,
            expected=str(rows),
            got=str(len(data)),
        )
    return list(data)


def no_data(name: str) -> InputError:
    """Return the error for an input whose values are nowhere."""
    return InputError(
        f"input {name!r} has no data",
        column=name,
        expected="data, or binary_data_size with the header Inference-Header-Content-Length",
        got="neither",
    )


def _read_matrix(tensor: TensorLike, loaded: Columns) -> tuple[Table, int]:
    """Return the columns of one tensor [N, D]: one `Matrix` where they are numbers."""
    rows, width = tensor.shape
    names = loaded.columns
    if not loaded.all_numbers:
        raise InputError(
            "a matrix does not fit this model, whose columns are not all numbers",
            expected="one tensor [N] or [N, 1] per column",
            got=str(list(tensor.shape)),
        )
    if width != len(names) or rows < 1:
        raise InputError(
            f"the matrix {tensor.name!r} has a wrong shape",
            expected=f"[N, {len(names)}] with N at least 1",
            got=str(list(tensor.shape)),
        )
    data = tensor.data
    if isinstance(data, np.ndarray):
        return Matrix(names, data.reshape(rows, width)), rows
    if data is None:
        raise no_data(tensor.name)
    if len(data) == rows and all(type(row) is list and len(row) == width for row in data):
        data = list(chain.from_iterable(data))
    if len(data) != rows * width:
        raise InputError(
            f"the matrix {tensor.name!r} has another number of values than its shape says",
            expected=str(rows * width),
            got=str(len(data)),
        )
    if not _PLAIN.get(tensor.datatype, _NONE_PLAIN).issuperset(map(type, data)):
        typed = _typed(tensor.name, tensor.datatype, data)
        data = typed.tolist() if isinstance(typed, np.ndarray) else typed
    if tensor.datatype in ("BYTES", "BOOL"):
        # NumPy would read texts by a grammar of its own: each cell is read as in any other table.
        return {name: data[at::width] for at, name in enumerate(names)}, rows
    return Matrix(names, data), rows
