"""Traces: who is traced, and what a real receiver of OTLP gets of a real server."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.grpc import service_pb2_grpc

from steadynet.rollout.route import Endpoint
from steadynet.serving.settings import ServerInfo
from steadynet.serving.tracing import Parent, Trace, Tracer

ServeProcess = Callable[..., AbstractContextManager[tuple[ServerInfo, "subprocess.Popen[bytes]"]]]
WaitUntil = Callable[[Callable[[], bool]], None]

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ROW: dict[str, Any] = {
    "amount": 987654.25,
    "label": 0.5,
    "country": "ATLANTIS",
    "new_card": True,
    "paid_at": "2026-01-01T10:00:00",
}


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.finished: list[tuple[Trace, str]] = []

    def finish(self, trace: Trace, name: str, end: float, to_epoch_s: float) -> bytes:
        """Keep a trace."""
        assert end >= trace.began
        self.finished.append((trace, name))
        return b"own"

    def close(self) -> None:
        """Nothing to end."""


def test_the_caller_s_decision_holds_else_the_share() -> None:
    never, always = Tracer(Kept(), 0.0), Tracer(Kept(), 1.0)
    wanted = f"00-{TRACE}-{SPAN}-01".encode()
    for tracer in (never, always):
        trace = tracer.begin(wanted, 5.0)
        assert trace is not None
        assert trace.parent == Parent(int(TRACE, 16), int(SPAN, 16))
        assert trace.began == 5.0
        assert tracer.begin(f"00-{TRACE}-{SPAN}-00".encode(), 5.0) is None
        later = tracer.begin(f"01-{TRACE}-{SPAN}-01-of-another-version".encode(), 5.0)
        assert later is not None
        assert later.parent is not None
    broken = [
        b"",
        b"nonsense",
        wanted.upper(),
        wanted[:-1],
        wanted + b"0",
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        b"\xff" * 55,
    ]
    for text in broken:
        assert never.begin(text, 5.0) is None
        begun = always.begin(text, 5.0)
        assert begun is not None
        assert begun.parent is None, "what cannot be read is left out, as the standard says"


def test_the_share_is_met() -> None:
    tracer = Tracer(Kept(), 0.1)
    traced = sum(tracer.begin(b"", 0.0) is not None for _ in range(10_000))
    assert 800 < traced < 1200


def test_what_stands_around_the_noted_parts_is_decoding_and_encoding() -> None:
    trace = Trace(None, 1.0, received=2.0)
    trace.note("queue", 3.0, 4.0)
    trace.note("session", 4.0, 6.0)
    trace.close(7.0)
    assert [part[0] for part in trace.parts] == ["decode", "queue", "session", "encode"]
    assert (trace.parts[0][1:], trace.parts[-1][1:]) == ((2.0, 3.0), (6.0, 7.0))
    refused = Trace(None, 1.0, received=2.0)
    refused.close(3.0)
    assert refused.parts == [("decode", 2.0, 3.0)]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[Any]]]:
    """A receiver of OTLP over HTTP: its URL, and the spans that it has got."""
    spans: list[Any] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
        server.shutdown()
        thread.join()


def attributes(span: Any) -> dict[str, str]:
    """Return a span's attributes as texts."""
    return {item.key: str(item.value).strip() for item in span.attributes}


def test_a_receiver_gets_the_parts_of_a_request_and_nothing_of_its_rows(
    serve_process: ServeProcess,
    make_endpoint: Callable[..., Endpoint],
    receiver: tuple[str, list[Any]],
    wait_until: WaitUntil,
) -> None:
    url, spans = receiver
    sent = {"traceparent": f"00-{TRACE}-{SPAN}-01", "x-request-id": "payment-1"}
    options = {"trace_endpoint": url, "trace_share": 0.0}
    with serve_process(make_endpoint("1").bundle, **options) as (info, _):
        predict = f"{info.url}/invocations"
        answer = httpx.post(predict, json={"instances": [ROW]}, headers=sent, timeout=60)
        assert answer.status_code == 200
        _, trace_id, own, flags = answer.headers["traceparent"].split("-")
        assert (trace_id, flags) == (TRACE, "01")
        plain = httpx.post(predict, json={"instances": [ROW]}, timeout=60)
        assert "traceparent" not in plain.headers
        wrong = {**ROW, "amount": "a secret"}
        bad = httpx.post(predict, json={"instances": [wrong]}, headers=sent, timeout=60)
        assert bad.status_code == 400
        httpx.get(f"{info.url}/ping", headers=sent, timeout=60)
        wait_until(lambda: len(spans) >= 7)
    by_name = {span.name: span for span in spans if span.parent_span_id.hex() == own}
    assert list(by_name) == ["decode", "queue", "session", "encode"]
    servers = [span for span in spans if span.name == "POST /invocations"]
    assert len(servers) == 2
    good = next(span for span in servers if span.span_id.hex() == own)
    assert good.trace_id.hex() == TRACE
    assert good.parent_span_id.hex() == SPAN
    assert good.kind == good.SPAN_KIND_SERVER
    said = attributes(good)
    assert "200" in said["http.response.status_code"]
    assert "payment-1" in said["steadynet.request_id"]
    assert "champion" in said["steadynet.role"]
    order = [by_name[name] for name in ("decode", "queue", "session", "encode")]
    assert good.start_time_unix_nano <= order[0].start_time_unix_nano
    for before, after in pairwise(order):
        assert before.end_time_unix_nano <= after.start_time_unix_nano
        assert before.start_time_unix_nano <= before.end_time_unix_nano
    assert order[-1].end_time_unix_nano <= good.end_time_unix_nano
    everything = " ".join(str(span) for span in spans)
    for value in ("987654", "ATLANTIS", "a secret"):
        assert value not in everything


def test_a_request_over_grpc_is_traced_as_well(
    serve_process: ServeProcess,
    make_endpoint: Callable[..., Endpoint],
    receiver: tuple[str, list[Any]],
    wait_until: WaitUntil,
) -> None:
    url, spans = receiver
    options = {"trace_endpoint": url, "trace_share": 0.0, "grpc_port": 0}
    columns = {"amount": "FP64", "label": "FP64", "country": "BYTES", "new_card": "BYTES"}
    request = kserve.ModelInferRequest(model_name="payments", id="payment-2")
    for name, datatype in {**columns, "paid_at": "BYTES"}.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[1])
        if datatype == "FP64":
            tensor.contents.fp64_contents.append(1.5)
        else:
            tensor.contents.bytes_contents.append(b"")
    with serve_process(make_endpoint("1").bundle, **options) as (info, _):
        with grpc.insecure_channel(f"127.0.0.1:{info.grpc_port}") as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            metadata = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)
            _, call = stub.ModelInfer.with_call(request, metadata=metadata, timeout=60)
            own = dict(call.trailing_metadata())["traceparent"].split("-")[2]
        wait_until(lambda: len(spans) >= 5)
    (server,) = [span for span in spans if span.span_id.hex() == own]
    assert server.parent_span_id.hex() == SPAN
    parts = [span.name for span in spans if span.parent_span_id.hex() == own]
    assert parts == ["decode", "queue", "session", "encode"]
