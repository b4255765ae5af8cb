"""What comes in over HTTP: headers, request ids, and bodies within their limit."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from itertools import count
from math import inf
from time import monotonic
from typing import Any, TypeVar

import msgspec

from steadynet.errors import InputError
from steadynet.serving.answers import HttpError
from steadynet.serving.auth import bearer
from steadynet.serving.tracing import Trace

T = TypeVar("T")

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LINGER_S = 2.0
"""How long a refused body is read and thrown away, so that the caller can read the refusal."""

_LENGTH_DIGITS = 18
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Disconnected(Exception):
    """The caller has gone before its request was complete."""


class Request(msgspec.Struct, gc=False):
    """The parts of a request that handlers look at."""

    method: str
    path: str
    arrived: float
    """`time.monotonic()`."""
    request_id: str = ""
    sticky_key: str = ""
    content_type: bytes = b""
    accept: bytes = b""
    """What the caller takes for an answer."""
    content_length: int = -1
    encoding: bytes = b""
    timeout_s: float = inf
    """How long the caller wants to wait for the answer."""
    traceparent: bytes = b""
    """The caller's span, as it was sent."""
    trace: Trace | None = None
    key: bytes = b""
    """The key that the caller presents."""
    key_id: str = ""
    """What may be told and logged of it, once it was found right."""
    json_length: int = -1
    """How many bytes of the body are JSON, where binary data follow them; -1: all."""
    body: bytes | None = None
    """The body, where it came with the head."""


class RequestIds:
    """Makes ids that no other worker makes."""

    def __init__(self) -> None:
        self._prefix = os.urandom(6).hex()
        self._numbers = count()

    def new(self) -> str:
        """Return the next id."""
        return f"{self._prefix}-{next(self._numbers):x}"


def read_head(request: Request, headers: list[tuple[bytes, bytes]], ids: RequestIds) -> None:
    """Read a request's headers into it. Raises `HttpError` for one that is wrong.

    All are read before: a refusal too is answered under the request's id.
    """
    wrong: HttpError | None = None
    for name, value in headers:
        read = _READERS.get(name)
        if read is not None:
            try:
                read(request, value)
            except HttpError as error:
                wrong = error
    if not request.request_id:
        request.request_id = ids.new()
    elif not _REQUEST_ID.fullmatch(request.request_id):
        request.request_id = ids.new()
        raise HttpError(400, f"the header X-Request-Id is wrong; expected {REQUEST_ID_RULE}")
    if wrong is not None:
        raise wrong


def _read_content_type(request: Request, value: bytes) -> None:
    request.content_type = value


def _read_accept(request: Request, value: bytes) -> None:
    # Several lines are one list.
    request.accept = request.accept + b"," + value if request.accept else value


def _read_content_length(request: Request, value: bytes) -> None:
    request.content_length = int(value)


def _read_request_id(request: Request, value: bytes) -> None:
    request.request_id = value.decode("latin-1")


def _read_sticky_key(request: Request, value: bytes) -> None:
    request.sticky_key = value.decode("latin-1")


def _read_encoding(request: Request, value: bytes) -> None:
    request.encoding = value


def _read_authorization(request: Request, value: bytes) -> None:
    request.key = bearer(value)


def _read_key(request: Request, value: bytes) -> None:
    request.key = value


def _read_traceparent(request: Request, value: bytes) -> None:
    request.traceparent = value


def _read_timeout(request: Request, value: bytes) -> None:
    request.timeout_s = _timeout_s(value)


def _read_json_length(request: Request, value: bytes) -> None:
    request.json_length = _length(value)


_READERS: dict[bytes, Callable[[Request, bytes], None]] = {
    b"content-type": _read_content_type,
    b"accept": _read_accept,
    b"content-length": _read_content_length,
    b"x-request-id": _read_request_id,
    b"x-sticky-key": _read_sticky_key,
    b"content-encoding": _read_encoding,
    b"authorization": _read_authorization,
    b"x-api-key": _read_key,
    b"traceparent": _read_traceparent,
    b"x-request-timeout-ms": _read_timeout,
    b"inference-header-content-length": _read_json_length,
}


def _timeout_s(value: bytes) -> float:
    try:
        timeout_ms = float(value)
    except ValueError:
        timeout_ms = 0.0
    if not 0 < timeout_ms < inf:
        raise HttpError(
            400, "the header X-Request-Timeout-Ms is wrong; expected milliseconds, more than 0"
        )
    return timeout_ms / 1000


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > _LENGTH_DIGITS:
        raise HttpError(
            400, "the header Inference-Header-Content-Length is wrong; expected a number of bytes"
        )
    return int(value)


REQUEST_ID_RULE = "1 to 128 visible ASCII characters without blanks"


def check_request_id(given: str) -> str:
    """Return a request id that its caller chose. Raises `InputError`."""
    if not _REQUEST_ID.fullmatch(given):
        raise InputError("the request's id is wrong", expected=REQUEST_ID_RULE)
    return given


def media_type(value: bytes) -> bytes:
    """Return a header's media type in lower case, without its parameters."""
    return value.split(b";")[0].strip().lower()


async def read_typed_body(
    request: Request, receive: Receive, types: tuple[bytes, ...], bodies: Bodies
) -> bytes:
    """Return the body of a request whose declared type is one of `types`, or none.

    Raises `HttpError` 413, 415 or 503, `Disconnected`.
    """
    kind = request.content_type
    if kind and kind not in types and media_type(kind) not in types:
        expected = " or ".join(item.decode() for item in types)
        raise HttpError(415, f"the Content-Type is not served; expected {expected}")
    if request.encoding not in (b"", b"identity"):
        raise HttpError(415, "the Content-Encoding is not served; expected identity")
    body = await bodies.read(request, receive)
    if request.trace is not None:
        request.trace.received = monotonic()
    return body


def decode_json(decoder: msgspec.json.Decoder[T], body: bytes | memoryview) -> T:
    """Decode a JSON body. Raises `HttpError` 400, whose message shows no value of the body."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise HttpError(400, f"the body does not fit: {error}") from None
    except msgspec.DecodeError as error:
        raise HttpError(400, f"the body is not JSON: {error}") from None
    except UnicodeDecodeError:
        raise HttpError(400, "the body is not JSON: a text in it is not UTF-8") from None
    except RecursionError:
        raise HttpError(400, "the body is nested too deeply") from None


class Bodies:
    """Reads bodies, each within its limit, and all that are still coming in within theirs."""

    def __init__(self, max_bytes: int, max_inflight_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._max_inflight_bytes = max_inflight_bytes
        self._inflight_bytes = 0

    async def read(self, request: Request, receive: Receive) -> bytes:
        """Return the body.

        Raises `HttpError`: 413 as soon as it is too long, 503 as soon as all together are;
        `Disconnected`.
        """
        if request.content_length > self.max_bytes:
            raise self._too_large()
        if request.body is not None:
            if len(request.body) > self.max_bytes:
                raise self._too_large()
            return request.body
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        body: bytes = message["body"]
        if message["more_body"]:
            return await self._read_rest(body, receive)
        if len(body) > self.max_bytes:
            raise self._too_large()
        return body

    async def _read_rest(self, first: bytes, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        message: Message = {"body": first, "more_body": True}
        try:
            while True:
                part: bytes = message["body"]
                parts.append(part)
                size += len(part)
                self._inflight_bytes += len(part)
                if size > self.max_bytes:
                    raise self._too_large()
                if self._inflight_bytes > self._max_inflight_bytes:
                    raise HttpError(
                        503,
                        "too many large bodies are coming in; send the request again later",
                        headers=[(b"retry-after", b"1")],
                        close=True,
                    )
                if not message["more_body"]:
                    return b"".join(parts)
                message = await receive()
                if message["type"] != "http.request":
                    raise Disconnected
        finally:
            self._inflight_bytes -= size

    def _too_large(self) -> HttpError:
        return HttpError(
            413,
            f"the body is too large; expected at most {self.max_bytes} bytes",
            close=True,
        )


async def throw_away(receive: Receive) -> None:
    """Read what is left of a body for a while, keeping none of it.

    A connection that is closed while the caller still sends is reset, and the reset may overtake
    the answer that says why.
    """
    try:
        async with asyncio.timeout(LINGER_S):
            while (message := await receive())["type"] == "http.request":
                if not message["more_body"]:
                    return
    except TimeoutError:
        return
