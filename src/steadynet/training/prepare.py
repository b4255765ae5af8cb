"""Read a table into what training works on: schema, split, columns, target, findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from steadynet.errors import SpecError, TableError
from steadynet.spec.check import check_task
from steadynet.spec.model import Spec, TableSpec
from steadynet.table.cells import Cells, Part, to_cells
from steadynet.table.convert import Truth, encode_known_target, encode_target
from steadynet.table.findings import Finding
from steadynet.table.frame import keep_rows
from steadynet.table.infer import infer_schema
from steadynet.table.labels import split_labels
from steadynet.table.quality import JOINED_LABELS, check_quality
from steadynet.table.read import open_table
from steadynet.table.schema import Schema
from steadynet.table.snapshot import snapshot_sha256
from steadynet.table.split import Split, group_keys, split_rows, time_keys
from steadynet.table.target import has_target
from steadynet.table.weights import read_weights
from steadynet.training.answers import Columns
from steadynet.training.progress import Progress, Silent, StepStarted
from steadynet.training.samples import JUDGED_ROWS, sampled_words, thinned
from steadynet.training.shelf import STREAM_ABOVE_BYTES, Shelf

FEWEST_ORDERED = 3
"""Two classes are in order whatever they are."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The table as training sees it."""

    schema: Schema
    split: Split
    columns: Mapping[str, Cells]
    """The graph's inputs, (N, 1) each."""
    target: npt.NDArray[Any]
    """The main target's class indices int64 or numbers float64, (N,)."""
    more_truths: tuple[Truth, ...] = ()
    """The further targets', which rows may lack."""
    weights: npt.NDArray[np.float64] | None = None
    """What each row counts (N,), 1 on average; None: all the same."""
    together: npt.NDArray[np.int64] | None = None
    """Each row's group (N,), which no fold may divide; None: rows stand alone."""
    moments: npt.NDArray[np.float64] | None = None
    """Each row's time (N,), as far as rows are split by it; None: they are not."""
    findings: tuple[Finding, ...]
    snapshot: str
    """Digest of the table as it was read."""
    streamed: bool = False
    """Whether it is too large to be in memory as a whole."""

    @property
    def truths(self) -> tuple[Truth, ...]:
        """Every target's, the main one's first."""
        return (Truth(self.target, np.ones(len(self.target), bool)), *self.more_truths)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; none for a regression."""
        return self.schema.target.classes

    def weights_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        """Return the weights of some rows, None where all count the same."""
        return None if self.weights is None else self.weights[rows]

    @property
    def judged(self) -> Split:
        """The parts, of which at most `JUDGED_ROWS` rows each validate and test."""
        held = (thinned(rows, JUDGED_ROWS) for rows in self.split[1:])
        return Split(self.split.train, *held)

    def part(self, rows: npt.NDArray[np.int64]) -> Columns:
        """Return the columns of some rows."""
        return {name: cells[rows] for name, cells in self.columns.items()}

    def part_by_column(self, rows: npt.NDArray[np.int64]) -> Part:
        """Return the columns of some rows, of which none is held in memory."""
        return Part(self.columns, rows)


def prepare(
    source: object,
    spec: Spec,
    *,
    shelf: Shelf | None = None,
    stream_above: float = STREAM_ABOVE_BYTES,
    progress: Progress | None = None,
    check_columns: Callable[[Sequence[str]], None] = lambda _: None,
) -> Table:
    """Read, infer, split and check a table.

    A Parquet file whose cells would take more than `stream_above` bytes is read a column at a
    time, and laid out on the `shelf` where there is one. `check_columns` is asked for the names of
    its columns before anything is made of them. Raises `TableError` where it cannot be
    read or a check finds an error.
    """
    shown = progress or Silent()
    whole, said = open_table(source, spec.table, stream_above=stream_above)
    streamed = not isinstance(whole, pl.DataFrame)
    check_columns(whole.columns)
    labelled = split_labels(whole, _table_spec(spec))
    kept = has_target(labelled.frame, labelled.table)
    frame = keep_rows(labelled.frame, kept)
    without_target = whole.height - frame.height
    _tell(shown, streamed, "reading what the columns are")
    schema = _ordered(infer_schema(frame, labelled.table, spec.split, labelled.column), spec)
    check_task(spec.training, schema.target.task)
    split = split_rows(frame, schema, spec.split)
    _tell(shown, streamed, "checking for duplicates and leaks")
    findings = (*said, *labelled.findings, *check_quality(frame, schema, split))
    sampled = sampled_words(*(len(rows) for rows in split))
    if sampled:
        findings += (Finding(level="note", code="sampled", message=sampled),)
    if without_target:
        message = f"{without_target} rows have no target and are left out"
        findings += (Finding(level="note", code="no_target", message=message),)
    _refuse_errors(findings)
    weights = None
    if spec.table.weight_column is not None:
        weights = read_weights(frame, spec.table.weight_column, spec.table.missing)
        _check_weights(weights, split, spec.table.weight_column)
    _tell(shown, streamed, "laying out the columns")
    column, moment = spec.split.group_column, spec.split.time_column
    return Table(
        weights=weights,
        together=None if column is None else group_keys(frame, column, schema),
        moments=None if moment is None else time_keys(frame, moment, schema),
        schema=schema,
        split=split,
        columns=to_cells(frame, schema, shelf.empty if shelf and streamed else np.empty),
        target=encode_target(frame, schema),
        more_truths=tuple(
            encode_known_target(frame, schema.about(target)) for target in schema.more_targets
        ),
        findings=findings,
        snapshot=snapshot_sha256(whole),
        streamed=streamed,
    )


def _refuse_errors(findings: Sequence[Finding]) -> None:
    """Raise `TableError` where a check has found an error."""
    errors = [finding.message for finding in findings if finding.level == "error"]
    if errors:
        joined = (finding.message for finding in findings if finding.code == JOINED_LABELS)
        raise TableError(
            "the table cannot be trained on", got="; ".join(errors), do="; ".join(joined)
        )


def _check_weights(weights: npt.NDArray[np.float64], split: Split, name: str) -> None:
    """Raise `TableError` where a part of the table counts nothing."""
    for part, rows in split._asdict().items():
        if not weights[rows].sum() > 0:
            raise TableError(
                f"all rows of the {part} part have the weight 0",
                expected=f"rows with a weight above 0 in {name!r}",
            )


def _table_spec(spec: Spec) -> TableSpec:
    """Return what is declared of the table: an ordinal loss says that numbers are classes."""
    if spec.training.loss == "ordinal" and spec.table.task is None:
        return msgspec.structs.replace(spec.table, task="multiclass")
    return spec.table


def _ordered(schema: Schema, spec: Spec) -> Schema:
    """Return the schema; whole numbers as classes are ordered where the loss says so."""
    target = schema.target
    if spec.training.loss == "ordinal" and len(target.classes) < FEWEST_ORDERED:
        raise SpecError(
            "training.loss is ordinal, but the target has no order to learn",
            expected=f"at least {FEWEST_ORDERED} classes",
            got=str(len(target.classes)),
            do='Leave training.loss at "auto".',
        )
    whole = all(_is_whole(name) for name in target.classes)
    if spec.training.loss != "ordinal" or target.ordered or not whole:
        return schema
    return msgspec.structs.replace(schema, target=msgspec.structs.replace(target, ordered=True))


def _is_whole(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def _tell(shown: Progress, streamed: bool, step: str) -> None:
    """Tell of the steps that take long for a large table alone."""
    if streamed:
        shown.on(StepStarted(step=step))
