"""The gRPC edge in process: statuses, deadlines, keys, surprises, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving_scene import infer_request, offer_of, rpc

from steadynet import errors
from steadynet.clock import SystemClock
from steadynet.home import Home
from steadynet.monitoring.windows import Role, Window
from steadynet.rollout.route import Route
from steadynet.serving.auth import Gate, make_gate
from steadynet.serving.dataplane import DataPlane
from steadynet.serving.grpc_messages import METHODS
from steadynet.serving.grpc_server import GrpcServer
from steadynet.serving.grpc_service import code_of
from steadynet.serving.keys import changing_keys, make_key
from steadynet.serving.models import Offer
from steadynet.serving.tensors import DTYPES
from steadynet.serving.versions import LoadedVersion
from steadynet.spec.model import ServeSpec

T = TypeVar("T")
Load = Callable[..., LoadedVersion]
MakeRoute = Callable[..., Route]
OpenPlane = Callable[..., AbstractAsyncContextManager[DataPlane]]
ReadWindows = Callable[[], dict[tuple[str, Role], Window]]


class Caller:
    """Calls the service over a connection of its own."""

    def __init__(
        self, channel: grpc.aio.Channel, server: GrpcServer, plane: DataPlane, offer: Offer
    ) -> None:
        self.channel = channel
        self.server = server
        self.plane = plane
        self.offer = offer

    def call(self, method: str, request: Any = None, **options: Any) -> Any:
        """Start a call of an RPC."""
        asked = METHODS[method][0]() if request is None else request
        return rpc(self.channel, method)(asked, **options)

    async def code(self, method: str, request: Any = None, **options: Any) -> grpc.StatusCode:
        """Return the status that a call ends with."""
        call = self.call(method, request, **options)
        code: grpc.StatusCode = await call.code()
        return code


@pytest.fixture
def with_caller(load: Load, make_route: MakeRoute, open_plane: OpenPlane) -> Callable[..., Any]:
    """Runs a coroutine function with a caller of a server in this process."""

    @asynccontextmanager
    async def opened(
        variant: str, gate: Gate | None, options: dict[str, Any]
    ) -> AsyncIterator[Caller]:
        async with open_plane(**options) as plane:
            champion = load(variant=variant)
            plane.deploy(make_route(champion), champion, None)
            offer = offer_of([plane])
            server = GrpcServer(offer, gate or Gate(None, per_model=0.0), ServeSpec(drain_s=30.0))
            port = await server.start("127.0.0.1", 0)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Caller(channel, server, plane, offer)
            await server.drain()

    def run(
        work: Callable[[Caller], Awaitable[T]],
        variant: str = "good",
        gate: Gate | None = None,
        **options: Any,
    ) -> T:
        async def main() -> T:
            async with opened(variant, gate, options) as caller:
                return await work(caller)

        return asyncio.run(main())

    return run


def test_every_error_has_a_code() -> None:
    codes = grpc.StatusCode
    expected = {
        "InputError": codes.INVALID_ARGUMENT,
        "TooManyRows": codes.INVALID_ARGUMENT,
        "OutOfDistribution": codes.INVALID_ARGUMENT,
        "Unauthenticated": codes.UNAUTHENTICATED,
        "Forbidden": codes.PERMISSION_DENIED,
        "UnknownModel": codes.NOT_FOUND,
        "CannotLoad": codes.FAILED_PRECONDITION,
        "Overloaded": codes.RESOURCE_EXHAUSTED,
        "RateLimited": codes.RESOURCE_EXHAUSTED,
        "NotReady": codes.UNAVAILABLE,
        "CallerTimeout": codes.DEADLINE_EXCEEDED,
        "DeadlineExceeded": codes.DEADLINE_EXCEEDED,
    }
    waiting: list[type[errors.SteadynetError]] = [errors.SteadynetError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        assert code_of(kind.__new__(kind)) == expected.get(kind.__name__, codes.INTERNAL), kind


def test_a_callers_deadline_is_no_fault_of_the_model(
    with_caller: Callable[..., Any], read_windows: ReadWindows
) -> None:
    async def work(caller: Caller) -> None:
        code = await caller.code("ModelInfer", infer_request(), timeout=0.001)
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        # What still ran for the caller who has gone must end before the next one is answered.
        assert (await caller.call("ModelInfer", infer_request(), timeout=60)).model_version == "1"

    with_caller(work, variant="slow")
    window = read_windows()["1", "champion"]
    assert (window.requests, window.failed, window.errors) == (1, 0, {})


def test_the_servers_own_deadline(with_caller: Callable[..., Any]) -> None:
    async def work(caller: Caller) -> None:
        code = await caller.code("ModelInfer", infer_request(), timeout=60)
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED

    with_caller(work, variant="slow", deadline_ms=1.0)


def test_a_model_that_fails_is_internal_for_that_caller_alone(
    with_caller: Callable[..., Any],
) -> None:
    async def work(caller: Caller) -> None:
        good = caller.call("ModelInfer", infer_request())
        bad = caller.call("ModelInfer", infer_request(country=b"XX"))
        assert await bad.code() == grpc.StatusCode.INTERNAL
        assert "XX" not in await bad.details()
        assert (await good).model_version == "1"

    with_caller(work, variant="raises")


def test_a_surprise_is_answered_and_its_text_kept_back(
    with_caller: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    message = "secret of a row"

    async def work(caller: Caller) -> None:
        async def broken(_: object) -> None:
            raise RuntimeError(message)

        caller.plane.infer = broken  # type: ignore[method-assign, assignment]
        call = caller.call("ModelInfer", infer_request())
        assert await call.code() == grpc.StatusCode.INTERNAL
        assert "secret" not in await call.details()

    with_caller(work)
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_keys_admit_as_they_do_over_http(with_caller: Callable[..., Any], home: Home) -> None:
    viewer, kept_viewer = make_key("dashboard", "viewer", now=0.0)
    caller_key, kept_caller = make_key("shop", "caller", now=0.0, models=["payments"])
    other, kept_other = make_key("bank", "caller", now=0.0, models=["loans"])
    with changing_keys(home) as keys:
        keys += [kept_viewer, kept_caller, kept_other]
    gate = make_gate(home.caller_keys, ServeSpec(auth="keys"), SystemClock())
    ok, denied = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
    unknown = grpc.StatusCode.UNAUTHENTICATED
    named = METHODS["ModelMetadata"][0](name="payments")
    # Without a key, a viewer's, a caller's, one of another model.
    expected = [
        ("ServerLive", None, (ok, ok, ok, ok)),
        ("ServerReady", None, (ok, ok, ok, ok)),
        ("ServerMetadata", None, (unknown, ok, ok, ok)),
        ("RepositoryIndex", None, (unknown, ok, ok, ok)),
        ("ModelMetadata", named, (unknown, ok, ok, denied)),
        ("ModelReady", METHODS["ModelReady"][0](name="payments"), (unknown, ok, ok, denied)),
        ("ModelInfer", infer_request(), (unknown, denied, ok, denied)),
    ]

    async def work(caller: Caller) -> None:
        health = health_pb2_grpc.HealthStub(caller.channel)
        await health.Check(health_pb2.HealthCheckRequest())
        for method, request, codes in expected:
            for key, code in zip(("", viewer, caller_key, other), codes, strict=True):
                bearer = (("authorization", f"Bearer {key}"),) if key else ()
                assert await caller.code(method, request, metadata=bearer) == code, (method, code)
        by_header = (("x-api-key", caller_key),)
        assert await caller.code("ModelInfer", infer_request(), metadata=by_header) == ok

    with_caller(work, gate=gate)


def test_health_follows_the_models_that_come_and_go(with_caller: Callable[..., Any]) -> None:
    async def work(caller: Caller) -> None:
        health = health_pb2_grpc.HealthStub(caller.channel)

        async def state(service: str) -> str:
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            except grpc.aio.AioRpcError as error:
                code: str = error.code().name
                return code
            return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

        assert await state("payments") == await state("") == "SERVING"
        caller.plane.undeploy()
        await caller.server.tell_health()
        assert await state("payments") == await state("") == "NOT_SERVING"
        caller.offer.planes.clear()
        await caller.server.tell_health()
        assert await state("payments") in ("SERVICE_UNKNOWN", "NOT_FOUND")

    with_caller(work)


def test_an_id_and_a_sticky_key_may_come_as_metadata(with_caller: Callable[..., Any]) -> None:
    async def work(caller: Caller) -> None:
        given = (("x-request-id", "order-17"), ("x-sticky-key", "caller-7"))
        answer = await caller.call("ModelInfer", infer_request(), metadata=given)
        assert answer.id == "order-17"
        wrong = (("x-request-id", "with blank"),)
        code = await caller.code("ModelInfer", infer_request(), metadata=wrong)
        assert code == grpc.StatusCode.INVALID_ARGUMENT

    with_caller(work)


def assignment(answer: Any) -> tuple[str, str]:
    """Return in which role a version answered, and why."""
    given = answer.parameters
    return given["model_role"].string_param, given["routed_by"].string_param


def test_a_sticky_key_stays_on_one_version_which_the_answer_names(
    with_caller: Callable[..., Any], load: Load, make_route: MakeRoute
) -> None:
    async def work(caller: Caller) -> None:
        champion, challenger = load("1"), load("2")
        caller.plane.deploy(make_route(champion, challenger, share=0.5), champion, challenger)
        seen = set()
        for number in range(12):
            key = f"caller-{number}"
            by_metadata = await caller.call(
                "ModelInfer", infer_request(), metadata=(("x-sticky-key", key),)
            )
            request = infer_request()
            request.parameters["sticky_key"].string_param = key
            by_parameter = await caller.call("ModelInfer", request)
            assert by_metadata.model_version == by_parameter.model_version
            seen.add(by_metadata.model_version)
            role = {"1": "champion", "2": "challenger"}[by_metadata.model_version]
            assert assignment(by_metadata) == assignment(by_parameter) == (role, "sticky-key")
            request.model_version = "challenger"
            by_version = await caller.call("ModelInfer", request)
            assert by_version.model_version == "2"
            assert assignment(by_version) == ("challenger", "version")
        assert seen == {"1", "2"}

    with_caller(work)


def as_raw(request: Any) -> Any:
    """Return the same request with raw contents in place of typed ones."""
    raw = type(request)()
    raw.CopyFrom(request)
    for tensor in raw.inputs:
        ((_, values),) = tensor.contents.ListFields()
        if tensor.datatype == "BYTES":
            content = b"".join(len(text).to_bytes(4, "little") + text for text in values)
        else:
            content = np.array(values, DTYPES[tensor.datatype]).tobytes()
        raw.raw_input_contents.append(content)
        tensor.ClearField("contents")
    return raw


def probabilities(answer: Any) -> np.ndarray:
    """Return the probabilities of one row, typed or raw."""
    at = [output.name for output in answer.outputs].index("probabilities")
    if answer.raw_output_contents:
        return np.frombuffer(answer.raw_output_contents[at], np.float32)
    return np.array(answer.outputs[at].contents.fp32_contents, np.float32)


def test_those_who_call_at_the_same_time_get_their_own_answers(
    with_caller: Callable[..., Any],
) -> None:
    requests = [infer_request(amount=2.0**number) for number in range(12)]
    for number, request in enumerate(requests):
        request.id = f"order-{number}"
    wrong = infer_request()
    wrong.inputs[0].datatype = "FP8"

    async def work(caller: Caller) -> None:
        alone = [await caller.call("ModelInfer", request) for request in requests]
        calls, failing = [], []
        for request in requests:
            calls.append(caller.call("ModelInfer", request))
            calls.append(caller.call("ModelInfer", as_raw(request)))
            failing.append(caller.call("ModelInfer", wrong))
        together = await asyncio.gather(*calls)
        for call in failing:
            assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert len({probabilities(answer).tobytes() for answer in alone}) == len(requests)
        for number, own in enumerate(alone):
            typed, raw = together[2 * number : 2 * number + 2]
            assert typed.id == raw.id == own.id == f"order-{number}"
            assert raw.raw_output_contents
            assert not typed.raw_output_contents
            np.testing.assert_allclose(probabilities(typed), probabilities(own), rtol=1e-5)
            np.testing.assert_allclose(probabilities(raw), probabilities(own), rtol=1e-5)

    with_caller(work)


def test_what_is_in_flight_at_the_drain_is_answered(with_caller: Callable[..., Any]) -> None:
    async def work(caller: Caller) -> None:
        running: asyncio.Event = asyncio.Event()
        infer = caller.plane.infer

        async def seen(ask: Any) -> Any:
            running.set()
            return await infer(ask)

        caller.plane.infer = seen  # type: ignore[method-assign]
        call = asyncio.ensure_future(caller.call("ModelInfer", infer_request()))
        await running.wait()
        await caller.server.drain()
        assert (await call).model_version == "1"
        assert await caller.code("ServerLive", timeout=0.5) != grpc.StatusCode.OK

    with_caller(work, variant="slow")
