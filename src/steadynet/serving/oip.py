"""Open Inference Protocol v2 over HTTP: bodies in and out, in JSON and with binary tensors.

One tensor per column in (`serving.tensors`), the graph's outputs out.

Source: https://github.com/kserve/open-inference-protocol (predict protocol, version 2), and its
binary tensor data extension (`serving.binary`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from steadynet.errors import InputError
from steadynet.runtime.batching import Arrays
from steadynet.runtime.outputs import flat_values
from steadynet.serving.binary import decode_tensor, encode_tensor
from steadynet.serving.tensors import (
    KIND_DATATYPES,
    Datatype,
    Tensor,
    TensorLike,
    element_count,
    no_data,
    output_datatype,
)
from steadynet.serving.versions import LoadedVersion
from steadynet.table.schema import OUTPUTS, PREDICTION_SET, output_name

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ("binary_tensor_data", "model_repository")
_NONE: frozenset[str] = frozenset()
BINARY_OUTPUT = "binary_data_output"
"""The request parameter that asks for all outputs as binary data."""

# Structs that hold no cycles are kept out of the garbage collector's sight: at thousands of
# requests a second it would spend more time on them than decoding does.


class TensorParameters(msgspec.Struct, gc=False):
    """Parameters of an input."""

    binary_data_size: int | None = None


class TensorIn(msgspec.Struct, gc=False):
    """One column of a request, or all of them as a matrix."""

    name: str
    shape: tuple[int, ...]
    datatype: Datatype
    data: list[Any] | None = None
    parameters: TensorParameters | None = None


class OutputParameters(msgspec.Struct, gc=False):
    """Parameters of an output that the caller wants."""

    binary_data: bool | None = None
    classification: int | None = None
    shared_memory_region: str | None = None


class OutputAsk(msgspec.Struct, gc=False):
    """One output that the caller wants."""

    name: str
    parameters: OutputParameters | None = None


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


class BinaryTensorOut(msgspec.Struct, gc=False):
    """One output of an answer, whose data follow the JSON part."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, int]


class InferOut(msgspec.Struct, gc=False):
    """The body of an answer."""

    model_name: str
    model_version: str
    id: str
    outputs: list[TensorOut | BinaryTensorOut]
    parameters: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    """`Reply.notes`."""


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


def join_binary(inputs: Sequence[TensorIn], tail: memoryview) -> list[TensorLike]:
    """Return the inputs with the data of those that came as bytes behind the JSON part.

    `tail` holds them in the order of the inputs. Raises `InputError` where it holds more or less.
    """
    joined: list[TensorLike] = []
    at = 0
    for tensor in inputs:
        parameters = tensor.parameters
        size = parameters.binary_data_size if parameters is not None else None
        if size is None:
            if tensor.data is None:
                raise no_data(tensor.name)
            joined.append(tensor)
            continue
        if tensor.data is not None:
            raise InputError(
                f"input {tensor.name!r} has its data twice",
                expected="data, or binary_data_size",
                got="both",
            )
        if size < 0 or at + size > len(tail):
            raise InputError(
                f"input {tensor.name!r} is cut off",
                expected=f"a binary_data_size of 0 to {len(tail) - at} bytes, which are left",
                got=f"{size} bytes",
            )
        count = element_count(tensor.name, tensor.shape)
        data = decode_tensor(tensor.name, tensor.datatype, count, tail[at : at + size])
        joined.append(Tensor(tensor.name, tensor.datatype, tensor.shape, data))
        at += size
    if at != len(tail):
        raise InputError(
            "there are bytes behind the JSON part that no input names",
            expected=f"{at} bytes, the sum of binary_data_size",
            got=f"{len(tail)} bytes",
        )
    return joined


def asked_outputs(asked: InferIn) -> list[str]:
    """Return the names of the outputs that the caller wants, none for all.

    Raises `InputError` for parameters whose silent neglect would change what is answered.
    """
    if not asked.outputs:
        return []
    for output in asked.outputs:
        if output.parameters is None:
            continue
        if output.parameters.classification:
            raise InputError(
                "the classification extension is not served",
                expected="the outputs label and probabilities",
            )
        if output.parameters.shared_memory_region is not None:
            raise InputError("shared memory is not served", expected="data, or binary data")
    return [output.name for output in asked.outputs]


def wanted_outputs(asked: Sequence[str], outputs: tuple[str, ...]) -> tuple[str, ...]:
    """Return the outputs to answer with. Raises `InputError` for one that is none, or twice."""
    if not asked:
        return outputs
    for name in asked:
        if name not in outputs:
            raise InputError(f"there is no output {name[:100]!r}", expected=" or ".join(outputs))
    if len(set(asked)) != len(asked):
        raise InputError("an output is asked for twice", expected="each output once")
    return tuple(asked)


def binary_outputs(asked: InferIn, names: Sequence[str]) -> frozenset[str]:
    """Return the outputs whose data the caller wants as bytes."""
    if asked.parameters is None and asked.outputs is None:
        return _NONE
    by_default = asked.parameters is not None and asked.parameters.get(BINARY_OUTPUT) is True
    wanted = dict.fromkeys(names, by_default)
    for output in asked.outputs or ():
        if output.parameters is not None and output.parameters.binary_data is not None:
            wanted[output.name] = output.parameters.binary_data
    return frozenset(name for name, binary in wanted.items() if binary)


def infer_out(
    model: str, version: str, request_id: str, names: Sequence[str], outputs: Arrays
) -> InferOut:
    """Return the answer's body."""
    tensors: list[TensorOut | BinaryTensorOut] = []
    for name in names:
        if name in outputs:  # the challenger may answer no sets
            shape, values = flat_values(outputs, name)
            tensors.append(TensorOut(name, output_datatype(name), shape, values))
    return InferOut(model, version, request_id, tensors)


def split_binary(content: InferOut, outputs: Arrays, binary: frozenset[str]) -> bytes:
    """Move the data of some outputs out of an answer's body; return the bytes behind it."""
    parts = []
    for position, tensor in enumerate(content.outputs):
        if tensor.name in binary:
            part = encode_tensor(outputs[tensor.name])
            content.outputs[position] = BinaryTensorOut(
                tensor.name, tensor.datatype, tensor.shape, {"binary_data_size": len(part)}
            )
            parts.append(part)
    return b"".join(parts)


def metadata(model: str, versions: Sequence[str], loaded: LoadedVersion) -> ModelMetadata:
    """Return a version's metadata; `versions` are all that can be asked."""
    schema = loaded.schema
    found = {
        output_name(schema, target, output): TensorMetadata(
            output_name(schema, target, output),
            output_datatype(output),
            [-1, len(target.classes)] if output == "probabilities" else [-1],
        )
        for target in schema.targets
        for output in OUTPUTS[target.task]
    }
    if PREDICTION_SET in loaded.outputs:
        shape = [-1, len(schema.target.classes)]
        found[PREDICTION_SET] = TensorMetadata(
            PREDICTION_SET, output_datatype(PREDICTION_SET), shape
        )
    return ModelMetadata(
        name=model,
        versions=list(versions),
        platform=PLATFORM,
        inputs=[
            TensorMetadata(column.name, KIND_DATATYPES[column.kind], [-1, 1])
            for column in schema.features
        ],
        outputs=[found[name] for name in loaded.outputs],
    )
