"""Work beside the event loop in short pieces, so that no request waits long for any of it.

A thread that counts for 20 ms holds Python's lock for nearly all of them, however short the
switching interval is: the loop gives the lock up at every system call, and gets it back an interval
later. So the thread itself rests between pieces; the loop answers meanwhile.

At half of what a worker can answer its batches are small and its core is nearly taken: a thread
that asks for a quarter of the core lets requests queue for as long as it counts. So it takes a
tenth, and more only as more waits to be counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Rest = Callable[[], None]
"""Called between pieces of work."""

PIECE_S = 0.2e-3
SHARE = 0.1
"""Of its time, what the thread works while no more than one tally waits."""
AWAITED_SHARE = 0.25
"""The same while a caller waits for the thread, as for the metrics."""
MOST_WAITING = 4
"""Tallies that wait from which on nobody rests."""
LONGEST_REST_S = 0.02
"""However long a piece took."""


def never_rest() -> None:
    """Go on at once."""


def rest_s(worked_s: float, waiting: int, *, awaited: bool) -> float:
    """Return how long to rest after a piece of work, while so many tallies wait. Pure."""
    if waiting > MOST_WAITING:
        return 0.0
    share = max(SHARE * max(1, waiting), AWAITED_SHARE if awaited else 0.0)
    return min(worked_s * (1 - share) / share, LONGEST_REST_S)


class Pace:
    """Says when a thread that works beside the event loop rests.

    `begin` and `rest` are that thread's alone; the event loop sets the rest.
    """

    def __init__(self) -> None:
        self.waiting = 0
        """Tallies that wait to be counted, or are being counted."""
        self.callers = 0
        """Callers that wait for the thread."""
        self.ending = False
        """While true nobody rests."""
        self.begin()

    def begin(self) -> None:
        """Begin a piece: what went before it was no work."""
        self._began = time.perf_counter()

    def rest(self) -> None:
        """Sleep for a moment where a piece's time is up."""
        worked_s = time.perf_counter() - self._began
        if worked_s < PIECE_S:
            return
        if not self.ending:
            pause_s = rest_s(worked_s, self.waiting, awaited=self.callers > 0)
            if pause_s:
                time.sleep(pause_s)
        self.begin()
