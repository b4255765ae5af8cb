"""A table through a bundle's graph, in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl

    from steadynet.bundle.read import Bundle

CHUNK_ROWS = 20_000

Answers = dict[str, np.ndarray]


def score_chunks(bundle: Bundle, frame: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, Answers]]:
    """Yield the frame's slices with the graph's outputs for them, in order.

    Raises `InputError` for a column that is absent or of another kind than in training.
    """
    from steadynet.runtime.predictor import Predictor
    from steadynet.table.convert import to_columns

    predictor = Predictor(bundle)
    for part in frame.iter_slices(CHUNK_ROWS):
        yield part, predictor.run(to_columns(part, bundle.manifest.schema))


def score(bundle: Bundle, frame: pl.DataFrame) -> Answers:
    """Return the graph's outputs for all rows."""
    parts = [answers for _, answers in score_chunks(bundle, frame)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
