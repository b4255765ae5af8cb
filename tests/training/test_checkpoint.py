"""A checkpoint is whole or not there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.errors import TrainingError
from steadynet.training.checkpoint import (
    NAME,
    EpochRecord,
    FitRecord,
    FitTensors,
    drop_checkpoints,
    load_checkpoint,
    save_checkpoint,
)


def tensors_of(seed: int) -> FitTensors:
    """Return random tensors, an empty one among them."""
    generator = torch.Generator().manual_seed(seed)
    made = {
        "first": torch.randn(2, 3, generator=generator),
        "second.deep": torch.randn(2, 0, generator=generator),
    }
    return FitTensors(
        weights=made,
        best={name: value + 1 for name, value in made.items()},
        best_loss=torch.randn(2, generator=generator),
        optimizer={
            "adamw/0/exp_avg": torch.randn(2, 3, generator=generator),
            "adamw/0/step": torch.tensor(7),
        },
    )


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 1000),
    epoch=st.integers(0, 500),
    retries=st.integers(0, 4),
    loss=st.floats(allow_nan=False, allow_infinity=False),
)
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, seed: int, epoch: int, retries: int, loss: float
) -> None:
    folder = tmp_path_factory.mktemp("run")
    record = FitRecord(
        epoch=epoch,
        retries=retries,
        best_epoch=[epoch, 0],
        history=[
            EpochRecord(epoch=1, train_loss=loss, held_loss=loss, metric=0.5, learning_rate=1e-3)
        ],
    )
    tensors = tensors_of(seed)
    save_checkpoint(folder, record, tensors, "me")
    found = load_checkpoint(folder, "me")
    assert found is not None
    assert found[0] == record
    for mine, theirs in (
        (tensors.weights, found[1].weights),
        (tensors.best, found[1].best),
        (tensors.optimizer, found[1].optimizer),
    ):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert torch.equal(tensors.best_loss, found[1].best_loss)


def test_a_full_disk_leaves_the_old_checkpoint_and_says_what_to_do(
    tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    save_checkpoint(tmp_path, FitRecord(best_epoch=[1, 1], epoch=1), tensors_of(0), "me")
    with full_disk(64), pytest.raises(TrainingError, match=r"cannot be written.*Make room"):
        save_checkpoint(tmp_path, FitRecord(best_epoch=[2, 2], epoch=2), tensors_of(1), "me")
    found = load_checkpoint(tmp_path, "me")
    assert found is not None
    assert found[0].epoch == 1
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_dropped_checkpoint_is_gone_and_dropping_none_is_no_error(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, FitRecord(best_epoch=[0]), tensors_of(0), "me")
    drop_checkpoints(tmp_path.parent)
    drop_checkpoints(tmp_path.parent)
    assert load_checkpoint(tmp_path, "me") is None
