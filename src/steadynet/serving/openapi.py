"""The OpenAPI document of a server: its paths from the code, its columns from the models' schemas.

Examples are made of the kinds of the columns, never of rows.

Source: OpenAPI 3.1.0, https://spec.openapis.org/oas/v3.1.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from steadynet.monitoring.records import Feedback
from steadynet.serving import invocations, oip, repository
from steadynet.serving.dataplane import DataPlane
from steadynet.serving.tensors import KIND_DATATYPES
from steadynet.spec.kinds import Kind

Json = dict[str, Any]

JSON = "application/json"
TEXT = "text/plain"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
ARROW_FILE = "application/vnd.apache.arrow.file"
REFERENCE = "#/components/schemas/{name}"
BODIES: tuple[type, ...] = (
    oip.InferIn,
    oip.ModelMetadata,
    oip.TensorOut,
    oip.BinaryTensorOut,
    invocations.Invocation,
    Feedback,
    repository.IndexAsk,
    repository.Indexed,
)
"""Structs whose schemas msgspec writes."""

ERRORS: dict[str, str] = {
    "400": "The request does not fit.",
    "401": "No key, or one that does not hold.",
    "403": "The key does not reach so far.",
    "404": "No such path, model or version.",
    "406": "Asked for as Arrow alone, without pyarrow.",
    "413": "Too large, or too many rows.",
    "415": "A Content-Type or Content-Encoding that is not served.",
    "429": "Too many rows wait, or too many requests from this key.",
    "500": "No version could compute an answer.",
    "503": "Not ready.",
    "504": "No answer in time.",
}
ASKING = ("400", "401", "403", "404", "429", "503")
"""Errors of every path; `ERRORS` are those of the paths with a body."""

EXAMPLES: dict[Kind, object] = {
    "number": 1.0,
    "boolean": True,
    "category": "text",
    "datetime": "2026-01-31T12:00:00Z",
}
"""Kind of a column → an example of a value."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What one path does."""

    method: str
    summary: str
    answer: Json
    """The schema of a 200."""
    body: Json | None = None
    example: object = None
    answer_type: str = JSON
    also: Mapping[str, str] = field(default_factory=dict)
    """Further content types of a 200 → what they hold."""
    body_also: Mapping[str, str] = field(default_factory=dict)
    """Further content types of a request's body → what they hold."""


def document(planes: Iterable[DataPlane], paths: Iterable[str], version: str) -> Json:
    """Return the document of what a server answers at this moment.

    `paths` are those without a version; a path that no operation describes is left out.
    """
    operations = dict(GENERAL)
    for plane in planes:
        operations |= _of_model(plane)
    listed = list(paths)
    described = {
        path: operation
        for path, operation in operations.items()
        if path in listed or "{version}" in path
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "steadynet",
            "version": version,
            "description": "Predictions by the Open Inference Protocol and MLflow's format.",
        },
        "paths": {path: _path_item(path, operation) for path, operation in described.items()},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _schemas() -> Json:
    _, schemas = msgspec.json.schema_components(BODIES, ref_template=REFERENCE)
    tensors = [_named("TensorOut"), _named("BinaryTensorOut")]
    return {
        **schemas,
        "InferOut": _object(
            model_name={"type": "string"},
            model_version={"type": "string"},
            id={"type": "string"},
            outputs={"type": "array", "items": {"anyOf": tensors}},
        ),
        "Predictions": _object(predictions={"type": "array", "items": {"type": "object"}}),
        "Error": _object(error={"type": "string"}),
    }


def _named(name: str) -> Json:
    return {"$ref": REFERENCE.format(name=name)}


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _path_item(path: str, operation: Operation) -> Json:
    answers: Json = {operation.answer_type: {"schema": operation.answer}}
    answers |= _described(operation.also)
    item: Json = {
        "summary": operation.summary,
        "operationId": f"{operation.method} {path}",
        "parameters": [_parameter("X-Request-Id", "header", "The request's id.")],
        "responses": {"200": {"description": "Done.", "content": answers}},
    }
    if "{version}" in path:
        what = "A version's number, champion, or challenger."
        item["parameters"].append(_parameter("version", "path", what))
    codes: Iterable[str] = ASKING
    if operation.body is not None:
        codes = ERRORS
        content: Json = {"schema": operation.body}
        if operation.example is not None:
            content["example"] = operation.example
        bodies = {JSON: content, **_described(operation.body_also)}
        item["requestBody"] = {"content": bodies, "required": True}
    told = {JSON: {"schema": _named("Error")}}
    for code in codes:
        item["responses"][code] = {"description": ERRORS[code], "content": told}
    if operation.answer_type == TEXT:
        # Probes answer in plain text what they are ready for.
        item["responses"]["503"]["content"] = {TEXT: {"schema": {"type": "string"}}, **told}
    if path.endswith("/ready"):
        item["responses"]["503"]["content"] = {JSON: {"schema": {"type": "object"}}}
    return {operation.method.lower(): item}


def _described(kinds: Mapping[str, str]) -> Json:
    """Return the contents of types that no schema describes."""
    return {kind: {"schema": {"description": what}} for kind, what in kinds.items()}


def _parameter(name: str, place: str, what: str) -> Json:
    schema: Json = {"type": "string"}
    if place == "header":
        schema |= {"pattern": "^[!-~]{1,128}$"}
    return {
        "name": name,
        "in": place,
        "description": what,
        "required": place == "path",
        "schema": schema,
    }


GENERAL: dict[str, Operation] = {
    "/": Operation("GET", "The paths that there are", {"type": "object"}),
    "/ping": Operation("GET", "Ready?", {"type": "string"}, answer_type=TEXT),
    "/health": Operation("GET", "Ready?", {"type": "string"}, answer_type=TEXT),
    "/version": Operation("GET", "The package's version", {"type": "string"}, answer_type=TEXT),
    "/metrics": Operation("GET", "Metrics of all workers", {"type": "string"}, answer_type=TEXT),
    "/v2": Operation(
        "GET",
        "The server's name, version, extensions",
        _object(
            name={"type": "string"},
            version={"type": "string"},
            extensions={"type": "array", "items": {"type": "string"}},
        ),
    ),
    "/v2/health/live": Operation("GET", "Alive?", _object(live={"type": "boolean"})),
    "/v2/health/ready": Operation("GET", "Ready?", _object(ready={"type": "boolean"})),
    "/v2/repository/index": Operation(
        "POST",
        "Every version that is loaded",
        {"type": "array", "items": _named("Indexed")},
        body=_named("IndexAsk"),
        example={"ready": True},
    ),
}


def _of_model(plane: DataPlane) -> dict[str, Operation]:
    """Return the operations of one model; without examples before a version is loaded."""
    row, inputs = _examples(plane)
    name = plane.model
    model = f"/v2/models/{name}"
    infer = Operation(
        "POST",
        f"Predict by {name}, one tensor per column",
        _named("InferOut"),
        body=_named("InferIn"),
        example={"inputs": inputs},
        also={"application/octet-stream": "The same, with binary data behind it."},
    )
    metadata = Operation("GET", f"Inputs, outputs, versions of {name}", _named("ModelMetadata"))
    ready = Operation(
        "GET", f"Is {name} ready?", _object(name={"type": "string"}, ready={"type": "boolean"})
    )
    predict = Operation(
        "POST",
        f"Predict by {name} in MLflow's format; the columns are "
        + (", ".join(row) or "not known yet"),
        _named("Predictions"),
        body=_named("Invocation"),
        example={"dataframe_records": [row]},
        also={ARROW_STREAM: "The same as a table, where Accept names this type."},
        body_also={
            "text/csv": "A table with a header.",
            ARROW_STREAM: "A table as an Arrow IPC stream.",
            ARROW_FILE: "A table as an Arrow IPC file.",
        },
    )
    feedback = Operation(
        "POST",
        f"What really happened to rows that {name} answered",
        _object(accepted={"type": "integer"}),
        body={"anyOf": [_named("Feedback"), {"type": "array", "items": _named("Feedback")}]},
        example=[{"id": "order-17", "label": "text"}],
    )
    return {
        f"{model}/infer": infer,
        f"{model}/versions/{{version}}/infer": infer,
        model: metadata,
        f"{model}/versions/{{version}}": metadata,
        f"{model}/ready": ready,
        f"{model}/versions/{{version}}/ready": ready,
        f"/models/{name}/invocations": predict,
        f"/models/{name}/feedback": feedback,
        "/invocations": predict,
        "/feedback": feedback,
    }


def _examples(plane: DataPlane) -> tuple[Json, list[Json]]:
    """Return one row as a record and as tensors, made of the kinds of the columns."""
    features = plane.deployment.champion.loaded.schema.features if plane.ready else ()
    row = {column.name: EXAMPLES[column.kind] for column in features}
    inputs = [
        {
            "name": column.name,
            "datatype": "BYTES" if column.kind == "datetime" else KIND_DATATYPES[column.kind],
            "shape": [1, 1],
            "data": [row[column.name]],
        }
        for column in features
    ]
    return row, inputs
