"""Clocks: the machine's own, and the one that moves when told to."""

from __future__ import annotations

import subprocess
import sys
import time

from steadynet.clock import Clock, ManualClock, SystemClock, processor_seconds


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


def test_the_processors_seconds_are_also_those_of_processes_that_were_waited_for() -> None:
    before = processor_seconds()
    work = "import time\nwhile time.process_time() < 0.1: pass\nprint(time.process_time())"
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, check=True)
    spent = processor_seconds() - before
    assert spent >= float(done.stdout) - 0.03  # the system counts in hundredths
    assert processor_seconds() - before >= spent
