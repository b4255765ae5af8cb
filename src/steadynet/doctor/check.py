"""Check a table: everything that training would say of it, and what only a closer look finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from steadynet.doctor.columns import column_symptoms, target_symptoms
from steadynet.doctor.duplicates import duplicate_symptoms, expected_repeats, group_like_rows
from steadynet.doctor.folds import FOLDS, MOST_ROWS, out_of_fold
from steadynet.doctor.groups import group_symptoms
from steadynet.doctor.labels import label_symptoms
from steadynet.doctor.report import Report, Symptom
from steadynet.doctor.shift import (
    HALVES,
    PARTS,
    TABLES,
    Cells,
    columns_in_order,
    order_symptoms,
    shift_symptoms,
)
from steadynet.features.fit import fit_features
from steadynet.features.run import run_features
from steadynet.spec.model import Spec, TableSpec
from steadynet.table.convert import encode_target, to_columns
from steadynet.table.findings import Finding
from steadynet.table.frame import Frame
from steadynet.table.infer import infer_schema
from steadynet.table.labels import split_labels
from steadynet.table.quality import check_quality
from steadynet.table.read import read_with_findings
from steadynet.table.schema import Schema
from steadynet.table.split import Split, split_rows
from steadynet.table.target import drop_rows_without_target
from steadynet.training.answers import Columns, take_rows
from steadynet.training.reference import tree_cells
from steadynet.training.threads import limited_threads, thread_count

Indices = npt.NDArray[np.int64]

ORDER = ("error", "warning", "note")
CODES = (
    *("leak", "leak_sum", "groups", "label_error", "conflicting_labels", "near_duplicates"),
    *("shift", "sentinel", "spelling_variants", "capped_target", "in_order"),
)
"""Of one level, these come first, in this order."""
REPEATED = frozenset({"duplicates_in_validation", "duplicates_in_test"})
"""What `near_duplicates` says too, and more."""


def check_table(
    source: object,
    spec: Spec,
    *,
    compare: object | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Return everything that is wrong or odd about a table.

    `source` is what training takes; `compare` another table of the same columns, as one of newer
    rows, to look for a shift. `tell` hears each step. Raises `TableError` and `UserError` where the
    table cannot be read at all.
    """
    tell("reading the table")
    read = read_with_findings(source, spec.table)
    labelled = split_labels(read.frame, spec.table)
    numbers, frame = _numbered(labelled.frame, labelled.table)
    schema = infer_schema(frame, labelled.table, spec.split, labelled.column)
    split = split_rows(frame, schema, spec.split)
    findings = (*read.findings, *labelled.findings, *check_quality(frame, schema, split))
    columns, target = to_columns(frame, schema), encode_target(frame, schema)

    tell("looking at the columns")
    symptoms = [_symptom(finding) for finding in findings]
    symptoms += column_symptoms(columns, schema, numbers)
    symptoms += group_symptoms(schema, spec.split, len(target))
    if not schema.target.classes:
        symptoms += target_symptoms(target.astype(np.float64), schema.target.name, numbers)
    together = group_like_rows(columns, schema)
    symptoms += duplicate_symptoms(
        together, target, numbers, schema, split, expected_repeats(columns, schema)
    )

    cells = _cells(columns, schema)
    categories = [column.name for column in schema.features if column.kind == "category"]
    with limited_threads(thread_count(spec.training)):
        symptoms += _label_symptoms(cells, target, together, numbers, schema, tell)
        symptoms += _order_symptoms(cells, categories, split, spec, tell)
    if compare is not None:
        tell("comparing with the other table")
        with limited_threads(thread_count(spec.training)):
            symptoms += _compare(columns, schema, compare, spec)
    return Report(
        rows=read.frame.height,
        columns=read.frame.width,
        target=schema.target.name,
        task=schema.target.task,
        symptoms=_ranked(symptoms),
        sampled=MOST_ROWS if len(target) * (FOLDS - 1) / FOLDS > MOST_ROWS else 0,
    )


def _numbered(frame: Frame, table: TableSpec) -> tuple[Indices, pl.DataFrame]:
    """Return the rows that have a target with their numbers in the file, from 1."""
    name = "row"
    while name in frame.columns:
        name += "_"
    assert isinstance(frame, pl.DataFrame)  # the doctor reads tables whole
    kept, _ = drop_rows_without_target(frame.with_row_index(name, offset=1), table)
    return kept[name].to_numpy().astype(np.int64), kept.drop(name)


def _label_symptoms(
    cells: Cells,
    target: npt.NDArray[np.generic],
    together: Indices,
    numbers: Indices,
    schema: Schema,
    tell: Callable[[str], None],
) -> list[Symptom]:
    """Return the likely label errors, where every fold can hold every class."""
    classes = schema.target.classes
    smallest = np.bincount(target.astype(np.int64)).min() if classes else FOLDS
    if smallest < FOLDS or len(np.unique(together)) < 2 * FOLDS:
        return []
    tell(f"looking for wrong labels: {FOLDS} folds of trees")
    answers = out_of_fold(cells.values, target, together, classes=len(classes))
    return label_symptoms(answers, target, numbers, classes)


def _order_symptoms(
    cells: Cells,
    categories: Sequence[str],
    split: Split,
    spec: Spec,
    tell: Callable[[str], None],
) -> list[Symptom]:
    """Return a shift between the parts of a split by time or group, else between the halves."""
    rows = len(cells.values)
    if rows < 2 * FOLDS:
        return []
    planned = spec.split.time_column or spec.split.group_column
    if planned is not None:
        tell("looking for a shift between the training and the test part")
        both = np.concatenate([split.train, split.test])
        second = np.arange(len(both)) >= len(split.train)
        chosen = Cells(cells.values[both], cells.names).without([planned])
        return shift_symptoms(chosen, second, PARTS)
    tell("looking for a shift in the order of the rows")
    late = np.arange(rows) >= rows // 2
    ordered = columns_in_order(cells.without(categories))
    return order_symptoms(ordered) + shift_symptoms(cells.without(ordered), late, HALVES)


def _cells(columns: Columns, schema: Schema) -> Cells:
    """Return what trees take."""
    features = fit_features(columns, schema)
    tensors = run_features(features, columns)
    cells, _ = tree_cells(tensors, columns, schema, features.layout)
    moments = {column.name for column in schema.features if column.kind == "datetime"}
    names = [column.name for column in schema.features if column.kind in ("number", "boolean")]
    names += [source for source in features.layout.number_sources if source in moments]
    names += list(features.layout.categories)
    return Cells(cells, names)


def _compare(columns: Columns, schema: Schema, other: object, spec: Spec) -> list[Symptom]:
    frame = read_with_findings(other, spec.table).frame
    second = to_columns(frame, schema)
    random = np.random.default_rng(0)

    def some(table: Columns) -> Columns:
        rows = len(next(iter(table.values())))
        return take_rows(table, np.sort(random.permutation(rows)[:MOST_ROWS]))

    first, second = some(columns), some(second)
    both = {name: np.concatenate([values, second[name]]) for name, values in first.items()}
    cells = _cells(both, schema)
    late = np.arange(len(cells.values)) >= len(next(iter(first.values())))
    return shift_symptoms(cells, late, TABLES)


def _symptom(finding: Finding) -> Symptom:
    return Symptom(
        level=finding.level, code=finding.code, message=finding.message, column=finding.column
    )


def _ranked(symptoms: list[Symptom]) -> tuple[Symptom, ...]:
    """Return the symptoms, the most harmful first, none of which says what another one says."""
    codes = {symptom.code for symptom in symptoms}
    grouped = {symptom.column for symptom in symptoms if symptom.code == "groups"}
    kept = [
        symptom
        for symptom in symptoms
        if not (symptom.code in REPEATED and "near_duplicates" in codes)
        and not (symptom.code == "identifier_left_out" and symptom.column in grouped)
    ]
    return tuple(sorted(kept, key=_harm))


def _harm(symptom: Symptom) -> tuple[int, int, int]:
    place = CODES.index(symptom.code) if symptom.code in CODES else len(CODES)
    return ORDER.index(symptom.level), place, -symptom.count
