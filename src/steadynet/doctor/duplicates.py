"""Rows that are the same but for rounding, case and blanks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from steadynet.doctor.report import MOST_ROWS, Symptom
from steadynet.table.schema import Schema
from steadynet.table.split import Split
from steadynet.training.answers import Columns

Indices = npt.NDArray[np.int64]

DIGITS = 4
"""Significant digits that count."""
SHARE = 0.01
"""Of the rows, from which duplicates are worth a warning."""
SURPRISE = 3.0
"""Times more repeats than columns that have nothing to do with each other would show by chance."""


def group_like_rows(columns: Columns, schema: Schema) -> Indices:
    """Return a number per row (N,): rows with the same one are alike in every feature."""
    series = _rounded(columns, schema)
    keys = pl.DataFrame(series).select(pl.struct(pl.all()).rank("dense").alias("key"))
    found: Indices = keys["key"].to_numpy().astype(np.int64)
    return found


def expected_repeats(columns: Columns, schema: Schema) -> float:
    """Return how many pairs of like rows chance would make, were the columns independent."""
    pairs = 0.5
    rows = 0
    for series in _rounded(columns, schema):
        rows = len(series)
        counts = series.value_counts()["count"].to_numpy().astype(np.float64)
        pairs *= float((counts / rows) @ (counts / rows))
    return pairs * rows * rows


def _rounded(columns: Columns, schema: Schema) -> list[pl.Series]:
    """Return the feature columns without what does not count: digits, case and blanks."""
    series = []
    for column in schema.features:
        values = columns[column.name][:, 0]
        if column.kind == "category":
            texts = pl.Series(column.name, values.astype(str), dtype=pl.Utf8)
            series.append(texts.str.strip_chars().str.to_lowercase())
        elif column.kind == "datetime":
            series.append(pl.Series(column.name, values))
        else:
            rounded = pl.Series(column.name, values.astype(np.float64)).round_sig_figs(DIGITS)
            series.append(rounded)
    return series


def duplicate_symptoms(
    together: Indices,
    target: npt.NDArray[np.generic],
    numbers: Indices,
    schema: Schema,
    split: Split,
    by_chance: float,
) -> list[Symptom]:
    """Return what is to be said of like rows; `together` (N,) is of `group_like_rows`."""
    sizes = np.bincount(together)
    again = np.flatnonzero(sizes[together] > 1)
    _, first = np.unique(together, return_index=True)
    extra = np.setdiff1d(again, first)
    if len(extra) < max(2.0, SHARE * len(together), SURPRISE * by_chance):
        return []
    tested = float(np.isin(together[split.test], together[split.train]).mean())
    found = [
        Symptom(
            level="warning",
            code="near_duplicates",
            message=f"{len(extra)} rows ({len(extra) / len(together):.1%}) repeat an earlier one, "
            f"but for rounding, case and blanks; {tested:.1%} of the test part are in the training "
            "part too, so that its measures may look better than they are",
            rows=tuple(numbers[extra[:MOST_ROWS]].tolist()),
            count=len(extra),
            do="If they are copies, drop them; if they are different things that look alike, "
            "nothing is wrong.",
        )
    ]
    if not schema.target.classes:
        return found
    labels = pl.DataFrame({"key": together, "label": target.astype(np.int64)})
    mixed = labels.group_by("key").agg(pl.col("label").n_unique().alias("labels"))
    bad = mixed.filter(pl.col("labels") > 1)["key"].to_numpy()
    rows = np.flatnonzero(np.isin(together, bad))
    if len(rows):
        found.append(
            Symptom(
                level="warning",
                code="conflicting_labels",
                message=f"{len(rows)} rows are alike but carry different classes",
                rows=tuple(numbers[rows[:MOST_ROWS]].tolist()),
                count=len(rows),
                do="No model can tell them apart: find the column that is missing, or the error.",
            )
        )
    return found
