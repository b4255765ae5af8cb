"""Lets gRPC calls that come at the same time share a batch.

Over HTTP one read brings the requests of many connections within one turn of the event loop.
grpc.aio takes its calls one by one, each some turns after the one before, however many wait: each
was a batch of its own, and running it took longer than all of gRPC. So a call waits for those that
follow it, by turns of the loop and not by a timer: the turns of an idle loop are over in some ten
microseconds, those of a busy one are as long as the work in them, and then others do follow.

Invariants:
- A call waits only while calls keep coming: `MOST_TURNS` turns after the last one, `MOST_WAIT_S`
  after the first one, or with the one that makes them `MOST_CALLS`, all go on.
- All that wait go on in one turn, in the order in which they came.
- A call that is cancelled while it waits holds up no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

MOST_TURNS = 8
"""Five or six lie between two calls that wait for grpc.aio to take them."""
MOST_WAIT_S = 5e-3
MOST_CALLS = 64


class Gathering:
    """Calls of one event loop that wait for each other. Used on that loop alone."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._waiting: list[asyncio.Future[None]] = []
        self._turns = 0
        self._until = 0.0

    def join(self) -> asyncio.Future[None]:
        """Return what is done when the caller shall go on."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if not self._waiting:
            self._until = self._now() + MOST_WAIT_S
            loop.call_soon(self._look)
        self._turns = 0
        self._waiting.append(future)
        return future

    def _look(self) -> None:
        self._turns += 1
        if (
            self._turns < MOST_TURNS
            and len(self._waiting) < MOST_CALLS
            and self._now() < self._until
        ):
            asyncio.get_running_loop().call_soon(self._look)
            return
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
