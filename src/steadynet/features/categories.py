"""Categories: each name to its entry; 0 is missing, 1 unknown, 2 and on are known."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt

from steadynet.features.draft import GraphDraft
from steadynet.table.schema import Column, input_name

MISSING_ENTRY = 0
UNKNOWN_ENTRY = 1
FIRST_KNOWN = 2


class Lookup(NamedTuple):
    """The tensors (N, 1) of entries, and how many entries each column has."""

    tensors: list[str]
    cardinalities: list[int]


def add_categories(
    draft: GraphDraft, features: list[Column], columns: dict[str, npt.NDArray[Any]]
) -> Lookup:
    """Add one lookup per category column.

    A category of the schema that does not occur in `columns` (the training part) is unknown:
    nothing could be learnt about it.
    """
    lookup = Lookup([], [])
    for place, column in enumerate(features):
        seen = set(columns[column.name].ravel().tolist())
        known = [name for name in column.categories if name in seen]
        lookup.tensors.append(
            draft.node(
                "LabelEncoder",
                [input_name(column.name)],
                f"categories/{place}",
                domain="ai.onnx.ml",
                keys_strings=["", *known],
                values_int64s=[MISSING_ENTRY, *range(FIRST_KNOWN, FIRST_KNOWN + len(known))],
                default_int64=UNKNOWN_ENTRY,
            )
        )
        lookup.cardinalities.append(FIRST_KNOWN + len(known))
    return lookup
