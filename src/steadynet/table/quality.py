"""Checks of a table before it is trained on. They find; whoever trains decides."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from steadynet.table.convert import encode_known_target, encode_target
from steadynet.table.findings import Finding
from steadynet.table.frame import Frame, keep_rows
from steadynet.table.labels import joined_words
from steadynet.table.leak import find_leaks
from steadynet.table.schema import Schema
from steadynet.table.split import Split

FEW_ROWS = 200
RARE_CLASS_ROWS = 20
MOSTLY_MISSING = 0.5
NEARLY_ALL_MISSING = 0.99
DUPLICATES_THAT_MATTER = 0.01
"""Share of a part's rows from which duplicates are worth a warning."""

HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd, with bits well mixed (Knuth's multiplicative hashing)."""
JOINED_LABELS = "joined_labels"
"""Code of the finding that classes look like several labels."""


__all__ = ["JOINED_LABELS", "Finding", "check_quality", "errors_of"]


def check_quality(frame: Frame, schema: Schema, split: Split) -> tuple[Finding, ...]:
    """Return what is wrong or odd about a table, the worst first.

    Errors must stop training: too few rows, a class that the training part lacks. Warnings:
    rows that occur in two parts, columns that give the target away, rare classes, few rows,
    columns mostly missing, texts left out. Notes: other columns left out.
    """
    target = encode_target(frame, schema)
    findings = [
        *_check_rows(frame),
        *_check_labels(frame, schema),
        *_check_classes(target, schema, split),
        *_check_duplicates(frame, schema, split),
        *find_leaks(frame, schema, target),
        *_check_columns(schema),
    ]
    for further in schema.more_targets:
        findings += _check_further(frame, schema.about(further), split)
    order = ("error", "warning", "note")
    return tuple(sorted(findings, key=lambda finding: order.index(finding.level)))


def errors_of(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings that must stop training."""
    return tuple(finding for finding in findings if finding.level == "error")


def _check_further(frame: Frame, schema: Schema, split: Split) -> list[Finding]:
    """Return what is wrong with a further target, looking at the rows that have it."""
    target, truth = schema.target, encode_known_target(frame, schema)
    known = Split(*(truth.among(rows) for rows in split))
    findings = [
        Finding(
            level="error",
            code="target_not_in_part",
            column=target.name,
            message=f"no row of the {part} part has a value of the further target {target.name!r}",
        )
        for part, rows in known._asdict().items()
        if len(rows) == 0
    ]
    if findings:
        return findings
    findings += _check_classes(truth.values, schema, known, of=f" of {target.name!r}")
    findings += find_leaks(
        keep_rows(frame, pl.Series(truth.known)), schema, truth.values[truth.rows], main=False
    )
    if not truth.known.all():
        message = (
            f"{int(np.sum(~truth.known))} rows have no value of {target.name!r}: they are fitted"
            " to the other targets alone"
        )
        note = Finding(level="note", code="target_missing", column=target.name, message=message)
        findings.append(note)
    return findings


def _check_rows(frame: Frame) -> list[Finding]:
    rows = frame.height
    if rows < FEW_ROWS:
        message = (
            f"the table has only {rows} rows: metrics will be uncertain; {FEW_ROWS} or more"
            " make a network worth its while"
        )
        return [Finding(level="warning", code="few_rows", message=message)]
    return []


def _check_labels(frame: Frame, schema: Schema) -> list[Finding]:
    """Say that classes look like labels that are joined."""
    target = schema.target
    if target.task != "multiclass":
        return []
    message = joined_words(frame[target.name], schema.missing_spellings)
    if not message:
        return []
    return [Finding(level="warning", code=JOINED_LABELS, column=target.name, message=message)]


def _check_classes(
    target: npt.NDArray[np.generic], schema: Schema, split: Split, of: str = ""
) -> list[Finding]:
    """Look at the classes' rows, counting those of the split's parts alone."""
    if schema.target.task == "regression":
        return []
    classes = schema.target.classes
    indices = target.astype(np.int64)
    in_table = np.bincount(indices[np.concatenate(split)], minlength=len(classes))
    in_parts = {
        part: np.bincount(indices[rows], minlength=len(classes))
        for part, rows in split._asdict().items()
    }
    findings = []
    for place, name in enumerate(classes):
        lacking = [part for part, counts in in_parts.items() if counts[place] == 0]
        if "train" in lacking:
            message = f"no training row has the class {name!r}{of} ({in_table[place]} in the table)"
            findings.append(Finding(level="error", code="class_not_in_training", message=message))
        elif in_table[place] < RARE_CLASS_ROWS or lacking:
            where = f", none of them in {' and '.join(lacking)}" if lacking else ""
            message = (
                f"the class {name!r}{of} has only {in_table[place]} rows{where}:"
                " its answers and their measures are uncertain"
            )
            findings.append(Finding(level="warning", code="rare_class", message=message))
    return findings


def _check_duplicates(frame: Frame, schema: Schema, split: Split) -> list[Finding]:
    """Count the rows of a part whose features and target occur in an earlier part as well."""
    names = [column.name for column in schema.features] + [schema.target.name]
    hashes = _hash_rows(frame, names)
    seen = hashes[split.train]
    findings = []
    for part, rows in (("validation", split.validation), ("test", split.test)):
        count = int(np.isin(hashes[rows], seen).sum())
        if count:
            share = count / len(rows)
            many = share >= DUPLICATES_THAT_MATTER
            message = (
                f"{count} rows of the {part} part ({share:.1%}) occur in the training part too"
            )
            if many:
                message += (
                    ": its metrics may look better than they are. Remove duplicates, or keep them"
                    " together with split.group_column"
                )
            findings.append(
                Finding(
                    level="warning" if many else "note",
                    code=f"duplicates_in_{part}",
                    message=message,
                )
            )
    return findings


def _hash_rows(frame: Frame, names: list[str]) -> npt.NDArray[np.uint64]:
    """Return a hash of each row (N,), from one column after the other."""
    hashes = np.zeros(frame.height, np.uint64)
    for name in names:
        own = frame[name].hash(seed=0).to_numpy()
        hashes = (hashes ^ own) * HASH_FACTOR
        hashes ^= hashes >> np.uint64(32)
    return hashes


def _check_columns(schema: Schema) -> list[Finding]:
    findings = []
    for column in schema.columns:
        if column.kind == "text":
            findings.append(
                Finding(
                    level="warning",
                    code="text_left_out",
                    column=column.name,
                    message=f"{column.name!r} is left out: {column.reason}",
                )
            )
        elif not column.is_feature:
            findings.append(
                Finding(
                    level="note",
                    code=f"{column.kind}_left_out",
                    column=column.name,
                    message=f"{column.name!r} is left out: {column.reason}",
                )
            )
        elif column.missing_share > MOSTLY_MISSING:
            nearly = column.missing_share >= NEARLY_ALL_MISSING
            findings.append(
                Finding(
                    level="warning",
                    code="mostly_missing",
                    column=column.name,
                    message=f"{column.name!r} has no value in {column.missing_share:.1%} of rows"
                    + (": consider to drop it" if nearly else ""),
                )
            )
    return findings
