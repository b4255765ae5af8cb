"""Every library that a training calls keeps to the threads that it was given."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_info

from steadynet.spec.model import Spec, TrainingSpec
from steadynet.training.threads import (
    limited_threads,
    thread_count,
    torch_set_up,
    within_threads,
)


def most_threads() -> int:
    return max(int(pool["num_threads"]) for pool in threadpool_info())


def test_one_thread_unless_set() -> None:
    assert thread_count(TrainingSpec()) == 1
    assert thread_count(TrainingSpec(threads=3)) == 3


def test_libraries_keep_to_the_limit_and_get_their_threads_back() -> None:
    import sklearn.ensemble  # noqa: F401 - its OpenMP is one of those that are limited

    before = most_threads()
    with limited_threads(1):
        assert most_threads() == 1
    assert most_threads() == before


def test_a_fit_limits_torch_and_blas_and_puts_both_back() -> None:
    torch_before, before = torch.get_num_threads(), most_threads()
    state = torch.random.get_rng_state()
    with torch_set_up(TrainingSpec(threads=1)):
        assert torch.get_num_threads() == 1
        assert most_threads() == 1
        torch.rand(3)
    assert (torch.get_num_threads(), most_threads()) == (torch_before, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_training_keeps_to_the_threads_of_its_spec_from_start_to_end() -> None:
    @within_threads
    def run(source: object, spec: Spec, *, name: str) -> tuple[object, str, int, int]:
        return source, name, torch.get_num_threads(), most_threads()

    before = torch.get_num_threads(), most_threads()
    assert run("table", Spec(training=TrainingSpec(threads=1)), name="n") == ("table", "n", 1, 1)
    assert (torch.get_num_threads(), most_threads()) == before
