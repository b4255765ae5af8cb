"""Columns that name who or what a row is of, and come back."""

from __future__ import annotations

from steadynet.doctor.report import Symptom
from steadynet.spec.model import SplitSpec
from steadynet.table.schema import Schema

COMES_BACK = 0.01
"""Share of the rows whose identifier an earlier row has, from which it is worth a warning."""


def group_symptoms(schema: Schema, split: SplitSpec, rows: int) -> list[Symptom]:
    """Return a warning for identifiers that come back, where the split does not mind them."""
    if split.group_column is not None or split.time_column is not None:
        return []
    found = []
    for column in schema.columns:
        present = round(rows * (1 - column.missing_share))
        again = present - column.distinct
        if column.kind != "identifier" or not 2 < column.distinct < present:
            continue
        if again >= COMES_BACK * rows:
            found.append(
                Symptom(
                    level="warning",
                    code="groups",
                    message=f"{column.name!r} comes back: {column.distinct} values in {present} "
                    "rows, so that a random split puts rows of one into training and test",
                    column=column.name,
                    count=again,
                    do=f"--group-column {column.name!r} keeps them together, and the measures "
                    "honest.",
                )
            )
    return found
