"""The checks over gRPC: every RPC of the standard, typed and raw contents, refusals.

Source: https://github.com/kserve/open-inference-protocol (open_inference_grpc.proto).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from operator import attrgetter
from typing import Any

import grpc

from steadynet.conformance.answers import flat
from steadynet.conformance.checks import Check, Failed, Skipped, require
from steadynet.conformance.extension_checks import pack
from steadynet.conformance.http_checks import ABSENT
from steadynet.conformance.target import DATATYPES, TIMEOUT_S, Json, count_of, example_of
from steadynet.serving.grpc_messages import METHODS, SERVICE, Message

FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The typed contents of each datatype; FP16 has none."""


class GrpcTarget:
    """A server and a model of it over one connection."""

    def __init__(
        self,
        channel: grpc.Channel,
        model: str,
        request: Json | None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._channel = channel
        self._metadata = tuple(metadata)
        self._request = request
        self.model = model

    def call(self, method: str, **fields: object) -> Message:
        """Return an RPC's response. Raises `Failed` where it ends with an error."""
        return self.send(method, METHODS[method][0](**fields))

    def send(self, method: str, request: Message) -> Message:
        """Return the response to a request. Raises `Failed` where it ends with an error."""
        try:
            return self._start(method, request)
        except grpc.RpcError as error:
            raise Failed("the status OK", f"{error.code().name}: {error.details()}") from error

    def require_refusal(self, method: str, request: Message) -> None:
        """Raise `Failed` where a request is answered, or the server breaks down on it."""
        try:
            answer = self._start(method, request)
        except grpc.RpcError as error:
            broken = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            lives = error.code() not in broken
            require(lives, "an error's status", f"{error.code().name}: {error.details()}")
            return
        raise Failed("an error's status", f"OK: {str(answer)[:150]}")

    def _start(self, method: str, request: Message) -> Message:
        of_request, of_response = METHODS[method]
        callable_ = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=of_request.SerializeToString,
            response_deserializer=of_response.FromString,
        )
        return callable_(request, timeout=TIMEOUT_S, metadata=self._metadata)

    @cached_property
    def metadata(self) -> Message:
        """The model's metadata."""
        return self.call("ModelMetadata", name=self.model)

    @cached_property
    def inputs(self) -> list[dict[str, Any]]:
        """Inputs that the model takes: name, datatype, shape, flat data."""
        if self._request is not None:
            return [{**item, "data": flat(item["data"])} for item in self._request["inputs"]]
        return [
            example_of({"name": item.name, "datatype": item.datatype, "shape": list(item.shape)})
            for item in self.metadata.inputs
        ]

    def typed(self) -> Message:
        """Return a valid request with typed contents."""
        request = METHODS["ModelInfer"][0](model_name=self.model)
        for item in self.inputs:
            if item["datatype"] == "FP16":
                raise Skipped("FP16 has no typed contents")
            tensor = request.inputs.add(
                name=item["name"], datatype=item["datatype"], shape=item["shape"]
            )
            values = item["data"]
            if None in values:
                raise Skipped("the request has missing values")
            if item["datatype"] == "BYTES":
                values = [str(value).encode() for value in values]
            attrgetter(FIELDS[item["datatype"]])(tensor.contents).extend(values)
        return request

    def raw(self) -> Message:
        """Return a valid request with raw contents."""
        request = METHODS["ModelInfer"][0](model_name=self.model)
        for item in self.inputs:
            if None in item["data"]:
                raise Skipped("the request has missing values")
            request.inputs.add(name=item["name"], datatype=item["datatype"], shape=item["shape"])
            request.raw_input_contents.append(pack(item["datatype"], item["data"]))
        return request


@contextmanager
def open_target(
    address: str, model: str, request: Json | None, metadata: Sequence[tuple[str, str]]
) -> Iterator[GrpcTarget]:
    """Yield a target over a connection without TLS."""
    with grpc.insecure_channel(address) as channel:
        yield GrpcTarget(channel, model, request, metadata)


def _check_live(target: GrpcTarget) -> None:
    require(target.call("ServerLive").live, "live: true", False)


def _check_ready(target: GrpcTarget) -> None:
    require(target.call("ServerReady").ready, "ready: true", False)


def _check_model_ready(target: GrpcTarget) -> None:
    require(target.call("ModelReady", name=target.model).ready, "ready: true", False)


def _check_server_metadata(target: GrpcTarget) -> None:
    found = target.call("ServerMetadata")
    require(bool(found.name), "a name", found)


def _check_model_metadata(target: GrpcTarget) -> None:
    found = target.call("ModelMetadata", name=target.model)
    require(found.name == target.model, f"name: {target.model!r}", found.name)
    require(bool(found.inputs) and bool(found.outputs), "inputs and outputs", found)
    for tensor in (*found.inputs, *found.outputs):
        require(tensor.datatype in DATATYPES, "a datatype of the standard", tensor)
        require(all(size >= -1 for size in tensor.shape), "sizes of at least -1", tensor)


def _check_typed(target: GrpcTarget) -> None:
    _check_answer(target, target.send("ModelInfer", target.typed()))


def _check_raw(target: GrpcTarget) -> None:
    _check_answer(target, target.send("ModelInfer", target.raw()))


def _check_answer(target: GrpcTarget, answer: Message) -> None:
    require(answer.model_name == target.model, f"model_name: {target.model!r}", answer.model_name)
    require(bool(answer.outputs), "outputs", answer)
    raw = list(answer.raw_output_contents)
    require(not raw or len(raw) == len(answer.outputs), "raw contents for each output", len(raw))
    for position, tensor in enumerate(answer.outputs):
        count = count_of(list(tensor.shape))
        if raw:
            if tensor.datatype != "BYTES":
                wanted = count * len(pack(tensor.datatype, [0]))
                require(len(raw[position]) == wanted, f"{wanted} bytes", len(raw[position]))
            continue
        values = attrgetter(FIELDS[tensor.datatype])(tensor.contents)
        require(len(values) == count, f"{count} elements of {tensor.name}", len(values))


def _check_id(target: GrpcTarget) -> None:
    request = target.typed()
    request.id = "conformance-42"
    found = target.send("ModelInfer", request).id
    require(found == "conformance-42", "id: 'conformance-42'", found)


def _check_requested_output(target: GrpcTarget) -> None:
    name = target.metadata.outputs[-1].name
    request = target.typed()
    request.outputs.add(name=name)
    found = [tensor.name for tensor in target.send("ModelInfer", request).outputs]
    require(found == [name], f"one output, {name!r}", found)


def _check_unknown_model(target: GrpcTarget) -> None:
    request = target.typed()
    request.model_name = ABSENT
    target.require_refusal("ModelInfer", request)
    target.require_refusal("ModelMetadata", METHODS["ModelMetadata"][0](name=ABSENT))


def _check_unknown_output(target: GrpcTarget) -> None:
    request = target.typed()
    request.outputs.add(name=ABSENT)
    target.require_refusal("ModelInfer", request)


def _check_missing_input(target: GrpcTarget) -> None:
    request = target.typed()
    del request.inputs[0]
    target.require_refusal("ModelInfer", request)


def _check_too_few_elements(target: GrpcTarget) -> None:
    request = target.typed()
    request.inputs[0].shape[0] += 7
    target.require_refusal("ModelInfer", request)


def _check_raw_cut_off(target: GrpcTarget) -> None:
    request = target.raw()
    request.raw_input_contents[0] = request.raw_input_contents[0][:-1]
    target.require_refusal("ModelInfer", request)
    request = target.raw()
    request.raw_input_contents.append(b"\0")
    target.require_refusal("ModelInfer", request)


def _check_alive_after_errors(target: GrpcTarget) -> None:
    _check_answer(target, target.send("ModelInfer", target.typed()))


GRPC_CHECKS: tuple[Check[GrpcTarget], ...] = (
    Check("grpc.server-live", "ServerLive says that the server lives", _check_live),
    Check("grpc.server-ready", "ServerReady says that it is ready", _check_ready),
    Check("grpc.model-ready", "ModelReady says that the model is", _check_model_ready),
    Check("grpc.server-metadata", "ServerMetadata names the server", _check_server_metadata),
    Check("grpc.model-metadata", "ModelMetadata describes the tensors", _check_model_metadata),
    Check("grpc.infer-typed", "typed contents are answered", _check_typed),
    Check("grpc.infer-raw", "raw contents are answered", _check_raw),
    Check("grpc.infer-id", "the request's id comes back", _check_id),
    Check("grpc.infer-output", "an output that is asked for comes alone", _check_requested_output),
    Check("grpc.unknown-model", "an unknown model is an error", _check_unknown_model),
    Check("grpc.unknown-output", "an unknown output is an error", _check_unknown_output),
    Check("grpc.missing-input", "a missing input is an error", _check_missing_input),
    Check("grpc.too-few-elements", "too few elements are an error", _check_too_few_elements),
    Check("grpc.raw-cut-off", "raw contents of a wrong size are an error", _check_raw_cut_off),
    Check("grpc.alive-after-errors", "after all errors it answers", _check_alive_after_errors),
)
"""All checks over gRPC, in the order in which they run."""
