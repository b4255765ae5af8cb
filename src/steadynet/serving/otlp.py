"""Spans by OpenTelemetry, sent as OTLP over HTTP by a thread of its own. The extra `otel`.

OpenTelemetry's own environment variables (`OTEL_BSP_*`, `OTEL_EXPORTER_OTLP_HEADERS`,
`OTEL_RESOURCE_ATTRIBUTES` ...) hold.
"""

from __future__ import annotations

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from steadynet import __version__
from steadynet.serving.tracing import STATUS, Trace


class OtlpSink:
    """Meets `serving.tracing.SpanSink`."""

    def __init__(self, endpoint: str, worker: str) -> None:
        resource = Resource.create(
            {
                "service.name": "steadynet",
                "service.version": __version__,
                "service.instance.id": worker,
            }
        )
        # Which requests are traced is decided before anything comes here.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource)
        exporter = OTLPSpanExporter(endpoint=endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("steadynet", __version__)

    def finish(self, trace: Trace, name: str, end: float, to_epoch_s: float) -> bytes:
        """Make and queue the spans; return the `traceparent` of the server's own span."""

        def nanoseconds(moment: float) -> int:
            return int((moment + to_epoch_s) * 1e9)

        server = self._tracer.start_span(
            name,
            context=_parent(trace),
            kind=SpanKind.SERVER,
            start_time=nanoseconds(trace.began),
            attributes=trace.attributes,
        )
        inside = otel.set_span_in_context(server, Context())
        for part, start, stop in trace.parts:
            child = self._tracer.start_span(part, context=inside, start_time=nanoseconds(start))
            child.end(end_time=nanoseconds(stop))
        status = trace.attributes.get(STATUS)
        if isinstance(status, int) and status >= 500:
            server.set_status(StatusCode.ERROR)
        server.end(end_time=nanoseconds(end))
        own = server.get_span_context()
        return b"00-%032x-%016x-01" % (own.trace_id, own.span_id)

    def close(self) -> None:
        """Send what is queued, and end."""
        self._provider.shutdown()


def _parent(trace: Trace) -> Context:
    """Return the context of the caller's span, or of none."""
    if trace.parent is None:
        return Context()
    remote = SpanContext(
        trace.parent.trace_id,
        trace.parent.span_id,
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return otel.set_span_in_context(NonRecordingSpan(remote), Context())
