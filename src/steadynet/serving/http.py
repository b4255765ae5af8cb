"""HTTP: raw ASGI that only translates. Paths, methods and bodies in, statuses and bodies out.

The paths (`{m}` the model's name, `{v}` a version's):
`/v2`, `/v2/health/live`, `/v2/health/ready`, `/v2/models/{m}[/versions/{v}][/ready|/infer]`
(Open Inference Protocol v2), `/invocations`, `/ping`, `/health`, `/version` (MLflow's scoring
server), `/feedback`, `/metrics`, `/`.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from steadynet.errors import NotReady, SteadynetError, UnknownModel
from steadynet.monitoring.records import Feedback
from steadynet.serving import invocations, oip
from steadynet.serving.answers import (
    TEXT,
    HttpAnswer,
    HttpError,
    encode_json,
    error_answer,
    json_answer,
)
from steadynet.serving.dataplane import Ask, DataPlane
from steadynet.serving.requests import (
    Disconnected,
    Receive,
    Request,
    RequestIds,
    Scope,
    Send,
    check_request_id,
    read_body,
    read_head,
    throw_away,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

JSON_TYPES = (b"application/json", b"application/octet-stream")
MAX_FEEDBACK = 10_000
"""Labels in one request."""

Handler = Callable[[Request, Receive], Awaitable[HttpAnswer]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a path does, by method."""

    handlers: dict[str, Handler]


class HttpApp:
    """The ASGI application of a worker."""

    def __init__(
        self, plane: DataPlane, *, max_body_bytes: int, sticky_parameter: str, version: str
    ) -> None:
        self._plane = plane
        self._model = plane.model
        self._max_body_bytes = max_body_bytes
        self._sticky_parameter = sticky_parameter
        self._version = version
        self._ids = RequestIds()
        self._responses = plane.telemetry.responses
        self._infer_decoder = msgspec.json.Decoder(oip.InferIn)
        self._invocation_decoder = msgspec.json.Decoder(invocations.Invocation)
        self._feedback_decoder = msgspec.json.Decoder(Feedback | list[Feedback])
        self._endpoints = self._table()

    def _table(self) -> dict[str, Endpoint]:
        """Return the literal table of paths without a version."""
        model = f"/v2/models/{self._model}"
        return {
            f"{model}/infer": Endpoint({"POST": self._infer}),
            "/invocations": Endpoint({"POST": self._invocations}),
            "/feedback": Endpoint({"POST": self._feedback}),
            "/": Endpoint({"GET": self._index}),
            "/metrics": Endpoint({"GET": self._metrics}),
            "/ping": Endpoint({"GET": self._ping}),
            "/health": Endpoint({"GET": self._ping}),
            "/version": Endpoint({"GET": self._show_version}),
            "/v2": Endpoint({"GET": self._server_metadata}),
            "/v2/health/live": Endpoint({"GET": self._live}),
            "/v2/health/ready": Endpoint({"GET": self._ready}),
            model: Endpoint({"GET": self._model_metadata}),
            f"{model}/ready": Endpoint({"GET": self._ready}),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        request = Request(scope["method"], scope["path"], 0.0)
        try:
            request = read_head(scope, self._ids)
            endpoint = self._endpoints.get(request.path) or self._find(request)
            handler = endpoint.handlers.get("GET" if request.method == "HEAD" else request.method)
            if handler is None:
                raise _wrong_method(endpoint)
            answer = await handler(request, receive)
        except Disconnected:
            return
        except (HttpError, SteadynetError) as error:
            answer = error_answer(error)
        except Exception as error:  # The process's boundary: the caller gets an answer.
            answer = _surprise(request, error)
        await self._send(request, answer, receive, send)

    async def _send(
        self, request: Request, answer: HttpAnswer, receive: Receive, send: Send
    ) -> None:
        status = answer.status
        self._responses[status] = self._responses.get(status, 0) + 1
        body = answer.body
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request.request_id.encode("latin-1")),
        ]
        if answer.headers:
            headers += answer.headers
        if answer.close:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if answer.close:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await throw_away(receive)
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": body})

    def _find(self, request: Request) -> Endpoint:
        """Return the endpoint of a path with a version. Raises `HttpError`, `UnknownModel`."""
        match request.path.split("/"):
            case ["", "v2", "models", model, *_] if model != self._model:
                raise UnknownModel(
                    f"there is no model {model[:100]!r} here", expected=repr(self._model)
                )
            case ["", "v2", "models", _, "versions", version]:
                return Endpoint({"GET": lambda r, _: self._version_metadata(r, version)})
            case ["", "v2", "models", _, "versions", version, "ready"]:
                return Endpoint({"GET": lambda r, _: self._version_ready(r, version)})
            case ["", "v2", "models", _, "versions", version, "infer"]:
                return Endpoint({"POST": lambda r, receive: self._infer(r, receive, version)})
            case _:
                raise HttpError(404, "there is no such path; GET / lists what there is")

    async def _infer(self, request: Request, receive: Receive, version: str = "") -> HttpAnswer:
        """Answer `POST /v2/models/{m}/infer`."""
        body = await self._body(request, receive, JSON_TYPES)
        if request.binary:
            raise HttpError(400, "the binary tensor extension is not served; send JSON data")
        asked = _decode(self._infer_decoder, body)
        if asked.id:
            request.request_id = check_request_id(asked.id)
        champion = self._plane.deployment.champion.loaded
        table, rows = oip.read_table(asked.inputs, champion)
        names = oip.wanted_outputs(asked.outputs, champion)
        if asked.parameters and self._sticky_parameter in asked.parameters:
            request.sticky_key = str(asked.parameters[self._sticky_parameter])
        reply = await self._plane.infer(
            Ask(request.request_id, table, rows, request.arrived, request.sticky_key, version)
        )
        version = reply.loaded.version
        content = oip.infer_out(self._model, version, request.request_id, names, reply.outputs)
        return HttpAnswer(200, encode_json(content), headers=reply.loaded.headers)

    async def _invocations(self, request: Request, receive: Receive) -> HttpAnswer:
        """Answer MLflow's `POST /invocations`."""
        body = await self._body(request, receive, (*JSON_TYPES[:1], b"text/csv"))
        if request.content_type.startswith(b"text/csv"):
            table, rows = invocations.read_csv(body)
        else:
            asked = _decode(self._invocation_decoder, body)
            features = self._plane.deployment.champion.loaded.columns
            table, rows = invocations.read_table(asked, features)
        reply = await self._plane.infer(
            Ask(request.request_id, table, rows, request.arrived, request.sticky_key)
        )
        answer = json_answer(invocations.predictions(reply.outputs))
        answer.headers = reply.loaded.headers
        return answer

    async def _feedback(self, request: Request, receive: Receive) -> HttpAnswer:
        """Answer `POST /feedback`: labels of rows that were answered."""
        body = await self._body(request, receive, JSON_TYPES[:1])
        given = _decode(self._feedback_decoder, body)
        now = self._plane.telemetry.now()
        records = [
            item if item.at else msgspec.structs.replace(item, at=now)
            for item in (given if isinstance(given, list) else [given])
        ]
        if len(records) > MAX_FEEDBACK:
            raise HttpError(413, f"too many labels; expected at most {MAX_FEEDBACK} in a request")
        if await self._plane.telemetry.feedback(records) < len(records):
            raise NotReady("not all labels could be stored", do="Send them again later.")
        return json_answer({"accepted": len(records)})

    async def _body(self, request: Request, receive: Receive, types: tuple[bytes, ...]) -> bytes:
        """Return the body of a request whose declared type is one of `types`, or none."""
        kind = request.content_type
        if kind and kind not in types and kind.split(b";")[0].strip().lower() not in types:
            expected = " or ".join(item.decode() for item in types)
            raise HttpError(415, f"the Content-Type is not served; expected {expected}")
        if request.encoding not in (b"", b"identity"):
            raise HttpError(415, "the Content-Encoding is not served; expected identity")
        return await read_body(request, receive, self._max_body_bytes)

    async def _index(self, _request: Request, _receive: Receive) -> HttpAnswer:
        return json_answer(
            {
                "name": "steadynet",
                "version": self._version,
                "model": self._model,
                "ready": self._plane.ready,
                "paths": [
                    *self._endpoints,
                    f"/v2/models/{self._model}/versions/{{version}}",
                    f"/v2/models/{self._model}/versions/{{version}}/ready",
                    f"/v2/models/{self._model}/versions/{{version}}/infer",
                ],
            }
        )

    async def _metrics(self, _request: Request, _receive: Receive) -> HttpAnswer:
        return HttpAnswer(200, await self._plane.telemetry.prometheus(), TEXT)

    async def _ping(self, _request: Request, _receive: Receive) -> HttpAnswer:
        ready = self._plane.ready
        return HttpAnswer(200 if ready else 503, b"\n" if ready else b"not ready\n", TEXT)

    async def _show_version(self, _request: Request, _receive: Receive) -> HttpAnswer:
        return HttpAnswer(200, self._version.encode(), TEXT)

    async def _server_metadata(self, _request: Request, _receive: Receive) -> HttpAnswer:
        return json_answer({"name": "steadynet", "version": self._version, "extensions": []})

    async def _live(self, _request: Request, _receive: Receive) -> HttpAnswer:
        return json_answer({"live": True})

    async def _ready(self, _request: Request, _receive: Receive) -> HttpAnswer:
        ready = self._plane.ready
        return json_answer({"name": self._model, "ready": ready}, 200 if ready else 503)

    async def _model_metadata(self, _request: Request, _receive: Receive) -> HttpAnswer:
        deployment = self._plane.deployment
        versions = [loaded.version for loaded in deployment.versions()]
        return json_answer(oip.metadata(self._model, versions, deployment.champion.loaded))

    async def _version_metadata(self, _request: Request, version: str) -> HttpAnswer:
        return json_answer(oip.metadata(self._model, [version], self._plane.find(version)))

    async def _version_ready(self, _request: Request, version: str) -> HttpAnswer:
        self._plane.find(version)
        return json_answer({"name": self._model, "version": version, "ready": True})


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a JSON body. Raises `HttpError` 400, whose message shows no value of the body."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise HttpError(400, f"the body does not fit: {error}") from None
    except msgspec.DecodeError as error:
        raise HttpError(400, f"the body is not JSON: {error}") from None
    except RecursionError:
        raise HttpError(400, "the body is nested too deeply") from None


def _wrong_method(endpoint: Endpoint) -> HttpError:
    allowed = ", ".join(sorted(endpoint.handlers))
    return HttpError(
        405,
        f"the method is not served here; expected {allowed}",
        headers=[(b"allow", allowed.encode())],
    )


def _surprise(request: Request, error: Exception) -> HttpAnswer:
    # The message of an unforeseen error may hold a row's values: only its type and place are kept.
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("request %s: %s\n%s", request.request_id, type(error).__name__, where)
    return json_answer({"error": "something unexpected happened; the server's log says where"}, 500)
