"""What is to be predicted: the task, the classes and which class is the positive one."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
import polars as pl

from steadynet.errors import TableError
from steadynet.spec.kinds import Task
from steadynet.spec.model import TableSpec
from steadynet.spec.names import did_you_mean
from steadynet.table.examples import declared_format
from steadynet.table.frame import Frame
from steadynet.table.labels import joined_words
from steadynet.table.number_texts import describe_format, find_number_format
from steadynet.table.parse import parse_categories, parse_numbers
from steadynet.table.schema import GROUPED, PLAIN, NumberFormat, Target

POSITIVE_WORDS = ("yes", "y", "true", "t", "positive", "pos", "1")
NEGATIVE_WORDS = ("no", "n", "false", "f", "negative", "neg", "0", "-1")

CLASS_NAME = re.compile(
    r"(?:^|[_\W])(?:class|label|category|species|type|segment|kind|group|outcome|status)$",
    re.IGNORECASE,
)
MAX_NUMBERED_CLASSES = 10
"""Whole numbers from 0 or 1 on, without a gap, are classes up to as many."""
MAX_NAMED_CLASSES = 50
"""Whole numbers are classes up to as many where the name says that they are."""
MAX_CLASSES = 1000
MAX_CLASS_SHARE = 0.5
"""Texts of which more than this share are different are no classes."""


class _Found(NamedTuple):
    task: Task
    reason: str


def drop_rows_without_target(frame: Frame, table: TableSpec) -> tuple[pl.DataFrame, int]:
    """Return the rows that have a target, and how many had none. Raises as `has_target`."""
    assert isinstance(frame, pl.DataFrame)  # only training reads a table by columns
    kept = frame.filter(has_target(frame, table))
    return kept, frame.height - kept.height


def has_target(frame: Frame, table: TableSpec) -> pl.Series:
    """Return whether each row (N,) has a target.

    Raises `TableError` where the target is not named or absent, or missing in every row.
    """
    kept = _target_names(frame, table).is_not_null()
    if not kept.any():
        raise TableError(
            f"the target {table.target!r} has no value in any row",
            got=f"{frame.height} rows",
            do="Check that the right column is named, and table.missing.",
        )
    return kept


def infer_target(frame: Frame, table: TableSpec) -> Target:
    """Return the target with its task and classes; rows without a target do not count.

    Raises `TableError` where it is not named, absent, all missing, has one value only, or does
    not fit the task that the spec sets.
    """
    kept = has_target(frame, table)
    series = frame[str(table.target)].filter(kept)
    names = parse_categories(series, _spellings(series, table)).values
    distinct = names.n_unique()
    if distinct < 2:
        raise TableError(
            f"the target {table.target!r} has the same value in every row",
            expected="at least two classes or different numbers",
            got="one",
            do="Check that the right column is named and that the table holds all kinds of rows.",
        )
    written = _number_format(series, table)
    numbers = _finite_numbers(series, table, written)
    found = _task(series, names, numbers, table, written)
    if found.task == "regression":
        return _regression(numbers, found, table, written)
    return _classification(names, numbers, found, table)


def infer_more_targets(frame: Frame, table: TableSpec) -> tuple[Target, ...]:
    """Return the further targets; rows without one of them do not count for that one.

    Raises `TableError` as `infer_target` does, and where nothing is known of a further target in
    the rows that have the main one.
    """
    return tuple(infer_target(frame, target_spec(table, name)) for name in table.more_targets)


def target_spec(table: TableSpec, name: str) -> TableSpec:
    """Return the spec of a table with one of its targets alone."""
    if name == table.target:
        return msgspec.structs.replace(
            table, more_targets=(), more_tasks={}, more_positive_classes={}
        )
    return msgspec.structs.replace(
        table,
        target=name,
        task=table.more_tasks.get(name),
        positive_class=table.more_positive_classes.get(name),
        classes=(),
        more_targets=(),
        more_tasks={},
        more_positive_classes={},
    )


def _target_names(frame: Frame, table: TableSpec) -> pl.Series:
    if table.target is None:
        raise TableError(
            "no target is named",
            expected="the column to predict",
            do="Name it with --target or as `target` in [table] of steadynet.toml.",
        )
    if table.target not in frame.columns:
        raise TableError(
            f"the table has no column {table.target!r}, the target",
            expected=f"one of its {frame.width} columns",
            do=did_you_mean(table.target, frame.columns),
        )
    series = frame[table.target]
    names, wrong = parse_categories(series, _spellings(series, table))
    if wrong:
        raise TableError(
            f"the target {table.target!r} cannot be predicted",
            expected="texts, numbers or true and false",
            got=f"data type {series.dtype}",
        )
    return names


def _spellings(series: pl.Series, table: TableSpec) -> tuple[str, ...]:
    """Return the spellings of a missing target: among words, "none" is a class and no gap."""
    if series.dtype != pl.String:
        return table.missing
    written = _number_format(series, table)
    if not parse_numbers(series, table.missing, written=written).wrong:
        return table.missing
    return tuple(spelling for spelling in table.missing if spelling.lower() != "none")


def _number_format(series: pl.Series, table: TableSpec) -> NumberFormat:
    """Return how the target's numbers are written; no word stands for a missing one."""
    declared = declared_format(table, series.name)
    if declared is not None:
        return declared.number_format or GROUPED
    if series.dtype != pl.String:
        return GROUPED
    found = find_number_format(series, table.missing, with_words=False)
    return GROUPED if found is None or found == PLAIN else found


def _finite_numbers(series: pl.Series, table: TableSpec, written: NumberFormat) -> pl.Series | None:
    """Return the target as numbers, or None where it is not made of finite numbers."""
    numbers, wrong = parse_numbers(series, table.missing, written=written)
    return None if wrong or numbers.is_infinite().any() else numbers


def _task(
    series: pl.Series,
    names: pl.Series,
    numbers: pl.Series | None,
    table: TableSpec,
    written: NumberFormat,
) -> _Found:
    if table.task is not None:
        return _Found(table.task, "as declared")
    distinct = names.n_unique()
    if table.classes:
        return _Found("binary" if len(table.classes) == 2 else "multiclass", "classes as declared")
    if distinct == 2:
        return _Found("binary", "two different values")
    if numbers is None or (written.has_unit and distinct <= MAX_NUMBERED_CLASSES):
        return _Found("multiclass", f"{distinct} different texts")
    if series.dtype.is_float() and not bool((numbers == numbers.round(0)).all()):
        return _Found("regression", f"{distinct} different numbers")
    if _are_class_numbers(numbers, str(table.target)):
        return _Found(
            "multiclass",
            f"{distinct} whole numbers that look like class numbers (for their amount, set"
            ' task = "regression")',
        )
    return _Found("regression", f"{distinct} different numbers")


def _are_class_numbers(numbers: pl.Series, name: str) -> bool:
    if not bool((numbers == numbers.round(0)).all()):
        return False
    distinct = numbers.unique().sort().to_list()
    if CLASS_NAME.search(name) and len(distinct) <= MAX_NAMED_CLASSES:
        return True
    first = distinct[0]
    without_gap = distinct[-1] - first + 1 == len(distinct)
    return first in (0, 1) and without_gap and len(distinct) <= MAX_NUMBERED_CLASSES


def _regression(
    numbers: pl.Series | None, found: _Found, table: TableSpec, written: NumberFormat
) -> Target:
    if numbers is None:
        raise TableError(
            f"the target {table.target!r} does not fit a regression",
            expected="finite numbers",
            got="texts or infinite numbers",
            do="Leave `task` out, or name the spelling of a missing value in table.missing.",
        )
    low, high = numbers.min(), numbers.max()
    return Target(
        name=str(table.target),
        task="regression",
        reason=found.reason + ("" if written == GROUPED else describe_format(written)),
        minimum=float(low),  # type: ignore[arg-type]
        maximum=float(high),  # type: ignore[arg-type]
        number_format=written,
    )


def _classification(
    names: pl.Series, numbers: pl.Series | None, found: _Found, table: TableSpec
) -> Target:
    counts = _class_counts(names)
    joined = joined_words(names, ()) if numbers is None else ""
    if len(counts) > MAX_CLASSES or len(counts) > max(2, MAX_CLASS_SHARE * len(names)):
        raise TableError(
            f"the target {table.target!r} has too many classes",
            expected=f"at most {MAX_CLASSES}, each in several rows",
            got=f"{len(counts)} different values in {len(names)} rows",
            do=joined
            or "Check that the right column is named"
            + (', or set task = "regression".' if numbers is not None else "."),
        )
    if found.task == "binary" and len(counts) != 2:
        raise TableError(
            f"the target {table.target!r} does not fit a binary task",
            expected="two classes",
            got=str(len(counts)),
            do="Leave `task` out, or set it to multiclass.",
        )
    if found.task != "binary" and table.positive_class is not None:
        raise TableError(
            "table.positive_class is set, but the target is not binary",
            expected="two classes",
            got=str(len(counts)),
        )
    classes = tuple(counts)
    reason = found.reason
    if table.classes:
        return _in_declared_order(counts, found, table)
    if found.task == "binary":
        classes, why = _with_positive_last(counts, table)
        reason += why
    return Target(name=str(table.target), task=found.task, reason=reason, classes=classes)


def _in_declared_order(counts: dict[str, int], found: _Found, table: TableSpec) -> Target:
    """Return the target with the order of classes that the spec gives."""
    declared = table.classes
    lacking = [name for name in declared if name not in counts]
    more = [name for name in counts if name not in declared]
    if lacking or more:
        raise TableError(
            f"table.classes are not the classes of the target {table.target!r}",
            expected=f"each of its {len(counts)} classes once, the lowest first",
            got="; ".join(
                f"{what} {', '.join(map(repr, names[:5]))}"
                for what, names in (("no row of", lacking), ("not listed", more))
                if names
            ),
            do=did_you_mean(lacking[0], more) if lacking else "",
        )
    return Target(
        name=str(table.target),
        task=found.task,
        reason=found.reason,
        classes=declared,
        ordered=True,
    )


def _class_counts(names: pl.Series) -> dict[str, int]:
    """Return class → rows, in the order of numbers where classes are numbers, else of texts."""
    counted = names.to_frame("name").group_by("name").len("rows").sort("name")
    numbers, wrong = parse_numbers(counted["name"], (), written=GROUPED)
    if not wrong:
        counted = counted[numbers.arg_sort()]
    return dict(counted.iter_rows())


def _with_positive_last(counts: dict[str, int], table: TableSpec) -> tuple[tuple[str, ...], str]:
    """Return the classes with the positive one last, and why it is the positive one."""
    if table.positive_class is not None:
        positive = str(table.positive_class)
        if positive not in counts:
            raise TableError(
                f"the target {table.target!r} has no class {positive!r}",
                expected="a class that occurs",
                got=f"{len(counts)} other classes",
                do=did_you_mean(positive, counts) or "Name one that occurs, or add rows of it.",
            )
        why = f"; the positive class is {positive!r}, as declared"
    elif (worded := _positive_by_word(list(counts))) is not None:
        positive, why = worded, f"; the positive class is {worded!r}, by its name"
    else:
        # Ties go to the later name.
        positive = min(reversed(list(counts)), key=lambda name: counts[name])
        why = f"; the positive class is {positive!r}, the rarer one"
    return (*(name for name in counts if name != positive), positive), why


def _positive_by_word(names: list[str]) -> str | None:
    positive = [name for name in names if name.lower() in POSITIVE_WORDS]
    negative = [name for name in names if name.lower() in NEGATIVE_WORDS]
    return positive[0] if len(positive) == 1 and len(negative) == 1 else None
