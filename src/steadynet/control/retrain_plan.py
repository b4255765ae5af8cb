"""What a retrain is told and what it answers, and how its rows are divided. Pure.

Rows are divided by a hash of their id: the rows held out for the gate are never trained on, and
every division of the same rows is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from steadynet.bundle.manifest import Manifest
from steadynet.control.policy import Way
from steadynet.control.store import LabelledRow
from steadynet.rollout.route import Endpoint
from steadynet.spec.kinds import Kind
from steadynet.spec.model import Spec, TableSpec, TrainingSpec
from steadynet.statistics.moments import Moments
from steadynet.table.examples import write_example, write_number
from steadynet.table.schema import Schema

PLAN = "plan.json"
TRAIN_TABLE = "train.csv"
HOLDOUT = "holdout.jsonl"
SPEC = "steadynet.toml"
ANSWER = "train.json"

FEWEST_HELD_OUT = 50


class RetrainPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a retrain's own process needs."""

    model: str
    home: str
    champion: Endpoint
    reason: str
    way: Way = "retrain"
    now: float = 0.0
    """When it was decided on, seconds UTC."""
    spec: Spec
    since: float | None
    """Rows answered since then (seconds UTC) show the world as it is; None: all rows do."""
    last_join: int
    """Number of the newest labelled row that may be used."""


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """How challenger and champion compare on the same held-out rows."""

    passed: bool
    sentence: str
    rows: int
    challenger: dict[str, float]
    """Metrics on the held-out rows."""
    champion: dict[str, float]
    difference: Moments
    """Challenger's loss minus the champion's, row by row."""
    low: float
    """Lower end of the mean difference's interval."""
    high: float
    tolerance: float
    """Mean difference that does not matter."""


class RetrainOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a retrain."""

    succeeded: bool
    reason: str
    version: str = ""
    trained_rows: int = 0
    left_out: int = 0
    """Rows whose label the answer had brought about."""
    cpu_s: float = 0.0
    """Processor time of the training, seconds."""
    gate: GateReport | None = None


class Division(msgspec.Struct, frozen=True, kw_only=True):
    """Which labelled rows train and which are kept for the gate."""

    train: tuple[LabelledRow, ...]
    holdout: tuple[LabelledRow, ...]
    left_out: int = 0
    """Rows whose label the answer had brought about."""


def divide(rows: Sequence[LabelledRow], plan: RetrainPlan) -> Division:
    """Divide labelled rows, oldest first, as the plan's heal spec says.

    A share of the *recent* rows is held out, so that the gate asks about the world as it is; the
    others train. Rows from before the change train only as far as the recent ones are few: up to
    twice `min_labelled_rows` in all, or `old_rows`. Rows whose label the answer brought about
    never judge, and train as `heal.influenced` says; a way that knows no weights leaves them out.
    """
    heal = plan.spec.heal
    if heal.window_s is not None:
        rows = [item for item in rows if item.row.at >= plan.now - heal.window_s]
    weighted = heal.influenced == "weight" and plan.way != "recalibrate"
    used = [item for item in rows if not item.influenced or weighted or heal.influenced == "keep"]
    start = 0
    if plan.since is not None:
        since = plan.since
        start = next((n for n, item in enumerate(used) if item.row.at >= since), len(used))
    recent, older = used[start:], used[:start]
    fill = heal.old_rows
    if fill is None:
        fill = max(0, 2 * heal.min_labelled_rows - len(recent))
    filled = older[len(older) - min(fill, len(older)) :]
    if not recent:
        recent, filled = filled, []
    judges = [
        item
        for item in recent
        if _unit(item.row.id) < heal.holdout_share
        and (not item.influenced or heal.influenced == "keep")
    ]
    held = {item.number for item in judges}
    kept = [item for item in recent if item.number not in held]
    return Division(train=(*filled, *kept), holdout=tuple(judges), left_out=len(rows) - len(used))


def retrain_spec(plan: RetrainPlan, champion: Manifest) -> Spec:
    """Return the spec that trains a successor: the champion's columns, kinds, target, classes.

    Nothing is left to inference, since a column of few rows could look like another kind.
    """
    schema, target = champion.schema, champion.schema.target
    kinds: dict[str, Kind] = {column.name: column.kind for column in schema.features}
    # The rows to train on are written plainly, but callers go on as they did.
    examples = {column.name: write_example(column) for column in schema.features}
    examples[target.name] = write_number(target.number_format)
    labels = target.labels
    table = TableSpec(
        target=target_column(schema),
        task=target.task,
        positive_class=target.classes[-1] if target.task == "binary" and not labels else None,
        classes=target.classes if target.ordered else (),
        labels_separator=labels.separator if labels else None,
        labels=tuple(each.name for each in schema.targets) if labels else (),
        kinds=kinds,
        missing=schema.missing_spellings,
        more_missing={
            column.name: column.number_format.missing
            for column in schema.features
            if column.number_format.missing
        },
        written={name: example for name, example in examples.items() if example},
    )
    split = msgspec.structs.replace(plan.spec.split, time_column=None, group_column=None)
    training = msgspec.structs.replace(plan.spec.training, threads=1)
    if plan.way != "retrain":
        # What is gone on from decides what a fit from nothing would choose.
        unset = TrainingSpec()
        training = msgspec.structs.replace(
            training,
            preset="fast",
            distill=False,
            search_trials=0,
            network=unset.network,
            width=unset.width,
            depth=unset.depth,
            members=unset.members,
            folds=unset.folds,
        )
    if plan.spec.heal.influenced == "weight" and plan.way != "recalibrate":
        table = msgspec.structs.replace(table, weight_column=weight_column(schema))
    return msgspec.structs.replace(
        plan.spec, name=plan.model, table=table, split=split, training=training
    )


def weight_column(schema: Schema) -> str:
    """Return the name of the column of weights: one that no column of the table has."""
    name = "row_weight"
    while name in {target_column(schema), *(column.name for column in schema.features)}:
        name += "_"
    return name


def target_column(schema: Schema) -> str:
    """Return the name of the column that labels of rows are written to."""
    labels = schema.target.labels
    return schema.target.name if labels is None else labels.column


def lacking_columns(spec: Spec, champion: Manifest) -> str:
    """Return why the kept rows cannot train a successor; empty where they can.

    What `serve.redact` names was never written down, so a successor would learn that it is missing.
    """
    lacking = [
        column.name for column in champion.schema.features if column.name in spec.serve.redact
    ]
    if not lacking:
        return ""
    return (
        f"the kept rows lack {', '.join(map(repr, lacking))}, which serve.redact keeps out of them;"
        " expected every column that the champion reads. Train on a table that has them:"
        " steadynet train TABLE --name NAME"
    ).replace("NAME", champion.name)


def _unit(row_id: str) -> float:
    """Map an id to [0, 1), evenly."""
    return int.from_bytes(hashlib.sha256(row_id.encode()).digest()[:8], "big") / 2**64
