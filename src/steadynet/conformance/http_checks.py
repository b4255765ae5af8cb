"""The checks over HTTP: health, metadata, inference, errors, and the extensions a server names.

Source: https://github.com/kserve/open-inference-protocol (inference_rest.md), and for the
extensions Triton Inference Server's protocol documents.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

from steadynet.conformance.checks import Check, Failed, Skipped, require, shorten
from steadynet.conformance.target import (
    DATATYPES,
    HttpTarget,
    Json,
    Response,
    count_of,
    nested,
)

ABSENT = "there-is-no-such-name"
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
TOLERANCE = 1e-4
"""How far apart two answers to the same row may be, relative to their size."""


# health and metadata


def _check_live(target: HttpTarget) -> None:
    answer = target.get("/v2/health/live")
    require(answer.status == 200, "status 200", answer.status)
    if answer.body:
        require(answer.json().get("live", True) is True, '{"live": true}', answer.json())


def _check_ready(target: HttpTarget) -> None:
    answer = target.get("/v2/health/ready")
    require(answer.status == 200, "status 200", answer.status)


def _check_server_metadata(target: HttpTarget) -> None:
    answer = target.get("/v2")
    require(answer.status == 200, "status 200", answer.status)
    found = answer.json()
    require(isinstance(found, dict), "an object", found)
    for name in ("name", "version"):
        require(isinstance(found.get(name), str), f"{name}: a string", found.get(name))
    extensions = found.get("extensions")
    is_list = isinstance(extensions, list) and all(isinstance(item, str) for item in extensions)
    require(is_list, "extensions: a list of strings", extensions)


def _check_model_ready(target: HttpTarget) -> None:
    answer = target.get(f"{target.path}/ready")
    require(answer.status == 200, "status 200", answer.status)
    if answer.body:
        found = answer.json()
        require(found.get("ready", True) is True, '"ready": true', found)
        require(found.get("name", target.model) == target.model, f'"{target.model}"', found)


def _check_model_metadata(target: HttpTarget) -> None:
    _check_metadata(target, target.get(target.path))


def _check_version_metadata(target: HttpTarget) -> None:
    _check_metadata(target, target.get(f"{target.path}/versions/{_version(target)}"))


def _check_version_ready(target: HttpTarget) -> None:
    answer = target.get(f"{target.path}/versions/{_version(target)}/ready")
    require(answer.status == 200, "status 200", answer.status)


def _check_metadata(target: HttpTarget, answer: Response) -> None:
    require(answer.status == 200, "status 200", answer.status)
    found = answer.json()
    require(isinstance(found, dict), "an object", found)
    require(found.get("name") == target.model, f"name: {target.model!r}", found.get("name"))
    require(isinstance(found.get("platform"), str), "platform: a string", found.get("platform"))
    for key in ("inputs", "outputs"):
        tensors = found.get(key)
        require(isinstance(tensors, list) and bool(tensors), f"{key}: a list of tensors", tensors)
        for tensor in tensors:
            require(isinstance(tensor.get("name"), str), f"{key}: each with a name", tensor)
            known = tensor.get("datatype") in DATATYPES
            require(known, f"{key}: a datatype of the standard", tensor)
            shape = tensor.get("shape")
            sizes = isinstance(shape, list) and all(
                isinstance(size, int) and size >= -1 for size in shape
            )
            require(sizes, f"{key}: a shape of integers of at least -1", tensor)


# inference


def _check_infer(target: HttpTarget) -> None:
    check_answer(target, target.infer(target.valid))


def _check_version_infer(target: HttpTarget) -> None:
    version = _version(target)
    answer = target.infer(target.valid, f"/versions/{version}/infer")
    check_answer(target, answer)
    given = answer.get("model_version", version)
    require(given == version, f"model_version: {version!r}", given)


def _check_id(target: HttpTarget) -> None:
    answer = target.infer({**target.valid, "id": "conformance-42"})
    require(answer.get("id") == "conformance-42", "id: 'conformance-42'", answer.get("id"))


def _check_nested(target: HttpTarget) -> None:
    inputs = [
        {**tensor, "data": nested(tensor["data"], tensor["shape"])}
        for tensor in target.valid["inputs"]
    ]
    if inputs == target.valid["inputs"]:
        raise Skipped("all inputs have one dimension")
    _require_same(target.infer({**target.valid, "inputs": inputs}), target.infer(target.valid))


def _check_order(target: HttpTarget) -> None:
    turned = {**target.valid, "inputs": target.valid["inputs"][::-1]}
    if len(turned["inputs"]) < 2:
        raise Skipped("the model has one input")
    _require_same(target.infer(turned), target.infer(target.valid))


def _check_requested_output(target: HttpTarget) -> None:
    name = target.metadata["outputs"][-1]["name"]
    answer = target.infer({**target.valid, "outputs": [{"name": name}]})
    found = [tensor.get("name") for tensor in answer.get("outputs", [])]
    require(found == [name], f"one output, {name!r}", found)


def _check_parameters(target: HttpTarget) -> None:
    given = {"a": "text", "b": 1, "c": True}
    check_answer(target, target.infer({**target.valid, "parameters": given}))


def check_answer(target: HttpTarget, answer: Json) -> None:
    """Raise `Failed` where an answer's outputs are not what the standard and the metadata say."""
    require(isinstance(answer, dict), "an object", answer)
    name = answer.get("model_name")
    require(name == target.model, f"model_name: {target.model!r}", name)
    tensors = answer.get("outputs")
    require(isinstance(tensors, list) and bool(tensors), "outputs: a list of tensors", tensors)
    known = {tensor["name"]: tensor for tensor in target.metadata["outputs"]}
    for tensor in tensors:
        described = known.get(tensor.get("name"))
        require(described is not None, f"outputs among {sorted(known)}", tensor.get("name"))
        assert described is not None
        same = tensor.get("datatype") == described["datatype"]
        require(same, f"datatype {described['datatype']}, as the metadata says", tensor)
        shape = tensor.get("shape")
        fits = isinstance(shape, list) and len(shape) == len(described["shape"])
        fits = fits and all(
            said in (-1, size) for said, size in zip(described["shape"], shape, strict=True)
        )
        require(fits, f"shape {described['shape']}, as the metadata says", shape)
        data = flat(tensor.get("data"))
        require(len(data) == count_of(shape), f"{count_of(shape)} elements", len(data))
        require(_are_of(data, tensor["datatype"]), f"elements of {tensor['datatype']}", data)


def flat(data: Json) -> list[Json]:
    """Return nested lists as one. Raises `Failed` for what is no list."""
    if not isinstance(data, list):
        raise Failed("data: a list", shorten(data))
    found: list[Json] = []
    for item in data:
        found += flat(item) if isinstance(item, list) else [item]
    return found


def _are_of(data: list[Json], datatype: str) -> bool:
    types: tuple[type, ...] = (int,)
    if datatype == "BOOL":
        types = (bool,)
    elif datatype == "BYTES":
        types = (str,)
    elif datatype.startswith("FP"):
        types = (int, float)
    return all(isinstance(value, types) for value in data) and (
        datatype == "BOOL" or not any(isinstance(value, bool) for value in data)
    )


def _require_same(answer: Json, expected: Json) -> None:
    found = {tensor["name"]: flat(tensor["data"]) for tensor in answer["outputs"]}
    wanted = {tensor["name"]: flat(tensor["data"]) for tensor in expected["outputs"]}
    require(found.keys() == wanted.keys(), f"outputs {sorted(wanted)}", sorted(found))
    for name, values in wanted.items():
        same = len(found[name]) == len(values) and all(
            math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            if isinstance(one, float)
            else one == other
            for one, other in zip(found[name], values, strict=True)
        )
        require(same, f"{name}: {shorten(values)}, as for the same row before", found[name])


def _version(target: HttpTarget) -> str:
    versions = target.metadata.get("versions")
    if not versions:
        raise Skipped("the model names no versions")
    return str(versions[0])


# errors


def _check_unknown_model(target: HttpTarget) -> None:
    other = f"/v2/models/{ABSENT}"
    for answer in (target.get(other), target.post(f"{other}/infer", target.valid)):
        require_refusal(answer)


def _check_unknown_version(target: HttpTarget) -> None:
    _version(target)
    require_refusal(target.post(f"{target.path}/versions/{ABSENT}/infer", target.valid))


def _check_unknown_output(target: HttpTarget) -> None:
    _refused(target, {**target.valid, "outputs": [{"name": ABSENT}]})


def _check_missing_input(target: HttpTarget) -> None:
    _refused(target, {**target.valid, "inputs": target.valid["inputs"][1:]})


def _check_unknown_datatype(target: HttpTarget) -> None:
    _refused(target, target.changed(datatype="FLOAT33"))


def _check_too_few_elements(target: HttpTarget) -> None:
    first = target.valid["inputs"][0]
    _refused(target, target.changed(shape=[first["shape"][0] + 7, *first["shape"][1:]]))


def _check_negative_shape(target: HttpTarget) -> None:
    _refused(target, target.changed(shape=[-1] * len(target.valid["inputs"][0]["shape"])))


def _check_wrong_elements(target: HttpTarget) -> None:
    first = target.valid["inputs"][0]
    _refused(target, target.changed(data=[{"an": "object"}] * count_of(first["shape"])))


def _check_no_inputs(target: HttpTarget) -> None:
    _refused(target, {})


def _check_not_json(target: HttpTarget) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (b"", b"{", b"\xff\xfe", b'{"inputs": 1'):
        require_refusal(target.send("POST", f"{target.path}/infer", body, headers))


def _check_alive_after_errors(target: HttpTarget) -> None:
    check_answer(target, target.infer(target.valid))


def require_refusal(answer: Response) -> None:
    """Raise `Failed` where an answer is no client error with the standard's body."""
    require(400 <= answer.status < 500, "a status from 400 to 499", answer.status)
    found = answer.json()
    is_told = isinstance(found, dict) and isinstance(found.get("error"), str)
    require(is_told, '{"error": "..."}', found)


def _refused(target: HttpTarget, content: Json) -> None:
    require_refusal(target.post(f"{target.path}/infer", content))


# extensions


def _check_binary_input(target: HttpTarget) -> None:
    head, tail = with_binary(target)
    answer = _send_binary(target, head, tail)
    require(answer.status == 200, "status 200", f"{answer.status} {answer.body[:150]!r}")
    _require_same(answer.json(), target.infer(target.valid))


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


HTTP_CHECKS: tuple[Check[HttpTarget], ...] = (
    Check("http.server-live", "GET /v2/health/live says that the server lives", _check_live),
    Check("http.server-ready", "GET /v2/health/ready says that it is ready", _check_ready),
    Check("http.server-metadata", "GET /v2 has name, version, extensions", _check_server_metadata),
    Check("http.model-ready", "GET /v2/models/{m}/ready says that it is", _check_model_ready),
    Check("http.model-metadata", "GET /v2/models/{m} describes its tensors", _check_model_metadata),
    Check("http.version-metadata", "so does its path with a version", _check_version_metadata),
    Check("http.version-ready", "so does a version's readiness", _check_version_ready),
    Check("http.infer", "the answer is what the metadata says", _check_infer),
    Check("http.version-infer", "a version that is asked for answers", _check_version_infer),
    Check("http.infer-id", "the request's id comes back", _check_id),
    Check("http.infer-nested", "nested data are the same as flat data", _check_nested),
    Check("http.infer-order", "the order of the inputs does not matter", _check_order),
    Check("http.infer-output", "an output that is asked for comes alone", _check_requested_output),
    Check("http.infer-parameters", "parameters are taken", _check_parameters),
    Check("http.unknown-model", "an unknown model is a client error", _check_unknown_model),
    Check("http.unknown-version", "an unknown version is a client error", _check_unknown_version),
    Check("http.unknown-output", "an unknown output is a client error", _check_unknown_output),
    Check("http.missing-input", "a missing input is a client error", _check_missing_input),
    Check(
        "http.unknown-datatype", "an unknown datatype is a client error", _check_unknown_datatype
    ),
    Check("http.too-few-elements", "too few elements are a client error", _check_too_few_elements),
    Check("http.negative-shape", "a negative shape is a client error", _check_negative_shape),
    Check("http.wrong-elements", "elements that are no values are one", _check_wrong_elements),
    Check("http.no-inputs", "a body without inputs is a client error", _check_no_inputs),
    Check("http.not-json", "a body that is no JSON is a client error", _check_not_json),
    Check("http.alive-after-errors", "after all errors it answers", _check_alive_after_errors),
    Check("http.binary-input", "binary data are the same as JSON", _check_binary_input),
    Check("http.binary-output", "outputs come as binary data", _check_binary_output),
    Check("http.binary-cut-off", "binary data of a wrong size are one", _check_binary_cut_off),
    Check("http.repository-index", "the repository's index lists it", _check_repository_index),
)
"""All checks over HTTP, in the order in which they run."""
