"""The table that a retrain trains on: labelled rows, spelled as the retrain's spec reads them."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import IO

from steadynet.control.labels import truth_of
from steadynet.control.retrain_plan import RetrainPlan, target_column, weight_column
from steadynet.control.store import LabelledRow
from steadynet.table.schema import MISSING_DATETIME, Column, Schema, Target
from steadynet.table.values import number_text, scalar


def write_table(
    file: IO[str], schema: Schema, rows: Sequence[LabelledRow], plan: RetrainPlan
) -> None:
    """Write labelled rows as CSV, to be read by the spec that `retrain_spec` gives.

    A label that is no number is left out where one is wanted, and so is a text of labels of which
    none is known.
    """
    columns = schema.features
    names = [*(column.name for column in columns), target_column(schema)]
    heal = plan.spec.heal
    weighted = heal.influenced == "weight" and plan.way != "recalibrate"
    writer = csv.writer(file)
    writer.writerow([*names, weight_column(schema)] if weighted else names)
    for item in rows:
        label = _label_text(schema.target, item.label)
        if label is None:
            continue
        cells = [
            _cell(column, item.row.row.get(column.name), schema.missing_spellings)
            for column in columns
        ]
        cells.append(label)
        if weighted:
            cells.append(repr(heal.influenced_weight if item.influenced else 1.0))
        writer.writerow(cells)


def _cell(column: Column, value: object, missing: tuple[str, ...]) -> str:
    """Return a value as the spec of the retrain reads it, whatever way the caller had sent it."""
    known = scalar(column, value, missing)
    if isinstance(known, str):
        return known
    if isinstance(known, int):
        return "" if known == MISSING_DATETIME else _iso(known)
    if column.kind == "number" or math.isnan(known):
        return number_text(known, column.number_format)
    return "true" if known else "false"


def _iso(seconds: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _label_text(target: Target, label: str | float) -> str | None:
    """Return a label as the spec of the retrain reads it, None where it does not fit the target."""
    if target.task == "regression":
        truth = truth_of(target, label)
        return None if truth is None else number_text(truth, target.number_format)
    if target.labels is not None and truth_of(target, label) is None:
        return None
    whole = isinstance(label, float) and label.is_integer()
    if whole and str(label) not in target.classes:
        return str(int(label))
    return str(label)
