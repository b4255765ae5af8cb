"""gRPC: `inference.GRPCInferenceService`, which only translates to the data planes and back."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from operator import attrgetter
from time import monotonic
from typing import NamedTuple, Protocol

import grpc
from google.protobuf.message import DecodeError

from steadynet import __version__
from steadynet.errors import (
    CannotLoad,
    DeadlineExceeded,
    Forbidden,
    InputError,
    NotReady,
    Overloaded,
    SteadynetError,
    Unauthenticated,
    UnknownModel,
)
from steadynet.serving import oip, repository
from steadynet.serving.auth import CHANGING, Gate, bearer
from steadynet.serving.channel import Action, GiveOrder
from steadynet.serving.dataplane import Ask, DataPlane
from steadynet.serving.gathering import Gathering
from steadynet.serving.grpc_codec import (
    asked_outputs,
    infer_response,
    metadata_response,
    parameter_value,
    read_inputs,
)
from steadynet.serving.grpc_messages import (
    METHODS,
    SERVICE,
    Message,
    ModelReadyResponse,
    RepositoryIndexResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from steadynet.serving.keys import KeyRole
from steadynet.serving.requests import RequestIds, check_request_id
from steadynet.serving.tensors import read_table
from steadynet.serving.tracing import Tracer

logger = logging.getLogger(__name__)


class Context(Protocol):
    """What handlers need of gRPC's own context."""

    def invocation_metadata(self) -> Sequence[tuple[str, str]] | None:
        """Return the caller's metadata."""
        ...

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """End the call with an error; does not return."""
        ...

    def set_trailing_metadata(self, trailing_metadata: Sequence[tuple[str, str]]) -> None:
        """Set what is told behind the answer."""
        ...


Handler = Callable[[Message, Context], Awaitable[Message]]

REQUEST_ID = "x-request-id"
STICKY_KEY = "x-sticky-key"


class Rpc(NamedTuple):
    """One RPC: what answers it, and who may ask for it."""

    name: str
    handler: Handler
    role: KeyRole | None
    """None: anyone, as probes do."""
    model_of: Callable[[Message], str] = lambda _: ""
    """The model that a request concerns; empty where it concerns none."""


class InferenceService:
    """The RPCs over a worker's data planes."""

    def __init__(
        self,
        planes: Mapping[str, DataPlane],
        gate: Gate,
        *,
        sticky_parameter: str,
        tracer: Tracer | None = None,
        order: GiveOrder | None = None,
        is_admin: bool = False,
    ) -> None:
        self._planes = planes
        self._tracer = tracer
        self._gate = gate
        self._order = order
        self._is_admin = is_admin
        self._sticky_parameter = sticky_parameter
        self._ids = RequestIds()
        self._gathering = Gathering()

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server calls, one handler for each RPC of the protocol."""
        table = (
            Rpc("ServerLive", self._server_live, None),
            Rpc("ServerReady", self._server_ready, None),
            Rpc("ModelReady", self._model_ready, "viewer", attrgetter("name")),
            Rpc("ServerMetadata", self._server_metadata, "viewer"),
            Rpc("ModelMetadata", self._model_metadata, "viewer", attrgetter("name")),
            Rpc("ModelInfer", self._model_infer, "caller", attrgetter("model_name")),
            Rpc("RepositoryIndex", self._repository_index, "viewer"),
            Rpc("RepositoryModelLoad", self._load, "operator", attrgetter("model_name")),
            Rpc("RepositoryModelUnload", self._unload, "operator", attrgetter("model_name")),
        )
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                rpc.name: grpc.unary_unary_rpc_method_handler(
                    self._answering(rpc),
                    response_serializer=METHODS[rpc.name][1].SerializeToString,
                )
                for rpc in table
            },
        )

    def _answering(self, rpc: Rpc) -> Handler:
        """Return a handler that admits its caller, and whose errors become statuses."""
        gate, handler, role = self._gate, rpc.handler, rpc.role
        asks_gate = role in CHANGING or not gate.open
        # gRPC itself would answer UNKNOWN to what it cannot decode, and log each with a traceback.
        decode = METHODS[rpc.name][0].FromString

        async def answer(data: bytes, context: Context) -> Message:
            try:
                request = decode(data)
                if asks_gate and role is not None:
                    model = rpc.model_of(request)
                    gate.admit(
                        model,
                        role,
                        _key_of(context),
                        by_admin_address=self._is_admin,
                        is_served=model in self._planes,
                    )
                return await handler(request, context)
            except SteadynetError as error:
                code, message = code_of(error), str(error)
            except DecodeError:
                code = grpc.StatusCode.INVALID_ARGUMENT
                message = "the message cannot be decoded; expected the protocol's own"
            except Exception as error:  # The process's boundary: the caller gets an answer.
                # The message of an unforeseen error may hold a row's values.
                where = "".join(traceback.format_tb(error.__traceback__))
                logger.error("rpc %s: %s\n%s", rpc.name, type(error).__name__, where)
                code = grpc.StatusCode.INTERNAL
                message = "something unexpected happened; the server's log says where"
            await context.abort(code, message)
            raise AssertionError("abort does not return")

        return answer

    def _plane(self, name: str, context: Context) -> DataPlane:
        """Return a model's data plane. Raises `UnknownModel`."""
        plane = self._planes.get(name)
        if plane is None:
            raise UnknownModel(
                f"there is no model {name[:100]!r} here",
                expected=" or ".join(repr(each.model) for each in self._visible(context)) or None,
            )
        return plane

    def _visible(self, context: Context) -> list[DataPlane]:
        """Return the models that the caller may know of."""
        reach = self._gate.scope(_key_of(context)).models
        return [plane for name, plane in self._planes.items() if reach is None or name in reach]

    async def _model_infer(self, request: Message, context: Context) -> Message:
        arrived = monotonic()
        given = dict(context.invocation_metadata() or ())
        trace = None
        if self._tracer is not None:
            trace = self._tracer.begin(str(given.get("traceparent", "")).encode(), arrived)
            if trace is not None:
                trace.received = arrived
        plane = self._plane(request.model_name, context)
        version = request.model_version
        loaded = plane.find(version) if version else plane.deployment.champion.loaded
        table, rows = read_table(read_inputs(request), loaded)
        names = oip.wanted_outputs(asked_outputs(request), loaded.outputs)
        request_id = request.id or given.get(REQUEST_ID)
        request_id = check_request_id(request_id) if request_id else self._ids.new()
        sticky_key = given.get(STICKY_KEY, "")
        if self._sticky_parameter in request.parameters:
            sticky_key = str(parameter_value(request.parameters[self._sticky_parameter]))
        await self._gathering.join()
        reply = await plane.infer(
            # When the caller's deadline passes, or the caller goes, gRPC cancels this call; what
            # it has in a queue is then not run.
            Ask(request_id, table, rows, arrived, sticky_key, version, trace=trace)
        )
        response = infer_response(request, reply.loaded.version, request_id, names, reply.outputs)
        for name, value in reply.notes.items():
            response.parameters[name].string_param = value
        if self._tracer is not None and trace is not None:
            trace.attributes |= {"rpc.system": "grpc", "steadynet.request_id": request_id}
            own = self._tracer.end(trace, f"{SERVICE}/ModelInfer")
            context.set_trailing_metadata((("traceparent", own.decode()),))
        return response

    async def _server_live(self, _request: Message, _context: Context) -> Message:
        return ServerLiveResponse(live=True)

    async def _server_ready(self, _request: Message, _context: Context) -> Message:
        return ServerReadyResponse(ready=all(plane.ready for plane in self._planes.values()))

    async def _model_ready(self, request: Message, context: Context) -> Message:
        plane = self._plane(request.name, context)
        if request.version and plane.ready:
            plane.find(request.version)
        return ModelReadyResponse(ready=plane.ready)

    async def _server_metadata(self, _request: Message, _context: Context) -> Message:
        return ServerMetadataResponse(
            name="steadynet", version=__version__, extensions=oip.EXTENSIONS
        )

    async def _model_metadata(self, request: Message, context: Context) -> Message:
        plane = self._plane(request.name, context)
        if request.version:
            loaded = plane.find(request.version)
            versions = [loaded.version]
        else:
            loaded = plane.deployment.champion.loaded
            versions = [each.version for each in plane.deployment.versions()]
        return metadata_response(oip.metadata(plane.model, versions, loaded))

    async def _load(self, request: Message, context: Context) -> Message:
        return await self._change("load", "RepositoryModelLoad", request, context)

    async def _unload(self, request: Message, context: Context) -> Message:
        return await self._change("unload", "RepositoryModelUnload", request, context)

    async def _change(
        self, action: Action, rpc: str, request: Message, context: Context
    ) -> Message:
        given = {name: parameter_value(value) for name, value in request.parameters.items()}
        versions = repository.asked_versions(action, given)
        if self._order is None:
            raise Forbidden("nothing changes what this server answers for")
        key_id = self._gate.scope(_key_of(context)).id
        await self._order(action, request.model_name, versions, key_id)
        return METHODS[rpc][1]()

    async def _repository_index(self, request: Message, context: Context) -> Message:
        found = repository.index(self._visible(context), only_ready=request.ready)
        response = RepositoryIndexResponse()
        for item in found:
            response.models.add(
                name=item.name, version=item.version, state=item.state, reason=item.reason
            )
        return response


def code_of(error: SteadynetError) -> grpc.StatusCode:
    """Return the gRPC status for one of our errors; everything not named is INTERNAL."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return grpc.StatusCode.INTERNAL


_CODES: tuple[tuple[type[SteadynetError], grpc.StatusCode], ...] = (
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (Forbidden, grpc.StatusCode.PERMISSION_DENIED),
    (UnknownModel, grpc.StatusCode.NOT_FOUND),
    (CannotLoad, grpc.StatusCode.FAILED_PRECONDITION),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (NotReady, grpc.StatusCode.UNAVAILABLE),
    (DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
)


def _key_of(context: Context) -> bytes:
    """Return the key that a caller presents, as over HTTP; empty where there is none."""
    given = dict(context.invocation_metadata() or ())
    key = given.get("x-api-key")
    return bearer(given.get("authorization", "").encode()) if key is None else key.encode()
