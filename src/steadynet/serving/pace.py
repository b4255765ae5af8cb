"""Work beside the event loop in short pieces, so that no request waits long for any of it.

A thread that counts for 20 ms holds Python's lock for nearly all of them, however short the
switching interval is: the loop gives the lock up at every system call, and gets it back an interval
later. So the thread itself rests between pieces; the loop answers meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Rest = Callable[[], None]
"""Called between pieces of work."""

PIECE_S = 0.3e-3
REST_S = 1e-3


def never_rest() -> None:
    """Go on at once."""


class Pace:
    """Says when a thread that works beside the event loop rests. Used by that thread alone."""

    def __init__(self) -> None:
        self.hurried = False
        """While true nobody rests: more work waits than rests leave time for."""
        self._began = time.perf_counter()

    def rest(self) -> None:
        """Sleep for a moment where a piece's time is up."""
        if time.perf_counter() - self._began < PIECE_S:
            return
        if not self.hurried:
            time.sleep(REST_S)
        self._began = time.perf_counter()
