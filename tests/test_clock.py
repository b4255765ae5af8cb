"""Clocks: the machine's own, and the one that moves when told to."""

from __future__ import annotations

import time

from steadynet.clock import Clock, ManualClock, SystemClock


def test_the_system_clock_is_the_machines() -> None:
    clock: Clock = SystemClock()
    before = time.time()
    assert before <= clock.now() <= time.time()
    first = clock.monotonic()
    assert clock.monotonic() >= first


def test_a_jump_moves_wall_time_alone() -> None:
    clock = ManualClock(now=100.0)
    clock.advance(5.0)
    clock.jump(-50.0)
    assert (clock.now(), clock.monotonic()) == (55.0, 5.0)
