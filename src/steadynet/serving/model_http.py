"""The paths of one model over HTTP: translation to its data plane and back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

import msgspec

from steadynet.errors import NotReady
from steadynet.monitoring.records import Feedback
from steadynet.runtime.batching import Table
from steadynet.serving import invocations, oip
from steadynet.serving.answers import HttpAnswer, HttpError, encode_json, json_answer
from steadynet.serving.dataplane import Ask, DataPlane, Reply
from steadynet.serving.keys import KeyRole
from steadynet.serving.negotiation import asks_for, takes_json
from steadynet.serving.requests import (
    Bodies,
    Receive,
    Request,
    check_request_id,
    decode_json,
    media_type,
    read_typed_body,
)
from steadynet.serving.tensors import TensorLike, read_table

JSON_TYPE = b"application/json"
JSON_TYPES = (JSON_TYPE,)
INFER_TYPES = (JSON_TYPE, b"application/octet-stream")
CSV_TYPE = b"text/csv"
ARROW_STREAM, ARROW_FILE = (
    b"application/vnd.apache.arrow.stream",
    b"application/vnd.apache.arrow.file",
)
ARROW_MODULE = "steadynet.serving.arrow"
INVOCATION_TYPES = (JSON_TYPE, CSV_TYPE, ARROW_STREAM, ARROW_FILE)
WITHOUT_ARROW = (
    "pyarrow is not installed; install it beside the server: pip install 'steadynet[arrow]'"
)
PYTHON_NUMBERS = (b"NaN", b"Infinity")
"""Numbers that Python's `json` writes and JSON does not have."""
MAX_FEEDBACK = 10_000
"""Labels in one request."""
NOTE_HEADERS = {
    "model_role": b"x-model-role",
    "routed_by": b"x-routed-by",
    "out_of_distribution": b"x-out-of-distribution",
}
"""Parameter of an answer → the header that says the same."""

Handler = Callable[[Request, Receive], Awaitable[HttpAnswer]]

INFER_DECODER = msgspec.json.Decoder(oip.InferIn)
INVOCATION_DECODER = msgspec.json.Decoder(invocations.Invocation)
FEEDBACK_DECODER = msgspec.json.Decoder(Feedback | list[Feedback])


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a path does, by method; where its responses are counted; who may ask for it."""

    handlers: dict[str, Handler]
    responses: dict[int, int]
    """Status → how often."""
    role: KeyRole | None
    """None: anyone, as probes do."""
    model: str = ""
    """Empty where it concerns no one model."""
    is_direct: bool = False
    """Whether whole requests may be answered without ASGI (`serving.direct`)."""


class ModelPaths:
    """Handlers for one model's data plane."""

    def __init__(self, plane: DataPlane, bodies: Bodies, *, sticky_parameter: str) -> None:
        self.plane = plane
        self._name = plane.model
        self._bodies = bodies
        self._sticky_parameter = sticky_parameter

    def table(self) -> dict[str, Endpoint]:
        """Return the literal table of paths without a version."""
        model = f"/v2/models/{self._name}"
        return {
            f"{model}/infer": self._endpoint("POST", self.infer, is_direct=True),
            model: self._endpoint("GET", self._metadata),
            f"{model}/ready": self._endpoint("GET", self._ready),
            f"/models/{self._name}/invocations": self._endpoint(
                "POST", self.invocations, is_direct=True
            ),
            f"/models/{self._name}/feedback": self._endpoint("POST", self.feedback),
        }

    def alone(self) -> dict[str, Endpoint]:
        """Return the paths that name no model, for a server of this one alone."""
        return {
            "/invocations": self._endpoint("POST", self.invocations, is_direct=True),
            "/feedback": self._endpoint("POST", self.feedback),
        }

    def find(self, version: str, rest: list[str]) -> Endpoint | None:
        """Return the endpoint of `/v2/models/{m}/versions/{version}/{rest}`."""
        match rest:
            case []:
                return self._endpoint("GET", lambda r, _: self._version_metadata(r, version))
            case ["ready"]:
                return self._endpoint("GET", lambda r, _: self._version_ready(r, version))
            case ["infer"]:
                return self._endpoint("POST", lambda r, receive: self.infer(r, receive, version))
            case _:
                return None

    def _endpoint(self, method: str, handler: Handler, *, is_direct: bool = False) -> Endpoint:
        role: KeyRole = "viewer" if method == "GET" else "caller"
        responses = self.plane.telemetry.responses
        return Endpoint({method: handler}, responses, role, self._name, is_direct)

    async def infer(self, request: Request, receive: Receive, version: str = "") -> HttpAnswer:
        """Answer `POST /v2/models/{m}/infer`."""
        body = await read_typed_body(request, receive, INFER_TYPES, self._bodies)
        if request.json_length >= 0:
            asked, tail = _split_body(body, request.json_length)
            inputs: Sequence[TensorLike] = oip.join_binary(asked.inputs, tail)
        else:
            asked = decode_json(INFER_DECODER, body)
            inputs = asked.inputs
        if asked.id:
            request.request_id = check_request_id(asked.id)
        plane = self.plane
        loaded = plane.find(version) if version else plane.deployment.champion.loaded
        table, rows = read_table(inputs, loaded)
        names = oip.wanted_outputs(oip.asked_outputs(asked), loaded.outputs)
        if asked.parameters and self._sticky_parameter in asked.parameters:
            request.sticky_key = str(asked.parameters[self._sticky_parameter])
        reply = await plane.infer(
            Ask(
                request.request_id,
                table,
                rows,
                request.arrived,
                request.sticky_key,
                version,
                request.timeout_s,
                request.trace,
            )
        )
        return self._infer_answer(request, asked, names, reply)

    def _infer_answer(
        self, request: Request, asked: oip.InferIn, names: tuple[str, ...], reply: Reply
    ) -> HttpAnswer:
        loaded = reply.loaded
        content = oip.infer_out(
            self._name, loaded.version, request.request_id, names, reply.outputs
        )
        headers = loaded.headers
        if notes := reply.notes:
            headers = [*headers, *note_headers(notes)]
            content.parameters = notes
        binary = oip.binary_outputs(asked, names)
        if not binary:
            return HttpAnswer(200, encode_json(content), headers=headers)
        tail = oip.split_binary(content, reply.outputs, binary)
        head = encode_json(content)
        length = (b"inference-header-content-length", b"%d" % len(head))
        return HttpAnswer(200, head + tail, b"application/octet-stream", headers=[*headers, length])

    async def invocations(self, request: Request, receive: Receive) -> HttpAnswer:
        """Answer MLflow's `POST /invocations`."""
        body = await read_typed_body(request, receive, INVOCATION_TYPES, self._bodies)
        table, rows = await self._read_invocation(request, body)
        reply = await self.plane.infer(
            Ask(
                request.request_id,
                table,
                rows,
                request.arrived,
                request.sticky_key,
                timeout_s=request.timeout_s,
                trace=request.trace,
            )
        )
        answer = await _predictions(request.accept, reply)
        answer.headers = reply.loaded.headers
        if notes := reply.notes:
            answer.headers = [*answer.headers, *note_headers(notes)]
        return answer

    async def _read_invocation(self, request: Request, body: bytes) -> tuple[Table, int]:
        """Return the table of a body of any of `INVOCATION_TYPES`, and its number of rows."""
        kind = media_type(request.content_type)
        if kind in (ARROW_STREAM, ARROW_FILE):
            if not await _load_arrow():
                raise HttpError(415, f"Arrow bodies are not served here; {WITHOUT_ARROW}")
            from steadynet.serving import arrow
            from steadynet.serving.arrow_messages import Bounds

            kinds = arrow.kinds_of(each.schema for each in self.plane.deployment.versions())
            bounds = Bounds(self.plane.max_request_rows, self._bodies.max_bytes)
            return arrow.read_body(body, kinds, bounds, is_file=kind == ARROW_FILE)
        if kind == CSV_TYPE:
            return invocations.read_csv(body)
        asked = _decode_invocation(body)
        if asked.params and self._sticky_parameter in asked.params:
            request.sticky_key = str(asked.params[self._sticky_parameter])
        return invocations.read_table(asked, self.plane.deployment.champion.loaded.columns)

    async def feedback(self, request: Request, receive: Receive) -> HttpAnswer:
        """Answer `POST /feedback`: labels of rows that were answered."""
        body = await read_typed_body(request, receive, JSON_TYPES, self._bodies)
        given = decode_json(FEEDBACK_DECODER, body)
        now = self.plane.telemetry.now()
        records = [
            item if item.at else msgspec.structs.replace(item, at=now)
            for item in (given if isinstance(given, list) else [given])
        ]
        if len(records) > MAX_FEEDBACK:
            raise HttpError(413, f"too many labels; expected at most {MAX_FEEDBACK} in a request")
        if await self.plane.telemetry.feedback(records) < len(records):
            raise NotReady("not all labels could be stored", do="Send them again later.")
        return json_answer({"accepted": len(records)})

    async def _ready(self, _request: Request, _receive: Receive) -> HttpAnswer:
        ready = self.plane.ready
        return json_answer({"name": self._name, "ready": ready}, 200 if ready else 503)

    async def _metadata(self, _request: Request, _receive: Receive) -> HttpAnswer:
        deployment = self.plane.deployment
        versions = [loaded.version for loaded in deployment.versions()]
        return json_answer(oip.metadata(self._name, versions, deployment.champion.loaded))

    async def _version_metadata(self, _request: Request, version: str) -> HttpAnswer:
        loaded = self.plane.find(version)
        return json_answer(oip.metadata(self._name, [loaded.version], loaded))

    async def _version_ready(self, _request: Request, version: str) -> HttpAnswer:
        loaded = self.plane.find(version)
        return json_answer({"name": self._name, "version": loaded.version, "ready": True})


def note_headers(notes: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return as headers what an answer tells beside its outputs."""
    return [(NOTE_HEADERS[name], value.encode()) for name, value in notes.items()]


async def _load_arrow() -> bool:
    """Import what reads and writes Arrow; return whether it is installed."""
    if ARROW_MODULE not in sys.modules:
        try:
            # It takes long enough for other callers to notice.
            await asyncio.to_thread(import_module, ARROW_MODULE)
        except ImportError:
            return False
    return True


async def _predictions(accept: bytes, reply: Reply) -> HttpAnswer:
    """Return predictions as the caller asks for them. Raises `HttpError`."""
    if asks_for(accept, ARROW_STREAM):
        if await _load_arrow():
            from steadynet.serving import arrow

            content = arrow.write_answer(reply.outputs, reply.loaded.schema)
            return HttpAnswer(200, content, ARROW_STREAM)
        if not takes_json(accept):
            raise HttpError(406, f"answers as Arrow are not served here; {WITHOUT_ARROW}")
    return json_answer(invocations.predictions(reply.outputs, reply.loaded.schema))


def _decode_invocation(body: bytes) -> invocations.Invocation:
    """Decode a body of MLflow's format. Raises `HttpError`.

    MLflow's own client writes what is missing as NaN, which JSON does not have.
    """
    try:
        return decode_json(INVOCATION_DECODER, body)
    except HttpError:
        if not any(word in body for word in PYTHON_NUMBERS):
            raise
        try:
            return msgspec.convert(json.loads(body), invocations.Invocation)
        except msgspec.ValidationError as error:
            raise HttpError(400, f"the body does not fit: {error}") from None
        except (ValueError, RecursionError):
            raise HttpError(400, "the body is not JSON") from None


def _split_body(body: bytes, json_length: int) -> tuple[oip.InferIn, memoryview]:
    """Return a request's JSON part, and the binary data behind it."""
    if json_length > len(body):
        raise HttpError(
            400,
            "the body is shorter than its header Inference-Header-Content-Length says; "
            f"expected at least {json_length} bytes, got {len(body)}",
        )
    return decode_json(INFER_DECODER, body[:json_length]), memoryview(body)[json_length:]
