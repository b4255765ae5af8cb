"""What each column of a table is, and why. The reasons are written for people."""

from __future__ import annotations

import msgspec
import polars as pl

from steadynet.errors import TableError
from steadynet.spec.model import SplitSpec, TableSpec
from steadynet.spec.names import did_you_mean
from steadynet.table import guess
from steadynet.table.convert import parse_column
from steadynet.table.dates import find_date_order
from steadynet.table.examples import declared_format
from steadynet.table.frame import Frame
from steadynet.table.guess import Guess
from steadynet.table.number_texts import find_number_format
from steadynet.table.parse import parse_categories
from steadynet.table.schema import (
    FEATURE_KINDS,
    PLAIN,
    Column,
    DateOrder,
    LabelColumn,
    NumberFormat,
    Schema,
    input_name,
    output_names,
)
from steadynet.table.target import infer_more_targets, infer_target
from steadynet.table.values import EXPECTED

RARE_ROWS = 3
"""A category seen in fewer rows is not known, in columns with many categories."""

MANY_CATEGORIES = 20
MAX_CATEGORIES = 1000

READABLE_NESTED = (pl.List, pl.Array, pl.Struct, pl.Object, pl.Binary)


def infer_schema(
    frame: Frame, table: TableSpec, split: SplitSpec, labels: LabelColumn | None = None
) -> Schema:
    """Return the kind of every column but the targets, with its reason, and the targets.

    `labels` is the column that the targets are labels of, where they are (`table.labels`).
    Raises `TableError` for a name in the spec that is no column, a kind that the values refuse,
    a target that is absent, all missing or has one value only, and a table without any feature.
    """
    target = msgspec.structs.replace(infer_target(frame, table), labels=labels)
    _check_names(frame, table, split)
    more = infer_more_targets(frame, table)
    targets = {target.name, *table.more_targets}
    columns = tuple(
        infer_column(frame[name], table, split) for name in frame.columns if name not in targets
    )
    schema = Schema(
        columns=columns, target=target, more_targets=more, missing_spellings=table.missing
    )
    _check_outputs(schema)
    if not schema.features:
        raise TableError(
            "no column is left to predict from",
            expected="at least one number, boolean, category or date column",
            got=_list_kinds(columns) or "no column beside the target",
            do='Set the kind of a column in [table.kinds], as `age = "number"`.',
        )
    return schema


def _list_kinds(columns: tuple[Column, ...]) -> str:
    kinds = [column.kind for column in columns]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))


def infer_column(series: pl.Series, table: TableSpec, split: SplitSpec) -> Column:
    """Return one column with its kind, its reason and what its values look like."""
    found = _declared(series.name, table, split) or _guess(series, table)
    if found.kind not in FEATURE_KINDS:
        return _describe_left_out(series, found, table)
    return _describe_feature(
        series,
        found,
        table,
        declared=series.name in table.kinds or series.name in table.more_missing,
    )


def _check_names(frame: Frame, table: TableSpec, split: SplitSpec) -> None:
    named = [(name, "table.drop") for name in table.drop]
    named += [(name, "table.kinds") for name in table.kinds]
    named += [(name, "table.written") for name in table.written]
    named += [(name, "table.more_missing") for name in table.more_missing]
    named += [(split.time_column, "split.time_column")] if split.time_column else []
    named += [(table.weight_column, "table.weight_column")] if table.weight_column else []
    named += [(split.group_column, "split.group_column")] if split.group_column else []
    for name, place in named:
        if name not in frame.columns:
            raise TableError(
                f"{place} names a column that the table does not have",
                got=repr(name),
                do=did_you_mean(name, frame.columns)
                or f"Add the column (empty cells will do), or take it out of {place}.",
            )
        may_be_target = place in ("split.time_column", "table.written")
        if name in (table.target, *table.more_targets) and not may_be_target:
            which = "the" if name == table.target else "a further"
            raise TableError(f"{place} names {name!r}, which is {which} target")


def _check_outputs(schema: Schema) -> None:
    """Refuse a feature whose input of the graph would have an output's name."""
    taken = set(output_names(schema))
    for column in schema.features:
        if input_name(column.name) in taken:
            raise TableError(
                f"the column {column.name!r} has the name of an answer to a further target",
                expected="another name",
                do="Rename the column, or leave it out with --drop.",
            )


def _declared(name: str, table: TableSpec, split: SplitSpec) -> Guess | None:
    if name in table.drop:
        return Guess("ignored", "dropped, as asked")
    written = declared_format(table, name)
    kind = table.kinds.get(name)
    if kind is None and written is not None:
        kind = "number" if written.date_order is None else "datetime"
    if kind is not None:
        return Guess(
            kind,
            "as declared in [table.kinds]" if name in table.kinds else "as declared in the spec",
            date_order=written.date_order if written and written.date_order else "year_first",
            number_format=written.number_format if written and written.number_format else PLAIN,
        )
    if name == table.weight_column:
        return Guess("ignored", "says how much each row counts")
    if name == split.group_column:
        return Guess("ignored", "names the group that keeps rows together in the split")
    return None


def _guess(series: pl.Series, table: TableSpec) -> Guess:
    if isinstance(series.dtype, READABLE_NESTED):
        return Guess("ignored", f"values of data type {series.dtype} are not read")
    if isinstance(series.dtype, pl.Date | pl.Datetime):
        return guess.guess_moments(series)
    if series.dtype == pl.Boolean:
        return guess.guess_booleans(series)
    if series.dtype.is_numeric():
        return guess.guess_numbers(series, series.name)
    if series.dtype in (pl.String, pl.Null):
        return guess.guess_texts(series, table.missing)
    return Guess("ignored", f"values of data type {series.dtype} are not read")


def _describe_left_out(series: pl.Series, found: Guess, table: TableSpec) -> Column:
    if isinstance(series.dtype, READABLE_NESTED):
        missing, distinct = series.null_count(), 0
    elif isinstance(series.dtype, pl.Date | pl.Datetime):
        missing, distinct = series.null_count(), series.drop_nulls().n_unique()
    else:
        names = parse_categories(series, table.missing).values
        missing, distinct = names.null_count(), names.drop_nulls().n_unique()
    return Column(
        name=series.name,
        kind=found.kind,
        reason=found.reason,
        dtype=str(series.dtype),
        missing_share=missing / max(1, len(series)),
        distinct=distinct,
    )


def _describe_feature(
    series: pl.Series, found: Guess, table: TableSpec, *, declared: bool
) -> Column:
    order, written = found.date_order, found.number_format
    if declared and series.name not in table.written:
        order, written = _find_written(series, found, table)
    column = Column(
        name=series.name,
        kind=found.kind,
        reason=found.reason,
        dtype=str(series.dtype),
        number_format=written,
        date_order=order,
    )
    parsed, wrong = parse_column(series, column, table.missing)
    if wrong:
        raise TableError(
            f"the column {series.name!r} is declared as {found.kind} and does not fit",
            expected=EXPECTED[found.kind],
            got=f"{wrong} of {len(series)} values that are none",
            do="Declare another kind, or name what means a missing value in table.more_missing.",
        )
    return _with_statistics(column, parsed)


def _find_written(
    series: pl.Series, found: Guess, table: TableSpec
) -> tuple[DateOrder, NumberFormat]:
    """Return how the values of a declared kind are written."""
    words = found.number_format.missing
    missing = {*table.missing, *words}
    order: DateOrder = "year_first"
    written = None
    if found.kind == "datetime":
        order = find_date_order(series, missing) or order
    elif found.kind == "number" and series.dtype == pl.String:
        written = find_number_format(series, missing)
    if written is None:
        return order, found.number_format
    return order, msgspec.structs.replace(written, missing=(*words, *written.missing))


def _with_statistics(column: Column, parsed: pl.Series) -> Column:
    present = parsed.drop_nulls()
    fields = {
        "missing_share": (len(parsed) - len(present)) / max(1, len(parsed)),
        "distinct": present.n_unique(),
    }
    if column.kind == "category":
        categories, reason = known_categories(present, column.reason)
        return _replace(column, **fields, categories=categories, reason=reason)
    finite = present.filter(present.cast(pl.Float64).is_finite()) if len(present) else present
    if len(finite) == 0:
        return _replace(column, **fields)
    low, high = finite.min(), finite.max()
    return _replace(column, **fields, minimum=float(low), maximum=float(high))  # type: ignore[arg-type]


def known_categories(names: pl.Series, reason: str) -> tuple[tuple[str, ...], str]:
    """Return the known categories, most frequent first, and the reason with what was cut."""
    counts = (
        names.to_frame("name")
        .group_by("name")
        .len("rows")
        .sort(["rows", "name"], descending=[True, False])
    )
    known = counts
    if counts.height > MANY_CATEGORIES:
        known = counts.filter(pl.col("rows") >= RARE_ROWS).head(MAX_CATEGORIES)
    if known.height < counts.height:
        reason += (
            f"; {known.height} of {counts.height} are known, those in fewer than {RARE_ROWS} rows"
            f" or beyond the {MAX_CATEGORIES} most frequent count as unknown"
        )
    return tuple(known["name"].to_list()), reason


def _replace(column: Column, **changes: object) -> Column:
    return msgspec.structs.replace(column, **changes)
