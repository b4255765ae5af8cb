"""Checkpoints of a fit: one safetensors file, replaced atomically. No pickle.

Round-trip law: a fit that goes on from a checkpoint ends as the fit that was not interrupted.
Randomness is not stored: every epoch draws from generators seeded by the fit's seed, the epoch and
the retry (see `training.loop`), so the epoch's number is the whole state.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from steadynet.errors import TrainingError
from steadynet.files import write_atomic

NAME = "checkpoint.safetensors"
_META = "steadynet"


class FitRecord(msgspec.Struct, kw_only=True):
    """The part of a fit's state that is not tensors."""

    epoch: int = 0
    """Epochs done."""
    retries: int = 0
    step_scale: float = 1.0
    """What the learning rate is multiplied by after retries."""
    stale: int = 0
    """Epochs since any group got better."""
    best_epoch: list[int]
    """Per group; 0 is the start."""
    history: list[EpochRecord] = []
    epochs: int = 0
    """Epochs that the schedule is made for; fewer than planned where time is short."""


class EpochRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch, as the history keeps it."""

    epoch: int
    train_loss: float
    held_loss: float
    metric: float
    learning_rate: float


@dataclass
class FitTensors:
    """The part of a fit's state that is tensors, by name."""

    weights: dict[str, Tensor]
    best: dict[str, Tensor]
    """The best weights so far; each group's slice is from its own best epoch."""
    best_loss: Tensor
    """(G,)."""
    optimizer: dict[str, Tensor]
    """`<optimizer>/<parameter number>/<moment>`."""


def save_checkpoint(folder: Path, record: FitRecord, tensors: FitTensors, identity: str) -> None:
    """Replace the folder's checkpoint, or leave it as it was and raise `TrainingError`."""
    flat = {f"weights/{name}": value for name, value in tensors.weights.items()}
    flat |= {f"best/{name}": value for name, value in tensors.best.items()}
    flat |= {f"optimizer/{name}": value for name, value in tensors.optimizer.items()}
    flat["best_loss"] = tensors.best_loss
    held = {name: value.detach().cpu().contiguous().clone() for name, value in flat.items()}
    meta = {_META: msgspec.json.encode(record).decode(), "identity": identity}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / NAME, save(held, metadata=meta))
    except OSError as error:
        raise TrainingError(
            f"the checkpoint cannot be written to {folder}",
            got=error.strerror or type(error).__name__,
            do="Make room and train again: it goes on from the last checkpoint.",
        ) from error


def load_checkpoint(folder: Path, identity: str) -> tuple[FitRecord, FitTensors] | None:
    """Return the folder's checkpoint, or None where there is none of that identity.

    A file that cannot be read counts as none: the fit then starts anew, which costs time alone.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            if meta.get("identity") != identity:
                return None
            record = msgspec.json.decode(meta[_META], type=FitRecord)
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            best_loss = flat.pop("best_loss")
    except (SafetensorError, msgspec.DecodeError, KeyError):
        return None
    return record, FitTensors(
        weights=_under(flat, "weights/"),
        best=_under(flat, "best/"),
        best_loss=best_loss,
        optimizer=_under(flat, "optimizer/"),
    )


def drop_checkpoints(run: Path) -> None:
    """Remove the checkpoints of all components of a run that ended."""
    for path in run.glob(f"*/{NAME}"):
        path.unlink()
        with suppress(OSError):  # something else lies there too
            path.parent.rmdir()


def _under(flat: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value for name, value in flat.items() if name.startswith(prefix)
    }
