"""Categories: each name to its entry; 0 is missing, 1 unknown, 2 and on are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from steadynet.features.draft import GraphDraft
from steadynet.features.state import KnownEntries
from steadynet.table.schema import Column, input_name

MISSING_ENTRY = 0
UNKNOWN_ENTRY = 1
FIRST_KNOWN = 2


class Lookup(NamedTuple):
    """The tensors (N, 1) of entries, and how many entries each column has."""

    tensors: list[str]
    cardinalities: list[int]


def fit_categories(
    features: list[Column],
    columns: Mapping[str, npt.NDArray[Any]],
    previous: Mapping[str, KnownEntries],
) -> tuple[KnownEntries, ...]:
    """Return the entries of category columns (N, 1): those of `previous` first, as they were.

    A category of the schema that does not occur in `columns` (the training part) is unknown:
    nothing could be learnt about it.
    """
    found = []
    for column in features:
        seen = set(columns[column.name].ravel().tolist())
        known = previous[column.name].known if column.name in previous else ()
        fresh = [name for name in column.categories if name in seen and name not in set(known)]
        found.append(KnownEntries(name=column.name, known=(*known, *fresh)))
    return tuple(found)


def add_categories(draft: GraphDraft, entries: Sequence[KnownEntries]) -> Lookup:
    """Add one lookup per category column."""
    lookup = Lookup([], [])
    for place, column in enumerate(entries):
        count = FIRST_KNOWN + len(column.known)
        lookup.tensors.append(
            draft.node(
                "LabelEncoder",
                [input_name(column.name)],
                f"categories/{place}",
                domain="ai.onnx.ml",
                keys_strings=["", *column.known],
                values_int64s=[MISSING_ENTRY, *range(FIRST_KNOWN, count)],
                default_int64=UNKNOWN_ENTRY,
            )
        )
        lookup.cardinalities.append(count)
    return lookup
