"""Open Inference Protocol v2 over JSON: one tensor per column in, the graph's outputs out.

Source: https://github.com/kserve/open-inference-protocol (predict protocol, version 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

import msgspec

from steadynet.errors import InputError
from steadynet.runtime.batching import Arrays, Table
from steadynet.serving.versions import LoadedVersion
from steadynet.spec.kinds import Kind

PLATFORM = "onnxruntime_onnx"

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

KIND_DATATYPES: dict[Kind, str] = {
    "number": "FP32",
    "boolean": "BOOL",
    "category": "BYTES",
    "datetime": "INT64",
}
"""What metadata says; every datatype whose values fit the column is taken."""

OUTPUT_DATATYPES: dict[str, str] = {
    "label": "BYTES",
    "probabilities": "FP32",
    "prediction": "FP32",
    "lower": "FP32",
    "upper": "FP32",
}


# Structs that hold no cycles are kept out of the garbage collector's sight: at thousands of
# requests a second it would spend more time on them than decoding does.


class TensorIn(msgspec.Struct, gc=False):
    """One column of a request, or all of them as a matrix."""

    name: str
    shape: tuple[int, ...]
    datatype: Datatype
    data: list[Any]


class OutputAsk(msgspec.Struct, gc=False):
    """One output that the caller wants."""

    name: str


class InferIn(msgspec.Struct, gc=False):
    """The body of an inference request."""

    inputs: list[TensorIn]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[OutputAsk] | None = None


class TensorOut(msgspec.Struct, gc=False):
    """One output of an answer."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any]


class InferOut(msgspec.Struct, gc=False):
    """The body of an answer."""

    model_name: str
    model_version: str
    id: str
    outputs: list[TensorOut]


class TensorMetadata(msgspec.Struct):
    """Name, datatype and shape of an input or output."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    """The answer to a question for a model's metadata."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


def read_table(inputs: Sequence[TensorIn], loaded: LoadedVersion) -> tuple[Table, int]:
    """Return column → values, and the number of rows. Raises `InputError`.

    One tensor [N] or [N, 1] per column, flat or nested; or, where all columns are numbers or
    booleans, one tensor [N, D] with the columns in the model's order.
    """
    if not inputs:
        raise InputError("no inputs", expected="one tensor per column", got="none")
    first = inputs[0]
    if len(inputs) == 1 and len(first.shape) == 2 and first.shape[1] > 1:
        return _read_matrix(first, loaded)
    rows = _rows_of(first)
    table = {tensor.name: tensor.data for tensor in inputs}
    if len(table) != len(inputs):
        raise InputError("two inputs have the same name", expected="one tensor per column")
    plain = (
        {tensor.shape for tensor in inputs} == {first.shape}
        and set(map(len, table.values())) == {rows}
        and list not in {type(data[0]) for data in table.values()}
    )
    return (table if plain else _read_columns(inputs, rows)), rows


def _read_columns(inputs: Sequence[TensorIn], rows: int) -> Table:
    """Return column → values of tensors that are nested, of different shapes, or wrong."""
    table: dict[str, list[Any]] = {}
    for tensor in inputs:
        if _rows_of(tensor) != rows:
            raise InputError(
                f"column {tensor.name!r} has another number of rows",
                column=tensor.name,
                expected=str(rows),
                got=str(_rows_of(tensor)),
            )
        table[tensor.name] = _flat(tensor, rows)
    return table


def wanted_outputs(asked: Sequence[OutputAsk] | None, loaded: LoadedVersion) -> tuple[str, ...]:
    """Return the outputs to answer with. Raises `InputError` for an output that is none."""
    names = loaded.outputs
    if not asked:
        return names
    for output in asked:
        if output.name not in names:
            raise InputError(
                f"there is no output {output.name[:100]!r}", expected=" or ".join(names)
            )
    return tuple(output.name for output in asked)


def infer_out(
    model: str, version: str, request_id: str, names: Sequence[str], outputs: Arrays
) -> InferOut:
    """Return the answer's body."""
    return InferOut(
        model,
        version,
        request_id,
        [
            TensorOut(name, OUTPUT_DATATYPES[name], array.shape, array.ravel().tolist())
            for name, array in ((name, outputs[name]) for name in names)
        ],
    )


def metadata(model: str, versions: Sequence[str], loaded: LoadedVersion) -> ModelMetadata:
    """Return a version's metadata; `versions` are all that can be asked."""
    classes = len(loaded.schema.target.classes)
    return ModelMetadata(
        name=model,
        versions=list(versions),
        platform=PLATFORM,
        inputs=[
            TensorMetadata(column.name, KIND_DATATYPES[column.kind], [-1, 1])
            for column in loaded.schema.features
        ],
        outputs=[
            TensorMetadata(
                name, OUTPUT_DATATYPES[name], [-1, classes] if name == "probabilities" else [-1]
            )
            for name in loaded.outputs
        ],
    )


def _rows_of(tensor: TensorIn) -> int:
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


def _flat(tensor: TensorIn, rows: int) -> list[Any]:
    """Return the values of `[[a], [b]]` or `[a, b]`."""
    data = tensor.data
    if len(tensor.shape) == 2 and all(type(item) is list and len(item) == 1 for item in data):
        data = [item[0] for item in data]
    if len(data) != rows:
        raise InputError(
            f"column {tensor.name!r} has another number of values than its shape says",
            column=tensor.name,
            expected=str(rows),
            got=str(len(data)),
        )
    return data


def _read_matrix(tensor: TensorIn, loaded: LoadedVersion) -> tuple[Table, int]:
    """Return the columns of one tensor [N, D]."""
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
    if len(data) == rows and all(type(row) is list and len(row) == width for row in data):
        data = list(chain.from_iterable(data))
    if len(data) != rows * width:
        raise InputError(
            f"the matrix {tensor.name!r} has another number of values than its shape says",
            expected=str(rows * width),
            got=str(len(data)),
        )
    if rows == 1:
        return dict(zip(names, zip(data, strict=True), strict=True)), 1
    return {name: data[position::width] for position, name in enumerate(names)}, rows
