"""gRPC by hand: typed and raw contents, health, reflection; with other programs' messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.grpc import service_pb2_grpc

MODEL = "payments"
SERVICE = "inference.GRPCInferenceService"
FIELDS: dict[str, tuple[str, str, list[Any]]] = {
    "amount": ("FP64", "fp64_contents", [12.5]),
    "label": ("FP32", "fp32_contents", [0.5]),
    "country": ("BYTES", "bytes_contents", [b"DE"]),
    "new_card": ("BOOL", "bool_contents", [True]),
    "paid_at": ("INT64", "int64_contents", [1767261600]),
}


@pytest.fixture(scope="module")
def channel(served: dict[str, Any]) -> Iterator[grpc.Channel]:
    """A connection to the server."""
    with grpc.insecure_channel(f"127.0.0.1:{served['grpc_port']}") as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    """The service as the protocol's own code sees it."""
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(**changes: tuple[str, str, list[Any]]) -> Any:
    """Return a request with typed contents."""
    made = kserve.ModelInferRequest(model_name=MODEL)
    for name, (datatype, field, values) in {**FIELDS, **changes}.items():
        tensor = made.inputs.add(name=name, datatype=datatype, shape=[len(values)])
        getattr(tensor.contents, field).extend(values)
    return made


def probability(answer: Any) -> float:
    """Return the positive class's probability of a typed answer."""
    (output,) = [item for item in answer.outputs if item.name == "probabilities"]
    found: float = output.contents.fp32_contents[1]
    return found


def test_typed_contents_are_answered_typed(stub: Any, served: dict[str, Any]) -> None:
    answer = stub.ModelInfer(request())
    assert (answer.model_name, answer.model_version) == (MODEL, served["version"])
    assert answer.id
    assert not answer.raw_output_contents
    label, probabilities = answer.outputs
    assert (label.name, label.datatype, list(label.shape)) == ("label", "BYTES", [1])
    assert label.contents.bytes_contents[0] in (b"legit", b"fraud")
    assert list(probabilities.shape) == [1, 2]
    assert sum(probabilities.contents.fp32_contents) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("datatype", "field"),
    [
        ("UINT8", "uint_contents"),
        ("UINT32", "uint_contents"),
        ("UINT64", "uint64_contents"),
        ("INT8", "int_contents"),
        ("INT32", "int_contents"),
        ("INT64", "int64_contents"),
        ("FP32", "fp32_contents"),
    ],
)
def test_the_contents_of_each_datatype(stub: Any, datatype: str, field: str) -> None:
    expected = probability(stub.ModelInfer(request(amount=("FP64", "fp64_contents", [12.0]))))
    answer = stub.ModelInfer(request(amount=(datatype, field, [12])))
    assert probability(answer) == expected


def broken() -> Iterator[tuple[str, Any]]:
    """Yield what is wrong with a request, and the request."""
    yield "INT8", request(amount=("INT8", "int_contents", [300]))
    yield "another number of values", request(amount=("FP32", "int64_contents", [5]))
    yield "raw_input_contents", request(amount=("FP16", "fp32_contents", [5.0]))
    yield "datatype", request(amount=("FP8", "fp32_contents", [5.0]))
    yield "UTF-8", request(country=("BYTES", "bytes_contents", [b"\xff"]))
    both = request()
    both.raw_input_contents.extend([b"\0" * 8] * len(both.inputs))
    yield "twice", both
    few = request()
    few.raw_input_contents.append(b"\0" * 8)
    yield "one for each", few
    negative = request()
    negative.inputs[0].shape[:] = [-1]
    yield "wrong shape", negative
    empty = kserve.ModelInferRequest(model_name=MODEL)
    yield "no inputs", empty


@pytest.mark.parametrize(("words", "made"), list(broken()))
def test_wrong_messages(stub: Any, words: str, made: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(made)
    if words != "INT8":
        assert words in caught.value.details()
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_ready_and_not_found(stub: Any) -> None:
    assert stub.ModelReady(kserve.ModelReadyRequest(name=MODEL)).ready
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelReady(kserve.ModelReadyRequest(name="nope"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_what_the_protocol_does_not_have_is_unimplemented(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelConfig(kserve.ModelConfigRequest(name=MODEL))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_health(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", SERVICE, MODEL):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nope"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_describes_every_service(channel: grpc.Channel) -> None:
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    listed, described = reflection.ServerReflectionInfo(iter(asked))
    names = {item.name for item in listed.list_services_response.service}
    assert names == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    (raw,) = described.file_descriptor_response.file_descriptor_proto
    (service,) = FileDescriptorProto.FromString(raw).service
    assert "ModelInfer" in {method.name for method in service.method}
