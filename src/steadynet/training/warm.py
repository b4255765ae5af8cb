"""Go on from a bundle: its features, its network, its weights.

Law: before the first step, the network answers every row as its parent does. New columns and new
date parts enter by weights of zero, a new category as its column's unknown category did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from safetensors.torch import load
from torch import Tensor

from steadynet.bundle.manifest import TRAINING, WEIGHTS
from steadynet.bundle.read import Bundle
from steadynet.errors import TableError, UserError
from steadynet.export.head import RegressionHead
from steadynet.networks import NetworkSize, TabularNetwork, build_network
from steadynet.networks.growth import Growth, growth_between, load_exactly
from steadynet.spec.model import Spec, TableSpec, TrainingSpec
from steadynet.table.schema import Schema
from steadynet.training.components import Ground
from steadynet.training.data import ROWS_PER_FOLD, Units
from steadynet.training.plan import FitPlan
from steadynet.training.presets import FIRST
from steadynet.training.record import TrainingFile

STEP_SHARE = 0.25
"""Of a fresh fit's learning rate: larger steps would forget before they learn."""
EPOCHS_SHARE = 0.5
"""Of a fresh fit's epochs."""


@dataclass(frozen=True)
class Parent:
    """What a training goes on from."""

    schema: Schema
    training: TrainingFile
    weights: dict[str, Tensor]
    """The network's, by its own names."""
    manifest_sha256: str

    @property
    def size(self) -> NetworkSize:
        """The network's sizes, which stay."""
        return self.training.plan.size

    @property
    def units(self) -> tuple[Units | None, ...]:
        """Center, scale and inverse of each regression's target, which stay; None for classes."""
        heads = (self.training.head, *self.training.more_heads)
        return tuple(
            (head.center, head.scale, head.inverse) if isinstance(head, RegressionHead) else None
            for head in heads
        )


def open_parent(bundle: Bundle) -> Parent:
    """Read what a training goes on from out of a verified bundle.

    Of a blend it is the first network; trees are fitted anew. Raises `UserError` where the bundle
    holds no network or was written before this was possible.
    """
    try:
        training = msgspec.json.decode(bundle.read(TRAINING), type=TrainingFile)
    except msgspec.DecodeError as error:
        raise UserError(
            f"{bundle.manifest.name} cannot be gone on from: its training.json does not fit",
            expected="a bundle of this version of steadynet",
            do="Train anew, without --from.",
        ) from error
    prefix = f"{FIRST}/"
    weights = {
        name.removeprefix(prefix): value
        for name, value in load(bundle.read(WEIGHTS)).items()
        if name.startswith(prefix)
    }
    if not weights:
        raise UserError(
            f"{bundle.manifest.name} cannot be gone on from: its network was not kept",
            expected=f"the weights of {FIRST!r}",
            got=", ".join(component.name for component in training.components),
            do="Train anew, without --from.",
        )
    return Parent(bundle.manifest.schema, training, weights, bundle.manifest_sha256)


def inherited_spec(spec: Spec, parent: Parent) -> Spec:
    """Return the spec with what the parent decides: target, task, kinds, and one network.

    Raises `UserError` where the spec asks for something else.
    """
    table = spec.table
    check_same_target(table, parent.schema, do="Leave it out, or train anew without --from.")
    if spec.training.preset != "fast":
        raise UserError(
            "a training that goes on fits one network, and trees",
            expected='preset "fast"',
            got=f'"{spec.training.preset}"',
            do="Leave training.preset out, or train anew without --from.",
        )
    kinds = {column.name: column.kind for column in parent.schema.features}
    given = TableSpec(
        **_targets_of(parent.schema),
        weight_column=table.weight_column,
        drop=table.drop,
        kinds={**table.kinds, **kinds},
        missing=table.missing,
    )
    return msgspec.structs.replace(
        spec, table=given, training=_inherited_training(spec.training, parent.training)
    )


def _targets_of(schema: Schema) -> dict[str, Any]:
    """Return the keys of `[table]` that name a parent's targets."""
    target, more = schema.target, schema.more_targets
    if target.labels is not None:
        return {
            "target": target.labels.column,
            "labels_separator": target.labels.separator,
            "labels": tuple(each.name for each in schema.targets),
        }
    return {
        "target": target.name,
        "task": target.task,
        "positive_class": target.classes[-1] if target.task == "binary" else None,
        "classes": target.classes if target.ordered else (),
        "more_targets": tuple(further.name for further in more),
        "more_tasks": {further.name: further.task for further in more},
        "more_positive_classes": {
            further.name: further.classes[-1] for further in more if further.task == "binary"
        },
    }


def check_same_target(table: TableSpec, schema: Schema, *, do: str) -> None:
    """Raise `UserError`, with what to do, where a spec names other targets than a parent's."""
    known = _targets_of(schema)
    plain = msgspec.structs.asdict(table)
    for key in ("target", "task", "more_targets", "labels_separator", "labels", "positive_class"):
        wanted, own = plain[key], known.get(key)
        if key == "positive_class" and own is None:
            continue
        if wanted not in (None, (), own):
            words = [
                ", ".join(each) or "none" if isinstance(each, tuple) else repr(each)
                for each in (own, wanted)
            ]
            kind = "are" if key in ("more_targets", "labels") else "is"
            raise UserError(
                f"table.{key} {kind} not the parent's", expected=words[0], got=words[1], do=do
            )


def _inherited_training(training: TrainingSpec, parent: TrainingFile) -> TrainingSpec:
    """Return the parent's network, and its loss and class weights where none others are asked.

    Its sizes are the plan's (`inherited_plan`): written here they would be taken for the user's.

    Another loss is a change that a fit can follow, but for the scale of the answer: a count's is a
    logarithm.
    """
    earlier, size = parent.training, parent.plan.size
    changed: dict[str, Any] = {"network": parent.network}
    unset = TrainingSpec()
    sizes = {"width": size.width, "depth": size.depth, "members": size.members}
    for key, known in {"network": parent.network, **sizes, "folds": size.groups}.items():
        # A parent of few rows, or split by time, has other groups than the folds it was asked for.
        allowed = (_value(unset, key), known, _value(earlier, key))
        if _value(training, key) not in allowed:
            raise UserError(
                f"training.{key} is not the parent's, whose weights are gone on from",
                expected=repr(known),
                got=repr(_value(training, key)),
                do="Leave it out, or train anew without --from.",
            )
    if training.loss == "auto":
        changed |= {key: _value(earlier, key) for key in ("loss", "quantile", "focal_gamma")}
    elif "poisson" in (training.loss, earlier.loss) and training.loss != earlier.loss:
        raise UserError(
            "training.loss changes the scale of the parent's answers",
            expected=repr(earlier.loss),
            got=repr(training.loss),
            do="Leave it out, or train anew without --from.",
        )
    if training.target_transform not in (unset.target_transform, earlier.target_transform):
        raise UserError(
            "training.target_transform is not the parent's",
            expected=repr(earlier.target_transform),
            got=repr(training.target_transform),
            do="Leave it out, or train anew without --from.",
        )
    changed["target_transform"] = earlier.target_transform
    for key in ("metric", "class_weights"):
        if _value(training, key) == _value(unset, key):
            changed[key] = _value(earlier, key)
    return msgspec.structs.replace(training, **changed)


def _value(training: TrainingSpec, key: str) -> Any:
    return msgspec.structs.asdict(training)[key]


def check_columns(parent: Parent, columns: Sequence[str], dropped: Sequence[str]) -> None:
    """Raise `TableError` where a table lacks columns that the parent reads, or the spec drops some.

    It is asked before kinds are inferred, which are the parent's.
    """
    known = [column.name for column in parent.schema.features]
    gone = [name for name in known if name not in columns]
    if gone:
        raise TableError(
            "columns that the parent reads are missing",
            expected=", ".join(gone),
            do="Add them (empty cells will do), or train anew without --from.",
        )
    lost = [name for name in known if name in dropped]
    if lost:
        raise TableError(
            "columns that the parent reads are dropped",
            expected=", ".join(lost),
            do="Take them out of table.drop and --drop, or train anew without --from.",
        )


def check_inherits(parent: Parent, schema: Schema, rows: int) -> None:
    """Raise `TableError` where a table of `schema` does not continue the parent's.

    `rows` are those of training and validation.
    """
    kinds = {column.name: column.kind for column in schema.columns}
    for column in parent.schema.features:
        if kinds[column.name] != column.kind:
            raise TableError(
                f"the column {column.name!r} has changed its kind",
                expected=column.kind,
                got=kinds[column.name],
                do="Mend the column, or train anew without --from.",
            )
    for own, earlier in zip(schema.targets, parent.schema.targets, strict=True):
        if own.classes != earlier.classes:
            raise TableError(
                f"the target {own.name!r} has other classes than the parent's",
                expected=", ".join(earlier.classes),
                got=", ".join(own.classes),
                do="Train anew without --from, on rows of every class.",
            )
    fewest = parent.size.groups * ROWS_PER_FOLD
    if rows < fewest:
        raise TableError(
            "there are too few rows to go on with",
            expected=f"at least {fewest} for training and validation",
            got=str(rows),
            do="Wait for more rows, or add older ones.",
        )


def inherited_plan(plan: FitPlan, parent: Parent) -> FitPlan:
    """Return a plan with the parent's sizes, smaller steps and fewer epochs."""
    return msgspec.structs.replace(
        plan,
        size=parent.size,
        learning_rate=plan.learning_rate * STEP_SHARE,
        epochs=max(2, round(plan.epochs * EPOCHS_SHARE)),
    )


def inherit(parent: Parent, ground: Ground, plan: FitPlan) -> TabularNetwork:
    """Return the parent's network, grown by what is new in the table."""
    numbers = ground.tensors.numbers[ground.folds.fitted]
    kind, outputs = parent.training.network, ground.outputs
    growth = growth_between(parent.training.layout, ground.layout)

    def build() -> TabularNetwork:
        return build_network(
            kind, ground.layout, outputs, plan.size, numbers=numbers, seed=plan.seed
        )

    network = build()
    load_exactly(network, parent.weights)
    if growth != Growth.none(parent.training.layout):
        with torch.no_grad():
            network.grow(growth, build())
    return network
