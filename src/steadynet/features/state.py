"""What fitting a feature graph finds out, as plain data: the graph is written from it alone.

It is kept in the bundle, so that a later training can go on from the same scales and entries: a
network's weights mean what they mean only behind the features that they were fitted on.

Laws: what is written from a state does not depend on the table that it was fitted on, and
extending a state never changes what it says of a column that it knows, it only adds.
"""

from __future__ import annotations

import msgspec


class NumberScale(msgspec.Struct, frozen=True, kw_only=True):
    """How a number or boolean column is centred and divided."""

    name: str
    centre: float
    width: float
    """Above 0."""
    has_gaps: bool
    """Whether training saw missing values; the graph then tells the network of them."""


class MomentScale(msgspec.Struct, frozen=True, kw_only=True):
    """How a datetime column becomes parts."""

    name: str
    fill: int
    """Seconds since 1970 that stand in for a missing value."""
    spread: float
    """Seconds that elapsed time is divided by, above 0."""
    parts: tuple[str, ...]
    """The parts that varied in training; the others are left out."""
    has_gaps: bool


class KnownEntries(msgspec.Struct, frozen=True, kw_only=True):
    """The categories of a column that have an entry, in the order of their entries."""

    name: str
    known: tuple[str, ...]


class FeatureState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a feature graph is written from, besides the schema's kinds."""

    numbers: tuple[NumberScale, ...]
    """Numbers and booleans, in the schema's order."""
    moments: tuple[MomentScale, ...]
    categories: tuple[KnownEntries, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns, by kind."""
        groups = (self.numbers, self.moments, self.categories)
        return tuple(column.name for group in groups for column in group)
