"""How large a network and how long a fit a table deserves. Pure: sizes in, plan out."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import msgspec

from steadynet.networks.base import NetworkSize
from steadynet.spec.kinds import Task
from steadynet.spec.model import TrainingSpec
from steadynet.training.data import ROWS_PER_FOLD
from steadynet.training.grouped import MOST_FOLDS
from steadynet.training.presets import ComponentPlan

CROSS_FIT_ROWS = 4000
"""Up to as many training and validation rows every group leaves out a fold of its own."""
FOLDS = 8
ROW_BUDGET = 170_000
"""Rows that a fit goes over at most, all epochs together, but for `FEWEST_EPOCHS`."""
EPOCH_ROWS = 500_000
"""Rows of a group that an epoch goes over at most; a pass over more rows is several epochs, so that
held-out rows, checkpoints and the clock are looked at as often as with fewer rows."""
FEWEST_PASSES = 2
"""Over a table of many epochs to a pass."""
FEWEST_EPOCHS = 8
MOST_EPOCHS = 24
LINEAR_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse penalties that are tried for the linear start."""
TUNED_LINEAR_ROWS = 20_000
"""Beyond as many rows the penalty hardly matters, and trying several costs seconds."""

MEMBERS = 4
"""8 cost a quarter more time and gain nothing on held-out rows."""
DROPOUT = 0.1
MANY_ROWS = 50_000
"""From here on steps are so many that larger ones cost nothing."""
LEARNING_RATE = 8e-3


class FitPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the fit needs to know besides the data."""

    size: NetworkSize
    batch_rows: int
    epochs: int
    patience: int
    learning_rate: float
    weight_decay: float
    gradient_clip: float
    linear_strengths: tuple[float, ...]
    seed: int
    epoch_rows: int = EPOCH_ROWS
    optimizer: Literal["muon", "adamw"] = "muon"
    precision: Literal["auto", "full"] = "auto"


def plan_fit(
    spec: TrainingSpec,
    *,
    task: Task,
    train_rows: int,
    validation_rows: int,
    most_folds: int = MOST_FOLDS,
) -> FitPlan:
    """Choose what the spec leaves open.

    `most_folds` is 1 where rows are split by time, which are not cross-fitted: a fold would be
    judged by rows older than those that it was fitted on. They may have windows (`windows`).
    """
    rows = train_rows + validation_rows
    cross = rows <= CROSS_FIT_ROWS
    chosen = FOLDS if cross else 1
    folds = max(1, min(spec.folds or chosen, rows // ROWS_PER_FOLD, most_folds))
    fitted = train_rows if folds == 1 else rows - rows // folds
    small = folds > 1 and rows <= CROSS_FIT_ROWS
    dropped = DROPOUT if spec.dropout is None else spec.dropout
    width = spec.width or (64 if small else 128)
    budgeted = max(
        FEWEST_EPOCHS,
        FEWEST_PASSES * fitted // EPOCH_ROWS,
        min(MOST_EPOCHS, ROW_BUDGET // max(1, fitted)),
    )
    tried = LINEAR_STRENGTHS if fitted <= TUNED_LINEAR_ROWS else (1.0,)
    return FitPlan(
        size=NetworkSize(width, spec.depth, spec.members or MEMBERS, folds, dropped),
        batch_rows=min(spec.batch_rows or _batch_rows(fitted), fitted),
        epochs=spec.max_epochs or budgeted,
        patience=spec.patience,
        learning_rate=spec.learning_rate or LEARNING_RATE,
        weight_decay=spec.weight_decay,
        gradient_clip=spec.gradient_clip,
        linear_strengths=tried,
        seed=spec.seed,
        optimizer=spec.optimizer,
        precision=spec.precision,
    )


def _batch_rows(rows: int) -> int:
    """Return a power of two that makes some dozens of steps an epoch, 32 to 256, then 512."""
    if rows >= MANY_ROWS:
        return 512
    size = 32
    while size < 256 and size * 40 < rows:
        size *= 2
    return size


def own_plan(plan: FitPlan, asked: ComponentPlan, training: TrainingSpec) -> FitPlan:
    """Return the plan of one component."""
    members = training.members or asked.members or plan.size.members
    size = replace(plan.size, members=members)
    return msgspec.structs.replace(plan, size=size, seed=plan.seed + asked.seed)
