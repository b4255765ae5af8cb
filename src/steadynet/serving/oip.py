"""Open Inference Protocol v2 over JSON: one tensor per column in, the graph's outputs out.

Source: https://github.com/kserve/open-inference-protocol (predict protocol, version 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from steadynet.errors import InputError
from steadynet.runtime.batching import Arrays
from steadynet.serving.versions import LoadedVersion
from steadynet.spec.kinds import Kind
from steadynet.table.values import kind_of

PLATFORM = "onnxruntime_onnx"

DATATYPES = frozenset(
    {
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
    }
)
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


class TensorIn(msgspec.Struct):
    """One column of a request."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class OutputAsk(msgspec.Struct):
    """One output that the caller wants."""

    name: str


class InferIn(msgspec.Struct):
    """The body of an inference request."""

    inputs: list[TensorIn]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[OutputAsk] | None = None


class TensorOut(msgspec.Struct):
    """One output of an answer."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class InferOut(msgspec.Struct):
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


def read_table(inputs: Sequence[TensorIn]) -> tuple[dict[str, list[Any]], int]:
    """Return column → values, and the number of rows. Raises `InputError`."""
    if not inputs:
        raise InputError("no inputs", expected="one tensor per column", got="none")
    rows = -1
    table: dict[str, list[Any]] = {}
    for tensor in inputs:
        shape = tensor.shape
        data = tensor.data
        count = shape[0] if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1) else -1
        if count < 0:
            raise _wrong_shape(tensor)
        if len(data) != count or (data and type(data[0]) is list):
            data = _flat(tensor, count)
        if tensor.datatype not in DATATYPES:
            raise InputError(
                f"column {tensor.name!r} has an unknown datatype",
                column=tensor.name,
                expected=", ".join(sorted(DATATYPES)),
                got=repr(tensor.datatype[:20]),
            )
        if rows not in (-1, count):
            raise InputError(
                f"column {tensor.name!r} has another number of rows",
                column=tensor.name,
                expected=str(rows),
                got=str(count),
            )
        rows = count
        table[tensor.name] = data
    if len(table) != len(inputs):
        raise InputError("two inputs have the same name", expected="one tensor per column")
    if rows == 0:
        raise InputError("no rows to predict", expected="at least one row", got="none")
    return table, rows


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
            TensorOut(name, OUTPUT_DATATYPES[name], list(array.shape), array.ravel().tolist())
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


def _flat(tensor: TensorIn, count: int) -> list[Any]:
    """Return the values of `[[a], [b]]` or `[a, b]`."""
    data = tensor.data
    nested = len(tensor.shape) == 2 and all(
        isinstance(item, list) and len(item) == 1 for item in data
    )
    flat = [item[0] for item in data] if nested else data
    if len(flat) != count:
        raise InputError(
            f"column {tensor.name!r} has another number of values than its shape says",
            column=tensor.name,
            expected=str(count),
            got=str(len(flat)),
        )
    for item in flat:
        if isinstance(item, list | dict):
            raise InputError(
                f"column {tensor.name!r} has a value that does not fit",
                column=tensor.name,
                expected="one value per row",
                got=kind_of(item),
            )
    return flat


def _wrong_shape(tensor: TensorIn) -> InputError:
    return InputError(
        f"column {tensor.name!r} has a wrong shape",
        column=tensor.name,
        expected="[N] or [N, 1]",
        got=str(tensor.shape[:8]),
    )
