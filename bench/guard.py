"""What the limits around a connection cost a request: `python bench/guard.py`.

The same request is fed, in this process and without a socket, to uvicorn's own protocol and to the
guarded one, with an application that answers a constant; the difference of the best rounds is
printed in microseconds of processor time. The rounds take turns.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from steadynet.serving.guard import Guard, GuardedProtocol
from steadynet.spec.model import ServeSpec

ROUNDS, REQUESTS = 150, 400
REQUEST = (
    b"POST /v2/models/bench/infer HTTP/1.1\r\nhost: localhost\r\n"
    b"content-type: application/json\r\ncontent-length: 400\r\n\r\n" + b"x" * 400
)
HEADERS = [(b"content-length", b"2")]


class Nowhere(asyncio.Transport):
    """A transport that takes everything and sends nothing."""

    def write(self, data: Any) -> None:
        """Take it."""

    def close(self) -> None:
        """Nothing to close."""

    def is_closing(self) -> bool:
        """It never closes."""
        return False

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""


async def app(_scope: Any, receive: Any, send: Any) -> None:
    """Answer a constant."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"{}"})


async def once(make: Any) -> float:
    """Return the microseconds of one request in one round."""
    config = uvicorn.Config(app, ws="none", lifespan="off", access_log=False, log_config=None)
    config.load()
    protocol = make(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(Nowhere())
    began = time.thread_time()
    for _ in range(REQUESTS):
        protocol.data_received(REQUEST)
        await asyncio.sleep(0)
    taken = time.thread_time() - began
    protocol._unset_keepalive_if_required()
    return 1e6 * taken / REQUESTS


async def main() -> None:
    """Measure both in turn."""
    guarded = partial(GuardedProtocol, guard=Guard(ServeSpec(), {}))
    best = {"plain": float("inf"), "guarded": float("inf")}
    for _ in range(ROUNDS):
        best["plain"] = min(best["plain"], await once(HttpToolsProtocol))
        best["guarded"] = min(best["guarded"], await once(guarded))
    for name, microseconds in best.items():
        print(f"  {name:10} {microseconds:6.2f} us a request")
    print(f"  the limits {best['guarded'] - best['plain']:6.2f} us")


if __name__ == "__main__":
    uvloop.run(main())
