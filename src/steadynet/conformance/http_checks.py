"""The checks over HTTP: health, metadata, inference, errors, and the extensions a server names.

Source: https://github.com/kserve/open-inference-protocol (inference_rest.md).
"""

from __future__ import annotations

from steadynet.conformance.answers import check_answer, require_refusal, require_same
from steadynet.conformance.checks import Check, Skipped, require
from steadynet.conformance.extension_checks import EXTENSION_CHECKS
from steadynet.conformance.target import DATATYPES, HttpTarget, Json, Response, count_of, nested

ABSENT = "there-is-no-such-name"
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
    require_same(target.infer({**target.valid, "inputs": inputs}), target.infer(target.valid))


def _check_order(target: HttpTarget) -> None:
    turned = {**target.valid, "inputs": target.valid["inputs"][::-1]}
    if len(turned["inputs"]) < 2:
        raise Skipped("the model has one input")
    require_same(target.infer(turned), target.infer(target.valid))


def _check_requested_output(target: HttpTarget) -> None:
    name = target.metadata["outputs"][-1]["name"]
    answer = target.infer({**target.valid, "outputs": [{"name": name}]})
    found = [tensor.get("name") for tensor in answer.get("outputs", [])]
    require(found == [name], f"one output, {name!r}", found)


def _check_parameters(target: HttpTarget) -> None:
    given = {"a": "text", "b": 1, "c": True}
    check_answer(target, target.infer({**target.valid, "parameters": given}))


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


def _refused(target: HttpTarget, content: Json) -> None:
    require_refusal(target.post(f"{target.path}/infer", content))


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
    *EXTENSION_CHECKS,
)
"""All checks over HTTP, in the order in which they run."""
