"""Which slices a row belongs to: the named columns' values, or ranges of them. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import msgspec

from steadynet.bundle.profile import FeatureProfile, Profile
from steadynet.monitoring.records import Cell

MOST_CATEGORIES = 12
"""Categories of a column that are slices of their own, the most frequent first."""
RANGES = 4
"""Ranges that a number is cut into, by training's quantiles."""
OTHERS = "other"


class SliceColumn(msgspec.Struct, frozen=True, kw_only=True):
    """One column whose values are slices."""

    name: str
    categories: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    """Ascending; empty for a column of categories."""


class Slicer:
    """Names the slices of a row."""

    def __init__(self, columns: Sequence[SliceColumn]) -> None:
        self._columns = tuple(columns)

    def slices_of(self, row: Mapping[str, Cell]) -> list[str]:
        """Return one slice for each column; a missing value is a slice as well."""
        return [
            f"{column.name} = {_value(column, row.get(column.name))}" for column in self._columns
        ]


def make_slicer(names: Sequence[str], profile: Profile) -> Slicer:
    """Return the slicer of the named columns; names that the profile does not know are left out."""
    known = {feature.name: feature for feature in profile.features}
    return Slicer([_column(known[name]) for name in names if name in known])


def _column(feature: FeatureProfile) -> SliceColumn:
    if feature.kind == "category":
        order = sorted(range(len(feature.categories)), key=lambda place: -feature.counts[place])[
            :MOST_CATEGORIES
        ]
        kept = tuple(feature.categories[place] for place in order)
        return SliceColumn(name=feature.name, categories=kept)
    edges = feature.edges
    if len(edges) >= RANGES:
        edges = tuple(edges[len(edges) * part // RANGES] for part in range(1, RANGES))
    return SliceColumn(name=feature.name, edges=tuple(sorted(set(edges))))


def _value(column: SliceColumn, cell: Cell) -> str:
    if cell is None or cell == "":
        return "missing"
    if column.categories or not column.edges:
        return str(cell) if str(cell) in column.categories else OTHERS
    try:
        number = float(cell)
    except ValueError:
        return OTHERS
    if number != number:
        return "missing"
    place = bisect_right(column.edges, number)
    low = f"from {column.edges[place - 1]:.6g}" if place else ""
    high = f"below {column.edges[place]:.6g}" if place < len(column.edges) else ""
    return " ".join(part for part in (low, high) if part)
