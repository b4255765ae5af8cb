"""The checks of the extensions that a server names: binary data, model repository.

Source: Triton Inference Server's protocol documents (docs/protocol, binary data, model repository).
"""

from __future__ import annotations

import json
import struct
from typing import Any

from steadynet.conformance.answers import flat, require_refusal, require_same
from steadynet.conformance.checks import Check, Skipped, require
from steadynet.conformance.target import HttpTarget, Json, Response, count_of

PACKED = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""How `struct` writes the elements of a datatype."""


def _check_binary_input(target: HttpTarget) -> None:
    head, tail = with_binary(target)
    answer = _send_binary(target, head, tail)
    require(answer.status == 200, "status 200", f"{answer.status} {answer.body[:150]!r}")
    require_same(answer.json(), target.infer(target.valid))


def _check_binary_output(target: HttpTarget) -> None:
    _need(target, "binary_tensor_data")
    asked = {**target.valid, "parameters": {"binary_data_output": True}}
    answer = target.post(f"{target.path}/infer", asked)
    require(answer.status == 200, "status 200", answer.status)
    length = answer.headers.get("inference-header-content-length", "")
    require(length.isdigit(), "the header Inference-Header-Content-Length", dict(answer.headers))
    outputs = json.loads(answer.body[: int(length)])["outputs"]
    sizes = [tensor.get("parameters", {}).get("binary_data_size") for tensor in outputs]
    require(None not in sizes, "binary_data_size for each output", outputs)
    left = len(answer.body) - int(length)
    require(sum(sizes) == left, f"{sum(sizes)} bytes behind the JSON part", left)
    for tensor, size in zip(outputs, sizes, strict=True):
        if tensor["datatype"] != "BYTES":
            wanted = count_of(tensor["shape"]) * struct.calcsize("<" + PACKED[tensor["datatype"]])
            require(size == wanted, f"{wanted} bytes of {tensor['name']}", size)


def _check_binary_cut_off(target: HttpTarget) -> None:
    head, tail = with_binary(target)
    require_refusal(_send_binary(target, head, tail[:-1]))
    require_refusal(_send_binary(target, head, tail + b"\0"))


def _check_repository_index(target: HttpTarget) -> None:
    _need(target, "model_repository")
    answer = target.post("/v2/repository/index", {})
    require(answer.status == 200, "status 200", answer.status)
    found = answer.json()
    names = [item.get("name") for item in found] if isinstance(found, list) else found
    is_listed = isinstance(found, list) and target.model in names
    require(is_listed, f"a list with {target.model!r}", names)


def with_binary(target: HttpTarget) -> tuple[Json, bytes]:
    """Return the valid request with its data behind it, as the binary extension has it."""
    _need(target, "binary_tensor_data")
    inputs: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for tensor in target.valid["inputs"]:
        values = flat(tensor["data"])
        if None in values:
            raise Skipped("the request has missing values")
        part = pack(tensor["datatype"], values)
        described = {key: tensor[key] for key in ("name", "datatype", "shape")}
        inputs.append({**described, "parameters": {"binary_data_size": len(part)}})
        parts.append(part)
    return {**target.valid, "inputs": inputs}, b"".join(parts)


def pack(datatype: str, values: list[Json]) -> bytes:
    """Return elements as raw bytes."""
    if datatype == "BYTES":
        texts = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return struct.pack(f"<{len(values)}{PACKED[datatype]}", *values)


def _send_binary(target: HttpTarget, head: Json, tail: bytes) -> Response:
    content = json.dumps(head).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(content)),
    }
    return target.send("POST", f"{target.path}/infer", content + tail, headers)


def _need(target: HttpTarget, extension: str) -> None:
    if extension not in target.extensions:
        raise Skipped(f"the server does not name the extension {extension}")


EXTENSION_CHECKS: tuple[Check[HttpTarget], ...] = (
    Check("http.binary-input", "binary data are the same as JSON", _check_binary_input),
    Check("http.binary-output", "outputs come as binary data", _check_binary_output),
    Check("http.binary-cut-off", "binary data of a wrong size are one", _check_binary_cut_off),
    Check("http.repository-index", "the repository's index lists it", _check_repository_index),
)
"""Skipped where the server does not name the extension."""
