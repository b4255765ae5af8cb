"""How many rows each step looks at. Beyond as many its answer would no longer move.

A training fits every row of the training part. What measures, calibrates or compares takes rows
evenly spread over its part, so that ten million rows cost no more there than a million.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

JUDGED_ROWS = 200_000
"""Rows of the validation and of the test part that are answered to: an AUC of .8 then has a
standard error of .001."""
REFERENCE_ROWS = 200_000
"""Fitted rows of the references and of the linear start."""
TREE_ROWS = 2_000_000
"""Fitted rows of boosted trees in a blend."""
PROFILED_ROWS = 1_000_000
"""Training rows that the profile counts, and that a network's bins are taken from."""


def thinned(rows: Indices, most: int) -> Indices:
    """Return at most `most` of row numbers (n,), evenly spread over them, in their order."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def sampled_words(train: int, validation: int, test: int) -> str:
    """Say what is measured and compared on samples of parts of so many rows; empty for none."""
    parts = []
    for name, rows in (("validation", validation), ("test", test)):
        if rows > JUDGED_ROWS:
            parts.append(f"{name} measures are taken on {JUDGED_ROWS:,} of {rows:,} rows")
    if train > REFERENCE_ROWS:
        parts.append(
            f"the references and the linear start are fitted on {REFERENCE_ROWS:,} of"
            f" {train:,} training rows"
        )
    return "; ".join(parts)
