"""Telling a webhook: one POST of JSON per message, retried from the store until it is taken.

Invariants:
- A message is settled in the store only after the attempt; a controller that dies in between
  sends it again (at least once; the message's id lets the receiver notice).
- What stands in the URL behind the host may be a secret: it is shown nowhere.
"""

from __future__ import annotations

import base64
import http.client
import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import unquote, urlsplit

from steadynet.control.store import Delivery

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0
LONGEST_ANSWER = 65_536
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 300.0
MOST_ATTEMPTS = 30
"""About two hours; then the message is given up."""


def mask_url(url: str) -> str:
    """Return the URL with everything that may be a secret left out."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    port = f":{parts.port}" if parts.port else ""
    hidden = "/***" if parts.path not in ("", "/") or parts.query or parts.username else ""
    return f"{parts.scheme}://{host}{port}{hidden}"


def wait_after(attempts: int) -> float:
    """Return how many seconds to wait after the `attempts`-th failure."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempts - 1))


def post_json(
    url: str, payload: bytes, headers: Mapping[str, str], *, timeout_s: float = TIMEOUT_S
) -> str | None:
    """POST the payload; return None where it was taken (2xx), else why it was not.

    Redirects are not followed. The answer never holds more of the URL than `mask_url` shows.
    """
    answer = call("POST", url, payload, headers, timeout_s=timeout_s)
    return answer if isinstance(answer, str) else None


def call(
    method: str,
    url: str,
    payload: bytes,
    headers: Mapping[str, str],
    *,
    timeout_s: float = TIMEOUT_S,
) -> bytes | str:
    """Send JSON; return the answer's body where it was taken (2xx), else why it was not, as text.

    As with `post_json`, no redirects are followed and no secret of the URL is shown.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"{mask_url(url)} is no http or https URL"
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=timeout_s)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        sent = {"Content-Type": "application/json", "User-Agent": "steadynet", **headers}
        if parts.username is not None:
            sent["Authorization"] = _basic(unquote(parts.username), unquote(parts.password or ""))
        connection.request(method, path, body=payload, headers=sent)
        answer = connection.getresponse()
        if not 200 <= answer.status < 300:
            return f"{mask_url(url)} answered {answer.status}"
        return answer.read(LONGEST_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        return f"{mask_url(url)} could not be reached ({type(error).__name__})"
    finally:
        connection.close()


def _basic(user: str, password: str) -> str:
    """Return the header for a URL with user and password (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


class Courier:
    """Posts one message at a time in a thread of its own, so that no tick waits for a network."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="webhook")
        self._under_way: tuple[Delivery | None, Future[str | None]] | None = None

    @property
    def idle(self) -> bool:
        """Whether a message can be handed over."""
        return self._under_way is None

    def post(self, delivery: Delivery | None, body: bytes, headers: Mapping[str, str]) -> None:
        """Start posting a message; None: one that the store does not hold. Only while idle."""
        assert self._under_way is None
        self._under_way = (delivery, self._pool.submit(post_json, self._url, body, headers))

    def collect(self) -> tuple[Delivery | None, str | None] | None:
        """Return the message whose attempt has ended with what went wrong; None while it runs."""
        if self._under_way is None or not self._under_way[1].done():
            return None
        delivery, future = self._under_way
        self._under_way = None
        return delivery, future.result()

    def close(self) -> None:
        """Stop; an attempt under way ends by itself within its timeout."""
        self._pool.shutdown(wait=False, cancel_futures=True)
