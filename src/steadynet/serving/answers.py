"""What goes back over HTTP: bodies, headers, and the one mapping from errors to status codes."""

from __future__ import annotations

from math import ceil

import msgspec

from steadynet.errors import (
    CannotLoad,
    DeadlineExceeded,
    Forbidden,
    InputError,
    NotReady,
    OutOfDistribution,
    Overloaded,
    RateLimited,
    SteadynetError,
    TooManyRows,
    Unauthenticated,
    UnknownModel,
)

JSON = b"application/json"
TEXT = b"text/plain; version=0.0.4; charset=utf-8"

Headers = list[tuple[bytes, bytes]]

encode_json = msgspec.json.Encoder().encode


class HttpAnswer(msgspec.Struct):
    """One response."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Headers | None = None
    close: bool = False
    """Whether the connection ends with this response."""


class HttpError(Exception):
    """A request that HTTP itself refuses; never leaves `serving.http`."""

    def __init__(
        self, status: int, message: str, *, headers: Headers | None = None, close: bool = False
    ) -> None:
        self.status = status
        self.headers = headers
        self.close = close
        super().__init__(message)


def json_answer(content: object, status: int = 200) -> HttpAnswer:
    """Return a response with a JSON body."""
    return HttpAnswer(status, encode_json(content))


def error_answer(error: HttpError | SteadynetError) -> HttpAnswer:
    """Return the response for an error: `{"error": message}`."""
    body = encode_json({"error": str(error)})
    if isinstance(error, HttpError):
        return HttpAnswer(error.status, body, headers=error.headers, close=error.close)
    status = status_of(error)
    return HttpAnswer(status, body, headers=_headers(error, status))


def _headers(error: SteadynetError, status: int) -> Headers | None:
    if status == 401:
        return [(b"www-authenticate", b"Bearer")]
    if status in (429, 503):
        wait_s = error.retry_after_s if isinstance(error, RateLimited) else 1.0
        return [(b"retry-after", b"%d" % max(1, ceil(wait_s)))]
    return None


def status_of(error: SteadynetError) -> int:
    """Return the HTTP status for one of our errors; everything not named is a 500."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return 500


_STATUS: tuple[tuple[type[SteadynetError], int], ...] = (
    (TooManyRows, 413),
    (OutOfDistribution, 422),
    (InputError, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (UnknownModel, 404),
    (CannotLoad, 400),
    (Overloaded, 429),
    (NotReady, 503),
    (DeadlineExceeded, 504),
)
