"""How many threads a training uses, in every library that it calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from steadynet.spec.model import TrainingSpec


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
    """Let BLAS and OpenMP use at most `count` threads.

    scikit-learn and SciPy start a thread per core unless told otherwise, and on cores that are
    busy these wait for each other: a reference that takes 1 s alone took 60 s beside others.
    """
    with threadpool_limits(count):
        yield


@contextmanager
def torch_set_up(training: TrainingSpec) -> Iterator[None]:
    """Set torch's threads and random state for a fit, and put them back afterwards.

    Denormal numbers are flushed to zero: Adam's moments decay into them, and processors are then
    several times slower.
    """
    threads = torch.get_num_threads()
    torch.set_flush_denormal(True)
    torch.set_num_threads(thread_count(training))
    try:
        with torch.random.fork_rng(), limited_threads(thread_count(training)):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
