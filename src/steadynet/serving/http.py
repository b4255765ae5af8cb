"""HTTP: raw ASGI that only translates. Paths, methods and bodies in, statuses and bodies out.

The paths (`{m}` a model's name, `{v}` a version's):
`/v2`, `/v2/health/live`, `/v2/health/ready`, `/v2/models/{m}[/versions/{v}][/ready|/infer]`,
`/v2/repository/index`, `/v2/repository/models/{m}/load|unload` (Open Inference Protocol v2),
`/models/{m}/invocations`, `/models/{m}/feedback`, and `/invocations`, `/feedback` where the server
was started with one model; `/ping`, `/health`, `/version` (MLflow's scoring server), `/metrics`,
`/openapi.json`, `/docs`, `/`.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable
from pathlib import Path
from time import monotonic

import msgspec

from steadynet.errors import Forbidden, SteadynetError, UnknownModel
from steadynet.serving import oip, repository
from steadynet.serving.answers import TEXT, HttpAnswer, HttpError, error_answer, json_answer
from steadynet.serving.auth import CHANGING, Gate
from steadynet.serving.channel import Action, GiveOrder
from steadynet.serving.metrics import add_up, of_key, render
from steadynet.serving.model_http import JSON_TYPES, Endpoint, Handler, ModelPaths
from steadynet.serving.models import Offer
from steadynet.serving.openapi import document
from steadynet.serving.requests import (
    Bodies,
    Disconnected,
    Receive,
    Request,
    RequestIds,
    Scope,
    Send,
    decode_json,
    read_head,
    read_typed_body,
    throw_away,
)
from steadynet.serving.tracing import STATUS, Trace, Tracer

logger = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("docs.html")
PAGE_POLICY = (
    b"default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
INDEX_DECODER = msgspec.json.Decoder(repository.IndexAsk)
CONTROL_DECODER = msgspec.json.Decoder(repository.ControlAsk)


class HttpApp:
    """The ASGI application of a worker."""

    def __init__(
        self,
        offer: Offer,
        gate: Gate,
        *,
        bodies: Bodies,
        sticky_parameter: str,
        version: str,
        admin_port: int | None = None,
        tracer: Tracer | None = None,
        order: GiveOrder | None = None,
    ) -> None:
        self._offer = offer
        self._gate = gate
        self._is_open = gate.open
        self._admin_port = admin_port
        self._tracer = tracer
        self._order = order
        self._bodies = bodies
        self._sticky_parameter = sticky_parameter
        self._version = version
        self._ids = RequestIds()
        self._responses = offer.general.general_responses
        self._models: dict[str, ModelPaths] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._refresh()
        offer.on_change.append(self._refresh)

    def _refresh(self) -> None:
        """Answer by the paths of the models that are offered now."""
        self._models = {
            name: ModelPaths(plane, self._bodies, sticky_parameter=self._sticky_parameter)
            for name, plane in self._offer.planes.items()
        }
        self._endpoints = self._table()

    def _table(self) -> dict[str, Endpoint]:
        """Return the literal table of paths without a version."""
        table: dict[str, Endpoint] = {}
        for paths in self._models.values():
            table |= paths.table()
        if self._offer.alone in self._models:
            table |= self._models[self._offer.alone].alone()
        probes: dict[str, dict[str, Handler]] = {
            # The page tells nothing but how to ask.
            "/docs": {"GET": self._docs},
            "/ping": {"GET": self._ping},
            "/health": {"GET": self._ping},
            "/v2/health/live": {"GET": self._live},
            "/v2/health/ready": {"GET": self._ready},
        }
        general: dict[str, dict[str, Handler]] = {
            "/": {"GET": self._index},
            "/metrics": {"GET": self._metrics},
            "/version": {"GET": self._show_version},
            "/openapi.json": {"GET": self._openapi},
            "/v2": {"GET": self._server_metadata},
            "/v2/repository/index": {"POST": self._repository_index},
        }
        for path, handlers in general.items():
            table[path] = Endpoint(handlers, self._responses, "viewer")
        for path, handlers in probes.items():
            table[path] = Endpoint(handlers, self._responses, None)
        return table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request by ASGI."""
        if scope["type"] != "http":
            return
        answered = await self.answer(
            scope["method"],
            scope["path"],
            scope["headers"],
            receive,
            by_admin_address=scope["server"][1] == self._admin_port,
        )
        if answered is not None:
            request, answer = answered
            await self._send(request, answer, receive, send)

    def is_direct(self, url: bytes) -> bool:
        """Return whether what is POSTed to a URL may be answered without ASGI."""
        endpoint = self._endpoints.get(url.decode("latin-1"))
        return endpoint is not None and endpoint.is_direct

    async def answer(
        self,
        method: str,
        path: str,
        headers: list[tuple[bytes, bytes]],
        receive: Receive,
        *,
        body: bytes | None = None,
        by_admin_address: bool = False,
    ) -> tuple[Request, HttpAnswer] | None:
        """Answer one request; None where its caller has gone. `body` where it is whole."""
        request = Request(method, path, monotonic(), body=body)
        responses = self._responses
        try:
            read_head(request, headers, self._ids)
            endpoint = self._endpoints.get(path) or self._find(request)
            responses = endpoint.responses
            if not self._is_open or endpoint.role in CHANGING:
                self._admit(request, endpoint, by_admin_address)
            if self._tracer is not None and endpoint.role is not None:
                request.trace = self._tracer.begin(request.traceparent, request.arrived)
            handler = endpoint.handlers.get("GET" if method == "HEAD" else method)
            if handler is None:
                raise _wrong_method(endpoint)
            answer = await handler(request, receive)
        except Disconnected:
            return None
        except (HttpError, SteadynetError) as error:
            answer = error_answer(error)
        except Exception as error:  # The process's boundary: the caller gets an answer.
            answer = _surprise(request, error)
        responses[answer.status] = responses.get(answer.status, 0) + 1
        if request.trace is not None and self._tracer is not None:
            _end_trace(self._tracer, request.trace, request, answer)
        return request, answer

    def _admit(self, request: Request, endpoint: Endpoint, by_admin_address: bool) -> None:
        """Raise `Unauthenticated`, `Forbidden` or `RateLimited` where the caller may not ask."""
        if endpoint.role is not None:
            request.key_id = self._gate.admit(
                endpoint.model, endpoint.role, request.key, by_admin_address=by_admin_address
            )

    def _visible(self, request: Request) -> dict[str, ModelPaths]:
        """Return the models that the caller may know of."""
        reach = None if self._is_open else self._gate.scope(request.key).models
        if reach is None:
            return self._models
        return {name: paths for name, paths in self._models.items() if name in reach}

    async def _send(
        self, request: Request, answer: HttpAnswer, receive: Receive, send: Send
    ) -> None:
        status = answer.status
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
        """Return the endpoint of a path that the table has not.

        Raises `HttpError`, `UnknownModel`, `Unauthenticated`, `Forbidden`.
        """
        if not self._is_open:
            # Which models there are is not told to just anyone.
            self._gate.scope(request.key)
        match request.path.split("/"):
            case ["", "invocations" | "feedback" as last]:
                raise HttpError(
                    404,
                    f"several models are served; expected /models/NAME/{last} with one of "
                    + ", ".join(self._visible(request)),
                )
            case ["", "v2", "repository", "models", model, "load" | "unload" as action]:
                handler = self._changing(action, model)
                return Endpoint({"POST": handler}, self._responses, "operator", model)
            case (
                ["", "v2", "models", model, *_]
                | ["", "v2", "repository", "models", model, _]
                | ["", "models", model, _]
            ) if model not in self._models:
                if not self._is_open:
                    # Forbidden as for a model that is there: a key of others learns of neither.
                    self._gate.admit(model, "viewer", request.key)
                raise UnknownModel(
                    f"there is no model {model[:100]!r} here",
                    expected=" or ".join(map(repr, self._visible(request))) or None,
                )
            case ["", "v2", "models", model, "versions", version, *rest]:
                endpoint = self._models[model].find(version, rest)
                if endpoint is not None:
                    return endpoint
        raise HttpError(404, "there is no such path; GET / lists what there is")

    def _changing(self, action: Action, model: str) -> Handler:
        """Return the handler of the repository extension's load or unload of a model."""

        async def handler(request: Request, receive: Receive) -> HttpAnswer:
            body = await read_typed_body(request, receive, JSON_TYPES, self._bodies)
            asked = decode_json(CONTROL_DECODER, body) if body else repository.ControlAsk()
            versions = repository.asked_versions(action, asked.parameters or {})
            if self._order is None:
                raise Forbidden("nothing changes what this server answers for")
            await self._order(action, model, versions, request.key_id)
            return json_answer({})

        return handler

    async def _index(self, request: Request, _receive: Receive) -> HttpAnswer:
        visible = self._visible(request)
        versions = [
            f"/v2/models/{model}/versions/{{version}}{rest}"
            for model in visible
            for rest in ("", "/ready", "/infer")
        ]
        return json_answer(
            {
                "name": "steadynet",
                "version": self._version,
                "models": list(visible),
                "ready": self._offer.is_ready,
                "paths": [*self._shown(visible), *versions],
            }
        )

    def _shown(self, visible: Iterable[str]) -> dict[str, Endpoint]:
        """Return the paths of no model, and of those that the caller may know of."""
        return {
            path: endpoint
            for path, endpoint in self._endpoints.items()
            if not endpoint.model or endpoint.model in visible
        }

    async def _metrics(self, request: Request, _receive: Receive) -> HttpAnswer:
        """Answer `GET /metrics`: of everything, or of what the caller's key reaches."""
        telemetries = self._offer.telemetries
        if self._is_open or (scope := self._gate.scope(request.key)).models is None:
            shown = list(telemetries.values())
            total = add_up([await each.total() for each in shown])
        else:
            shown = [telemetries[name] for name in scope.models if name in telemetries]
            total = add_up([await each.total() for each in shown])
            # Keys are counted with the first model, which this one may not reach.
            counted = await self._offer.general.total()
            total = of_key(msgspec.structs.replace(total, keys=counted.keys), scope.id)
        found = [item for each in shown if (item := await each.found()) is not None]
        now = max((each.now() for each in shown), default=0.0)
        return HttpAnswer(200, render(total, found, now=now), TEXT)

    async def _ping(self, _request: Request, _receive: Receive) -> HttpAnswer:
        ready = self._offer.is_ready
        return HttpAnswer(200 if ready else 503, b"\n" if ready else b"not ready\n", TEXT)

    async def _show_version(self, _request: Request, _receive: Receive) -> HttpAnswer:
        return HttpAnswer(200, self._version.encode(), TEXT)

    async def _openapi(self, request: Request, _receive: Receive) -> HttpAnswer:
        visible = self._visible(request)
        planes = [paths.plane for paths in visible.values()]
        return json_answer(document(planes, self._shown(visible), self._version))

    async def _docs(self, _request: Request, _receive: Receive) -> HttpAnswer:
        policy = (b"content-security-policy", PAGE_POLICY)
        return HttpAnswer(200, PAGE.read_bytes(), b"text/html; charset=utf-8", headers=[policy])

    async def _server_metadata(self, _request: Request, _receive: Receive) -> HttpAnswer:
        return json_answer(
            {"name": "steadynet", "version": self._version, "extensions": oip.EXTENSIONS}
        )

    async def _live(self, _request: Request, _receive: Receive) -> HttpAnswer:
        return json_answer({"live": True})

    async def _ready(self, _request: Request, _receive: Receive) -> HttpAnswer:
        ready = self._offer.is_ready
        return json_answer({"ready": ready}, 200 if ready else 503)

    async def _repository_index(self, request: Request, receive: Receive) -> HttpAnswer:
        """Answer `POST /v2/repository/index`; its body is optional."""
        body = await read_typed_body(request, receive, JSON_TYPES, self._bodies)
        asked = decode_json(INDEX_DECODER, body) if body else repository.IndexAsk()
        planes = [paths.plane for paths in self._visible(request).values()]
        return json_answer(repository.index(planes, only_ready=asked.ready))


def _end_trace(tracer: Tracer, trace: Trace, request: Request, answer: HttpAnswer) -> None:
    """Hand on what was noted, and tell the caller which span was this server's."""
    trace.attributes |= {
        "http.request.method": request.method,
        "url.path": request.path,
        "steadynet.request_id": request.request_id,
        STATUS: answer.status,
    }
    own = tracer.end(trace, f"{request.method} {request.path}")
    answer.headers = [*(answer.headers or ()), (b"traceparent", own)]


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
