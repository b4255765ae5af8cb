"""What a table's columns are. Plain data, light to import: serving uses it too.

A *feature* is a column that enters the network: its kind is number, boolean, category or
datetime. Every other kind is kept in the schema with the reason why it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

import msgspec

from steadynet.spec.kinds import MISSING_SPELLINGS, Kind, Task

T = TypeVar("T")

FEATURE_KINDS: tuple[Kind, ...] = ("number", "boolean", "category", "datetime")

DateOrder = Literal["year_first", "day_first", "month_first"]
"""How dates such as 03/04/2024 are read; texts that start with the year are read in any order."""

MISSING_DATETIME = -(2**63)
"""A missing date and time, as `numpy.datetime64('NaT').astype('int64')` writes it."""


PREDICTION_SET = "prediction_set"
"""The main target's set of classes, where there is one."""
HIDDEN = "steadynet/hidden"
"""Components (N, K) of the network's last hidden layer, where the graph has them."""
NOVELTY = "steadynet/novelty"
"""How far a row is from training (N,), where the graph has it: 1 is the limit."""
RESERVED_NAMES = frozenset(
    {"label", "probabilities", "prediction", "lower", "upper", PREDICTION_SET}
)
"""Names of the main target's outputs."""


OUTPUTS: dict[Task, tuple[str, ...]] = {
    "binary": ("label", "probabilities"),
    "multiclass": ("label", "probabilities"),
    "regression": ("prediction", "lower", "upper"),
}
"""What the graph answers of a target of each task."""


def input_name(column: str) -> str:
    """Return the name of a column's input of the graph: its own, but never an output's."""
    if column in RESERVED_NAMES or column.startswith(("column:", "steadynet/")):
        return f"column:{column}"
    return column


class NumberFormat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a column's numbers are written where they come as texts."""

    grouped: bool = False
    """Whether commas, apostrophes or blanks may group digits, as in "1,234,567.8"."""
    decimal_comma: bool = False
    """Whether a comma stands before the decimals, and points, apostrophes or blanks may group
    digits, as in "1.234.567,8"."""
    prefix: str = ""
    """What may stand before the number and does not count, as "$"."""
    suffix: str = ""
    """What may stand after it, as "%" or "kg"."""
    missing: tuple[str, ...] = ()
    """Words that mean that the number is missing, besides `Schema.missing_spellings`."""

    @property
    def has_unit(self) -> bool:
        """Whether something stands before or behind the numbers."""
        return bool(self.prefix or self.suffix)


PLAIN = NumberFormat()
"""Digits and a decimal point alone."""
GROUPED = NumberFormat(grouped=True)


class Column(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One column as it was found in the training table."""

    name: str
    kind: Kind
    reason: str
    """Why it is of that kind, for people."""
    dtype: str = ""
    """The table's own data type."""
    missing_share: float = 0.0
    """Share of rows without a value, 0 to 1."""
    distinct: int = 0
    minimum: float | None = None
    """Smallest finite value seen in training; seconds since 1970 for datetime."""
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    """Known categories of a category column, most frequent first."""
    number_format: NumberFormat = PLAIN
    date_order: DateOrder = "year_first"

    @property
    def is_feature(self) -> bool:
        """Whether the network reads this column."""
        return self.kind in FEATURE_KINDS


class LabelColumn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The text column that a table's targets are the labels of, as "red|blue"."""

    column: str
    separator: str
    known: tuple[str, ...]
    """Every label of the training table, the most frequent first, whether predicted or not."""


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The column to predict."""

    name: str
    task: Task
    reason: str
    classes: tuple[str, ...] = ()
    """Class names in the order of `probabilities`; for binary the positive class is the last."""
    ordered: bool = False
    """Whether the classes stand in an order that means something, the lowest first."""
    minimum: float | None = None
    maximum: float | None = None
    number_format: NumberFormat = GROUPED
    """Regression: how the numbers are written."""
    labels: LabelColumn | None = None
    """The main target, where all targets are labels of one column; None elsewhere."""


class Schema(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All columns of the training table and its target."""

    columns: tuple[Column, ...]
    target: Target
    """The main target: what gates, rollouts, monitoring and healing watch."""
    more_targets: tuple[Target, ...] = ()
    """What the same network predicts besides."""
    missing_spellings: tuple[str, ...] = MISSING_SPELLINGS

    @property
    def targets(self) -> tuple[Target, ...]:
        """Every target, the main one first."""
        return (self.target, *self.more_targets)

    def about(self, target: Target) -> Schema:
        """Return the same columns with one target alone."""
        return msgspec.structs.replace(self, target=target, more_targets=())

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns that the network reads, in the order of the graph's inputs."""
        return tuple(column for column in self.columns if column.is_feature)

    @property
    def left_out(self) -> tuple[Column, ...]:
        """The columns that the network does not read."""
        return tuple(column for column in self.columns if not column.is_feature)


def output_name(schema: Schema, target: Target, output: str) -> str:
    """Return the name of a target's output of the graph: of the main target the plain `output`."""
    return output if target.name == schema.target.name else f"{target.name}/{output}"


def output_names(schema: Schema) -> tuple[str, ...]:
    """Return the names of all the graph's outputs, the main target's first."""
    return tuple(
        output_name(schema, target, output)
        for target in schema.targets
        for output in OUTPUTS[target.task]
    )


def answers_about(answers: Mapping[str, T], schema: Schema, target: Target) -> dict[str, T]:
    """Return one target's answers by their plain names, out of all outputs by name."""
    found = {
        output: answers[output_name(schema, target, output)] for output in OUTPUTS[target.task]
    }
    if PREDICTION_SET in answers and target.name == schema.target.name:
        found[PREDICTION_SET] = answers[PREDICTION_SET]
    return found
