"""gRPC calls wait for those that follow them, a bounded while, and go on together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from steadynet.serving.gathering import MOST_CALLS, MOST_TURNS, MOST_WAIT_S, Gathering


class Turns:
    """Counts the turns of the running loop, and tells a time of so much a turn."""

    def __init__(self, turn_s: float = 0.0) -> None:
        self.count = 0
        self._turn_s = turn_s
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_soon(self._next)

    def now(self) -> float:
        """Return the time, seconds."""
        return self.count * self._turn_s

    def end(self) -> None:
        """Count no more."""
        self._handle.cancel()

    def _next(self) -> None:
        self.count += 1
        self._handle = self._loop.call_soon(self._next)


class Calls:
    """Calls that join a gathering, and when each came and went on, in turns."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.gathering = Gathering(turns.now)
        self.came: dict[int, int] = {}
        self.went: dict[int, int] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    def begin(self, number: int) -> None:
        """Let a call come."""
        self.tasks[number] = asyncio.create_task(self._join(number))

    async def end(self) -> None:
        """Wait until all have gone on, or were cancelled."""
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        self.turns.end()

    async def _join(self, number: int) -> None:
        self.came[number] = self.turns.count
        await self.gathering.join()
        self.went[number] = self.turns.count


async def turns_pass(turns: int) -> None:
    """Return after so many turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def played(
    gaps: list[int], cancelled: frozenset[int] = frozenset(), turn_s: float = 0.0
) -> Calls:
    """Let calls come so many turns one after the other, and cancel some before the last one."""
    calls = Calls(Turns(turn_s))
    for number, gap in enumerate(gaps):
        await turns_pass(gap)
        calls.begin(number)
    for number in cancelled & calls.tasks.keys():
        calls.tasks[number].cancel()
    await calls.end()
    return calls


def run(calls: Coroutine[None, None, Calls]) -> Calls:
    """Return the calls when all is over."""
    return asyncio.run(calls)


def test_one_alone_goes_on_after_a_few_turns() -> None:
    calls = run(played([0]))
    assert MOST_TURNS <= calls.went[0] - calls.came[0] <= MOST_TURNS + 2


def test_those_that_follow_soon_go_on_in_the_same_turn() -> None:
    calls = run(played([0, *[MOST_TURNS - 2] * 9]))
    assert len(calls.went) == 10
    assert len(set(calls.went.values())) == 1


def test_those_that_come_late_go_on_later() -> None:
    calls = run(played([0, 3 * MOST_TURNS]))
    assert calls.went[0] < calls.came[1]


def test_however_many_come_the_first_goes_on_in_time() -> None:
    turn_s = MOST_WAIT_S / 20
    calls = run(played([0, *[MOST_TURNS - 2] * 20], turn_s=turn_s))
    for number, came in calls.came.items():
        assert (calls.went[number] - came) * turn_s <= MOST_WAIT_S + 3 * turn_s


def test_no_more_than_so_many_wait() -> None:
    calls = run(played([0, *[1] * (2 * MOST_CALLS)]))
    together = list(calls.went.values())
    assert max(map(together.count, together)) <= MOST_CALLS + 2


@given(st.lists(st.integers(0, 2 * MOST_TURNS), min_size=1, max_size=40), st.data())
def test_each_goes_on_once_in_order_whoever_is_cancelled(
    gaps: list[int], data: st.DataObject
) -> None:
    cancelled = frozenset(data.draw(st.sets(st.integers(0, len(gaps) - 1))))
    calls = run(played(gaps, cancelled))
    # One that was cancelled may have gone on before.
    assert {*calls.came} - cancelled <= calls.went.keys()
    assert sorted(calls.went) == list(calls.went)
    assert all(first <= second for first, second in pairwise(calls.went.values()))
    longest = MOST_TURNS * len(gaps) + MOST_TURNS
    assert all(calls.went[number] - calls.came[number] <= longest for number in calls.went)
