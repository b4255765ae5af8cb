"""gRPC messages ↔ tensors: typed and raw contents in, the graph's outputs out.

Source: https://github.com/kserve/open-inference-protocol (open_inference_grpc.proto).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from steadynet.errors import InputError
from steadynet.runtime.batching import Arrays
from steadynet.serving.binary import decode_tensor, encode_tensor
from steadynet.serving.grpc_messages import (
    Message,
    ModelInferResponse,
    ModelMetadataResponse,
)
from steadynet.serving.oip import ModelMetadata
from steadynet.serving.tensors import DTYPES, Tensor, element_count, output_datatype

_CONTENTS: dict[str, Callable[[Message], Sequence[Any]]] = {
    "BOOL": attrgetter("bool_contents"),
    "UINT8": attrgetter("uint_contents"),
    "UINT16": attrgetter("uint_contents"),
    "UINT32": attrgetter("uint_contents"),
    "UINT64": attrgetter("uint64_contents"),
    "INT8": attrgetter("int_contents"),
    "INT16": attrgetter("int_contents"),
    "INT32": attrgetter("int_contents"),
    "INT64": attrgetter("int64_contents"),
    "FP32": attrgetter("fp32_contents"),
    "FP64": attrgetter("fp64_contents"),
    "BYTES": attrgetter("bytes_contents"),
}
"""Where the contents of a datatype stand; FP16 travels raw alone."""


def read_inputs(request: Message) -> list[Tensor]:
    """Return a request's inputs. Raises `InputError`."""
    raw = request.raw_input_contents
    inputs = request.inputs
    if not raw:
        return [_typed(tensor) for tensor in inputs]
    if len(raw) != len(inputs):
        raise InputError(
            "raw_input_contents does not fit the inputs",
            expected=f"one for each of the {len(inputs)} inputs, or none",
            got=str(len(raw)),
        )
    return [_raw(tensor, content) for tensor, content in zip(inputs, raw, strict=True)]


def parameter_value(parameter: Message) -> object:
    """Return what a parameter holds; None where it holds nothing."""
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else attrgetter(kind)(parameter)


def asked_outputs(request: Message) -> list[str]:
    """Return the names of the outputs that the caller wants, none for all. Raises `InputError`."""
    for output in request.outputs:
        if "classification" in output.parameters:
            raise InputError(
                "the classification extension is not served",
                expected="the outputs label and probabilities",
            )
        if "shared_memory_region" in output.parameters:
            raise InputError("shared memory is not served", expected="contents, typed or raw")
    return [output.name for output in request.outputs]


def infer_response(
    request: Message,
    version: str,
    request_id: str,
    names: Sequence[str],
    outputs: Arrays,
) -> Message:
    """Return the answer: raw contents where the request had them, else typed ones."""
    response = ModelInferResponse(
        model_name=request.model_name, model_version=version, id=request_id
    )
    raw = len(request.raw_input_contents) > 0
    for name in names:
        if name not in outputs:  # the challenger may answer no sets
            continue
        array = outputs[name]
        tensor = response.outputs.add(name=name, datatype=output_datatype(name), shape=array.shape)
        if raw:
            response.raw_output_contents.append(encode_tensor(array))
        elif array.dtype.kind == "O":
            tensor.contents.bytes_contents.extend(text.encode() for text in array.tolist())
        elif array.dtype.kind == "b":
            tensor.contents.bool_contents.extend(array.ravel().tolist())
        else:
            tensor.contents.fp32_contents.extend(array.ravel().tolist())
    return response


def metadata_response(metadata: ModelMetadata) -> Message:
    """Return a model's metadata as a message."""
    response = ModelMetadataResponse(
        name=metadata.name, versions=metadata.versions, platform=metadata.platform
    )
    for target, tensors in (
        (response.inputs, metadata.inputs),
        (response.outputs, metadata.outputs),
    ):
        for tensor in tensors:
            target.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    return response


def _typed(tensor: Message) -> Tensor:
    name, datatype, shape = tensor.name, tensor.datatype, tuple(tensor.shape)
    if "shared_memory_region" in tensor.parameters:
        raise InputError("shared memory is not served", expected="contents, typed or raw")
    of = _CONTENTS.get(datatype)
    if of is None:
        raise _wrong_datatype(name, datatype)
    values = list(of(tensor.contents))
    count = element_count(name, shape)
    if len(values) != count:
        raise InputError(
            f"input {name!r} has another number of values than its shape says",
            column=name,
            expected=f"{count} values in the contents of {datatype}",
            got=str(len(values)),
        )
    if datatype == "BYTES":
        try:
            return Tensor(name, datatype, shape, [value.decode() for value in values])
        except UnicodeDecodeError:
            raise InputError(
                f"input {name!r} has text that is not UTF-8", column=name, expected="UTF-8"
            ) from None
    if datatype in ("FP32", "FP64") and len(values) > 1:
        return Tensor(name, datatype, shape, np.array(values, DTYPES[datatype]))
    return Tensor(name, datatype, shape, values)


def _raw(tensor: Message, content: bytes) -> Tensor:
    name, datatype, shape = tensor.name, tensor.datatype, tuple(tensor.shape)
    if tensor.HasField("contents"):
        raise InputError(
            f"input {name!r} has its data twice",
            column=name,
            expected="contents, or raw_input_contents",
            got="both",
        )
    if datatype not in DTYPES and datatype != "BYTES":
        raise _wrong_datatype(name, datatype)
    data = decode_tensor(name, datatype, element_count(name, shape), content)
    return Tensor(name, datatype, shape, data)


def _wrong_datatype(name: str, datatype: str) -> InputError:
    if datatype == "FP16":
        return InputError(
            f"input {name!r} of FP16 has typed contents", expected="raw_input_contents"
        )
    return InputError(
        f"the datatype of input {name!r} is none of the protocol's",
        expected=", ".join((*DTYPES, "BYTES")),
        got=repr(datatype[:40]),
    )
