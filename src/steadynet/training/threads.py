"""How many threads a training uses, in every library that it calls."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

import torch
from threadpoolctl import threadpool_limits

from steadynet.spec.model import Spec, TrainingSpec

P = ParamSpec("P")
R = TypeVar("R")


def thread_count(training: TrainingSpec) -> int:
    """Return the threads that the spec asks for, one unless set.

    On two cores two threads are 1.3 times as fast as one where all else is idle, and 0.8 to 0.08
    times beside two to six busy processes (`bench/threads.py`), since threads wait for each other
    at every product; retrains run beside the server. The result depends on the number in its last
    bits, so it is never chosen by load.
    """
    return training.threads or 1


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Let torch, BLAS and OpenMP use at most `count` threads.

    All of them start a thread per core unless told otherwise, and on cores that are busy these
    wait for each other: a reference that takes 1 s alone took 60 s beside others.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


def within_threads(
    run: Callable[Concatenate[object, Spec, P], R],
) -> Callable[Concatenate[object, Spec, P], R]:
    """Let a training, given a table and a spec, keep to the spec's threads from start to end."""

    @functools.wraps(run)
    def limited(source: object, spec: Spec, /, *more: P.args, **named: P.kwargs) -> R:
        with limited_threads(thread_count(spec.training)):
            return run(source, spec, *more, **named)

    return limited


@contextmanager
def torch_set_up(training: TrainingSpec) -> Iterator[None]:
    """Set torch's threads and random state for a fit, and put them back afterwards.

    Denormal numbers are flushed to zero: Adam's moments decay into them, and processors are then
    several times slower.
    """
    torch.set_flush_denormal(True)
    try:
        with torch.random.fork_rng(), limited_threads(thread_count(training)):
            yield
    finally:
        torch.set_flush_denormal(False)
