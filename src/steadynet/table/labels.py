"""A target column of several labels a row, as "red|blue": each label becomes a target of its own.

A cell without a label says that none of them holds; a missing one says nothing, and its row is left
out. In a CSV file an empty cell is the former, a spelling of `table.missing` the latter; elsewhere
a null is missing and an empty text is not. Labels come the most frequent first, and the first is
the main target.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
import polars as pl

from steadynet.errors import TableError
from steadynet.spec.model import TableSpec
from steadynet.spec.names import did_you_mean
from steadynet.table.findings import Finding
from steadynet.table.frame import Frame
from steadynet.table.parse import parse_categories
from steadynet.table.read import read_table
from steadynet.table.schema import LabelColumn, Schema
from steadynet.table.values import NO_LABEL, labels_in

FEWEST_ROWS = 20
"""A label in fewer rows is not predicted unless it is named: three parts of them say nothing."""
MOST_LABELS = 50
"""Each has trees, calibration, references and pages of the card of its own."""
MOST_KNOWN = 1000
"""Labels that a bundle remembers besides those that it predicts."""
MOST_NAMED = 10
"""Labels that a message lists."""
GUESSED_SEPARATORS = ("|", ";", ",", "/", "&")
GUESSED_SHARE = 0.05
"""Of the cells at least so many must hold several labels before a column looks like it."""
GUESSED_ROWS = 3
OFTEN = 0.95
"""Of all labels in all cells so many must be of those that are in `GUESSED_ROWS` cells."""


class Labelled(NamedTuple):
    """A table whose labels are columns of yes and no, and the spec that speaks of those."""

    frame: Frame
    table: TableSpec
    column: LabelColumn | None
    """None where the target is no column of labels."""
    findings: tuple[Finding, ...]


def split_labels(frame: Frame, table: TableSpec) -> Labelled:
    """Return a training table with a column for each label instead of the target's.

    Nothing changes without `table.labels_separator`. Raises `TableError` where the target is not
    there or no text, where there are too few or too many labels, and where one has the name of
    another column.
    """
    separator = table.labels_separator
    if separator is None or table.target is None or table.target not in frame.columns:
        return Labelled(frame, table, None, ())
    if not isinstance(frame, pl.DataFrame):
        raise TableError(
            "the table is too large to split its labels",
            expected="a table that is in memory as a whole",
            do="Make a column of yes and no for each label, and name them in more_targets.",
        )
    cells = label_cells(frame[table.target], separator, table.missing)
    counts = _counts(cells)
    chosen, findings = _chosen(counts, cells.drop_nulls().len(), table)
    if not (cells.list.len() > 1).any():
        message = (
            f"no cell of {table.target!r} has several labels: is {separator!r} what joins them?"
        )
        findings += (Finding(level="warning", code="single_labels", message=message),)
    known = tuple(counts["label"].head(MOST_KNOWN).to_list())
    column = LabelColumn(column=table.target, separator=separator, known=known)
    _check_clashes(chosen, [name for name in frame.columns if name != table.target])
    wide = frame.drop(table.target).with_columns(_yes_or_no(cells, label) for label in chosen)
    first, *more = chosen
    alone = msgspec.structs.replace(
        table, target=first, more_targets=tuple(more), labels_separator=None, labels=(), task=None
    )
    return Labelled(wide, alone, column, findings)


def read_labelled(source: object, schema: Schema) -> pl.DataFrame:
    """Return a later table with the targets of a schema as training had them.

    Where they are labels and the table has their column, it has a column for each instead. Raises
    `TableError` as `read_table` does.
    """
    labels = schema.target.labels
    if labels is None:
        plain = TableSpec(target=schema.target.name, missing=schema.missing_spellings)
        return read_table(source, plain)
    spec = TableSpec(
        target=labels.column, labels_separator=labels.separator, missing=schema.missing_spellings
    )
    frame = read_table(source, spec)
    if labels.column not in frame.columns:
        return frame
    cells = label_cells(frame[labels.column], labels.separator, spec.missing)
    return frame.with_columns(_yes_or_no(cells, target.name) for target in schema.targets)


def new_labels(frame: pl.DataFrame, schema: Schema) -> tuple[int, int]:
    """Return how many labels of a later table training has not seen, and in how many rows."""
    labels = schema.target.labels
    if labels is None or labels.column not in frame.columns:
        return 0, 0
    cells = label_cells(frame[labels.column], labels.separator, schema.missing_spellings)
    new = cells.list.set_difference(list(labels.known)).drop_nulls()
    return new.explode().drop_nulls().n_unique(), int((new.list.len() > 0).sum())


def label_cells(series: pl.Series, separator: str, missing: Collection[str]) -> pl.Series:
    """Return each row's labels (N,) as a list without doubles, null where they are not known."""
    words = [word for word in missing if word and word.lower() != NO_LABEL]
    texts, wrong = parse_categories(series, words)
    if wrong:
        raise TableError(
            f"the target {series.name!r} cannot be split into labels",
            expected="texts",
            got=f"data type {series.dtype}",
        )
    distinct = texts.unique().drop_nulls()
    split = pl.Series([list(labels_in(text, separator)) for text in distinct], dtype=_LISTS)
    found = texts.to_frame("text").join(
        pl.DataFrame({"text": distinct, "labels": split}), on="text", how="left"
    )
    return found["labels"]


_LISTS = pl.List(pl.String)


def guess_separator(series: pl.Series, missing: Collection[str]) -> tuple[str, int] | None:
    """Return what joins several labels in a column of texts, and how many; None where nothing does.

    It must join words that come back in other company: fewer labels than different cells, and few
    of them rare.
    """
    if series.dtype != pl.String:
        return None
    texts = parse_categories(series, missing).values.drop_nulls()
    for separator in GUESSED_SEPARATORS:
        joined = texts.str.contains(separator, literal=True).sum()
        if len(texts) == 0 or joined < max(GUESSED_ROWS, GUESSED_SHARE * len(texts)):
            continue
        counts = _counts(label_cells(texts, separator, missing))
        rows = counts["rows"].to_numpy()
        often = rows[rows >= GUESSED_ROWS].sum() >= OFTEN * rows.sum()
        if 2 <= counts.height < texts.n_unique() and often:
            return separator, counts.height
    return None


def joined_words(series: pl.Series, missing: Collection[str]) -> str:
    """Say that a target looks like labels that are joined, and what to do; empty where it does not.

    It is for a target that is taken for classes.
    """
    guessed = guess_separator(series, missing)
    if guessed is None:
        return ""
    separator, count = guessed
    return (
        f"the target {series.name!r} looks like {count} labels joined by {separator!r}, of which a"
        f' row may have several: table.labels_separator = "{separator}" predicts each'
    )


def _counts(cells: pl.Series) -> pl.DataFrame:
    """Return the columns `label` and `rows`, the most frequent label first."""
    flat = cells.drop_nulls().explode().drop_nulls()
    return (
        flat.to_frame("label")
        .group_by("label")
        .len("rows")
        .sort(["rows", "label"], descending=[True, False])
    )


def _chosen(
    counts: pl.DataFrame, rows: int, table: TableSpec
) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """Return the labels to predict, and what there is to say about the others."""
    found = dict(zip(counts["label"].to_list(), counts["rows"].to_list(), strict=True))
    if table.labels:
        for label in table.labels:
            if label not in found:
                raise TableError(
                    f"table.labels names {label!r}, which no row has",
                    expected=f"one of the {len(found)} labels of {table.target!r}",
                    do=did_you_mean(label, tuple(found)),
                )
        chosen = table.labels
    else:
        everywhere = [label for label, count in found.items() if count == rows]
        rare = [label for label, count in found.items() if count < FEWEST_ROWS]
        chosen = tuple(label for label in found if label not in {*rare, *everywhere})
    left = [label for label in found if label not in chosen]
    if not 2 <= len(chosen) <= MOST_LABELS:
        raise TableError(
            f"the labels of {table.target!r} are too {'many' if len(chosen) > 2 else 'few'}",
            expected=f"2 to {MOST_LABELS} labels that are in {FEWEST_ROWS} rows or more each",
            got=f"{len(chosen)} of {len(found)}",
            do="Name those to predict in table.labels."
            if len(chosen) > 2
            else "Check table.labels_separator, or leave it out.",
        )
    said = [
        Finding(
            level="note",
            code="labels",
            message=f"{table.target!r} is {len(chosen)} labels a row may have, the main one "
            f"{chosen[0]!r}; empty cells have none of them",
        )
    ]
    if left:
        shown = ", ".join(map(repr, left[:MOST_NAMED]))
        more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
        why = "not named in table.labels" if table.labels else f"in fewer than {FEWEST_ROWS} rows"
        why = why if table.labels else f"{why}, or in all"
        are = "label is" if len(left) == 1 else "labels are"
        message = f"{len(left)} {are} not predicted, being {why}: {shown}{more}"
        said.append(Finding(level="warning", code="labels_left_out", message=message))
    return chosen, tuple(said)


def _check_clashes(labels: Sequence[str], columns: Collection[str]) -> None:
    for label in labels:
        if label in columns:
            raise TableError(
                f"a label has the name of a column, {label!r}",
                expected="labels and columns of different names",
                do="Rename the column, or name the other labels in table.labels.",
            )


def _yes_or_no(cells: pl.Series, label: str) -> pl.Series:
    """Return "yes" or "no" by row, null where the labels are not known."""
    has = cells.list.contains(label)
    return has.replace_strict({True: "yes", False: "no"}, return_dtype=pl.String).alias(label)
