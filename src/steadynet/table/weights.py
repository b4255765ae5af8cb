"""The column that says how much each row counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from steadynet.errors import TableError
from steadynet.spec.names import did_you_mean
from steadynet.table.frame import Frame
from steadynet.table.parse import parse_numbers
from steadynet.table.schema import GROUPED

Floats = npt.NDArray[np.float64]


def read_weights(frame: Frame, name: str, missing: tuple[str, ...]) -> Floats:
    """Return the rows' weights (N,), 1 on average.

    Raises `TableError` where the column is absent, or a row has no weight, one below 0 or one that
    is not finite, and where all are 0.
    """
    if name not in frame.columns:
        raise TableError(
            f"the table has no column {name!r}, the weights of its rows",
            do=did_you_mean(name, frame.columns),
        )
    numbers, wrong = parse_numbers(frame[name], missing, written=GROUPED)
    values = numbers.cast(pl.Float64)
    finite = values.is_finite().fill_null(value=False)
    counts = {
        "no numbers": wrong,
        "missing": values.null_count() - wrong,
        "not finite": int((~finite & values.is_not_null()).sum()),
        "below 0": int((values < 0).sum()),
    }
    found = ", ".join(f"{count} {what}" for what, count in counts.items() if count > 0)
    if found:
        raise TableError(
            f"the weight column {name!r} does not fit",
            expected="a number of 0 or more in every row",
            got=f"{found} of {len(values)} rows",
            do="Mend those rows or leave them out.",
        )
    weights: Floats = values.to_numpy()
    mean = float(weights.mean())
    if not mean > 0:
        raise TableError(f"the weight column {name!r} is 0 in every row")
    return weights / mean
