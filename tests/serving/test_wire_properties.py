"""Whatever bytes come, over HTTP or gRPC: an answer or a client's error, never a server's."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from steadynet.rollout.route import Route
from steadynet.serving.auth import Gate
from steadynet.serving.dataplane import DataPlane
from steadynet.serving.grpc_messages import ModelInferRequest, ModelInferResponse
from steadynet.serving.grpc_service import InferenceService
from steadynet.serving.versions import LoadedVersion

PATH = "/v2/models/payments/infer"
COLUMNS = {
    "amount": ("FP32", struct.pack("<f", 12.5)),
    "label": ("FP64", struct.pack("<d", 0.5)),
    "country": ("BYTES", struct.pack("<I", 2) + b"DE"),
    "new_card": ("BOOL", b"\x01"),
    "paid_at": ("INT64", struct.pack("<q", 1767261600)),
}
DATATYPES = ("BOOL", "UINT8", "INT16", "INT64", "FP16", "FP32", "FP64", "BYTES", "FP8")
CLIENT_ERRORS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
}

Damage = tuple[int, int, bytes]
"""Where bytes are replaced, how many, and by which."""
damages = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 9), st.binary(max_size=9)), max_size=3
)
shapes = st.lists(st.integers(-2, 2**40), max_size=3)


class Context:
    """A caller of the gRPC service without a connection."""

    def __init__(self) -> None:
        self.code = grpc.StatusCode.OK

    def invocation_metadata(self) -> None:
        """Present nothing."""

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """Keep the status."""
        self.code = code
        raise Aborted(details)


class Aborted(Exception):
    """How gRPC ends a handler."""


class Edge:
    """Both protocols over one data plane, in a loop that goes on from example to example."""

    def __init__(self, runner: asyncio.Runner, plane: DataPlane, client: httpx.AsyncClient) -> None:
        self._runner = runner
        self._client = client
        service = InferenceService(
            {plane.model: plane}, Gate(None, per_model=0.0), sticky_parameter="sticky_key"
        )
        details = _Details("/inference.GRPCInferenceService/ModelInfer")
        self._rpc = service.handlers().service(details)

    def post(self, body: bytes, json_length: int | str) -> int:
        """Return the status of a request with binary data."""
        headers = {"inference-header-content-length": str(json_length)}
        answer = self._runner.run(self._client.post(PATH, content=body, headers=headers))
        if answer.status_code >= 400:
            assert answer.json()["error"]
        return answer.status_code

    def call(self, request: bytes) -> grpc.StatusCode:
        """Return the status of a gRPC request's bytes."""
        context = Context()

        async def answer() -> None:
            try:
                response = await self._rpc.unary_unary(request, context)
                ModelInferResponse.FromString(self._rpc.response_serializer(response))
            except Aborted:
                return

        self._runner.run(answer())
        return context.code


class _Details:
    """Names an RPC as gRPC does."""

    def __init__(self, method: str) -> None:
        self.method = method


@pytest.fixture
def edge(
    load: Callable[..., LoadedVersion],
    make_route: Callable[..., Route],
    open_plane: Callable[..., AbstractAsyncContextManager[DataPlane]],
    open_client: Callable[..., httpx.AsyncClient],
) -> Any:
    """Both protocols over a plane with a small model."""
    with asyncio.Runner() as runner:
        opened = open_plane(log_share=0.0)

        def run(work: Coroutine[Any, Any, Any]) -> Any:
            return runner.run(work)

        plane = run(opened.__aenter__())
        champion = load()

        async def deploy() -> None:
            plane.deploy(make_route(champion), champion, None)

        run(deploy())
        client = open_client(plane)
        yield Edge(runner, plane, client)
        run(client.aclose())
        run(opened.__aexit__(None, None, None))


def request_parts() -> tuple[bytes, bytes]:
    """Return a valid request's JSON part and the binary data behind it."""
    inputs = [
        {
            "name": name,
            "datatype": datatype,
            "shape": [1],
            "parameters": {"binary_data_size": len(raw)},
        }
        for name, (datatype, raw) in COLUMNS.items()
    ]
    return json.dumps({"inputs": inputs}).encode(), b"".join(raw for _, raw in COLUMNS.values())


def damaged(body: bytes, damage: list[Damage]) -> bytes:
    """Return a body with some bytes replaced."""
    for at, count, by in damage:
        body = body[:at] + by + body[at + count :]
    return body


bounded = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@bounded
@given(
    damage=damages, length=st.none() | st.integers(0, 2**70) | st.text("0123456789-x", max_size=5)
)
@example(damage=[], length=None)
def test_damaged_binary_requests_over_http(
    edge: Edge, damage: list[Damage], length: int | str | None
) -> None:
    head, tail = request_parts()
    status = edge.post(damaged(head + tail, damage), len(head) if length is None else length)
    assert status in (200, 400, 404)
    if not damage and length is None:
        assert status == 200


@bounded
@given(
    column=st.sampled_from(list(COLUMNS)),
    datatype=st.sampled_from(DATATYPES),
    shape=shapes,
    raw=st.binary(max_size=24),
    drop=st.booleans(),
)
def test_raw_contents_that_lie_over_grpc(
    edge: Edge, column: str, datatype: str, shape: list[int], raw: bytes, drop: bool
) -> None:
    request = ModelInferRequest(model_name="payments")
    for name, (own, content) in COLUMNS.items():
        lies = name == column
        request.inputs.add(
            name=name, datatype=datatype if lies else own, shape=shape if lies else [1]
        )
        if not (lies and drop):
            request.raw_input_contents.append(raw if lies else content)
    assert edge.call(request.SerializeToString()) in {grpc.StatusCode.OK, *CLIENT_ERRORS}


@bounded
@given(damage=damages)
def test_damaged_messages_over_grpc(edge: Edge, damage: list[Damage]) -> None:
    request = ModelInferRequest(model_name="payments")
    for name, (datatype, content) in COLUMNS.items():
        request.inputs.add(name=name, datatype=datatype, shape=[1])
        request.raw_input_contents.append(content)
    broken = damaged(request.SerializeToString(), damage)
    assert edge.call(broken) in {grpc.StatusCode.OK, *CLIENT_ERRORS}
