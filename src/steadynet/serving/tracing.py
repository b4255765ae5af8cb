"""Traces of requests: a server's span with `decode`, `queue`, `session` and `encode` inside.

Off unless `[serve] trace_endpoint` is set, and then paid for by traced requests alone: whether one
is traced is decided from its `traceparent` (the caller's own decision holds) or, without one, by
`trace_share`; a traced request only notes times, and its spans are made from them at its end.
Nothing of OpenTelemetry is imported before it is asked for.

Source of `traceparent`: W3C Trace Context, https://www.w3.org/TR/trace-context/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import random
from time import monotonic, time
from typing import Protocol

from steadynet.errors import MissingDependency
from steadynet.spec.model import ServeSpec

Attribute = str | int | float | bool

_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(-.*)?"
)
_SAMPLED = 1

STATUS = "http.response.status_code"
"""OpenTelemetry's semantic conventions."""


@dataclass(frozen=True, slots=True)
class Parent:
    """The caller's span that a request belongs to."""

    trace_id: int
    span_id: int


@dataclass(slots=True)
class Trace:
    """What is noted of one traced request. Times are `time.monotonic()`, in seconds."""

    parent: Parent | None
    began: float
    received: float = 0.0
    """When the whole request was there; 0 where nothing waited for it."""
    parts: list[tuple[str, float, float]] = field(default_factory=list)
    """Name, start and end of each part."""
    attributes: dict[str, Attribute] = field(default_factory=dict)
    """What the server's span says of the request; never a value of a row."""

    def note(self, name: str, start: float, end: float) -> None:
        """Note a part of the request."""
        self.parts.append((name, start, end))

    def close(self, end: float) -> None:
        """Note what stands before and behind the noted parts: decoding and encoding."""
        if not self.received:
            return
        first = self.parts[0][1] if self.parts else end
        last = self.parts[-1][2] if self.parts else end
        self.parts.insert(0, ("decode", self.received, first))
        if last < end:
            self.note("encode", last, end)


class SpanSink(Protocol):
    """Where finished traces go."""

    def finish(self, trace: Trace, name: str, end: float, to_epoch_s: float) -> bytes:
        """Make and queue the spans; return the `traceparent` of the server's own span."""
        ...

    def close(self) -> None:
        """Send what is queued, and end."""
        ...


class Tracer:
    """Decides which requests are traced, and hands them on when they end."""

    def __init__(self, sink: SpanSink, share: float) -> None:
        self._sink = sink
        self._share = share

    def begin(self, traceparent: bytes, arrived: float) -> Trace | None:
        """Return the trace of a request that is to be traced; None for the others."""
        match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
        if match is None or not int(match["trace"], 16) or not int(match["span"], 16):
            return Trace(None, arrived) if random() < self._share else None  # noqa: S311
        if not int(match["flags"], 16) & _SAMPLED:
            return None
        return Trace(Parent(int(match["trace"], 16), int(match["span"], 16)), arrived)

    def end(self, trace: Trace, name: str) -> bytes:
        """Hand a finished trace on; return the `traceparent` to answer with."""
        now = monotonic()
        trace.close(now)
        return self._sink.finish(trace, name, now, time() - now)

    def close(self) -> None:
        """Send what is not sent yet."""
        self._sink.close()


def make_tracer(serve: ServeSpec, worker: str) -> Tracer | None:
    """Return what traces requests; None where nothing is to be traced.

    Raises `MissingDependency`.
    """
    if serve.trace_endpoint is None:
        return None
    try:
        from steadynet.serving.otlp import OtlpSink
    except ModuleNotFoundError as error:
        raise MissingDependency("opentelemetry-exporter-otlp-proto-http", "otel") from error
    return Tracer(OtlpSink(serve.trace_endpoint, worker), serve.trace_share)
