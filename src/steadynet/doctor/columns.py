"""What is odd about single columns: sentinels, caps, variants of one word, copies, dead weight."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from steadynet.doctor.report import MOST_ROWS, Symptom
from steadynet.table.schema import Schema
from steadynet.training.answers import Columns

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

SENTINELS = (-999.0, -9999.0, -99.0, 999.0, 9999.0, 99999.0, 999999.0)
CAP_SHARE = 0.01
"""Of the rows, that a column's end must hold to look capped."""
CAP_FACTOR = 10
"""And as many times more than the next value."""
SAME = 0.999999
"""Rank correlation from which a column says what another one says."""
SAMPLE = 5000
NEXT_TO_NONE = 0.001
"""Of the rows, up to which a column's other values are next to none."""


def column_symptoms(columns: Columns, schema: Schema, numbers: Indices) -> list[Symptom]:
    """Return what is odd about the feature columns; `numbers` (N,) are row numbers of the file."""
    found: list[Symptom] = []
    for column in schema.features:
        values = columns[column.name][:, 0]
        if column.kind == "number":
            others = [
                other.name
                for other in schema.features
                if other.kind == "number" and other.name != column.name
            ]
            found += sentinels(
                column.name,
                values.astype(np.float64),
                numbers,
                {other: columns[other][:, 0] for other in others},
            )
        elif column.kind == "category":
            found += variants(column.name, values, numbers)
        found += nearly_constant(column.name, values, numbers)
    return found + copies(columns, schema)


def sentinels(
    name: str, values: Floats, numbers: Indices, others: Columns | None = None
) -> list[Symptom]:
    """Return numbers that stand for "no value": far outside of all others, and repeated.

    `others` are the other number columns (N,): a value that means nothing in one column may be a
    number like any other in them.
    """
    finite = values[np.isfinite(values)]
    found = []
    for sentinel in SENTINELS:
        hits = np.flatnonzero(values == sentinel)
        rest = finite[finite != sentinel]
        if len(hits) < 2 or len(rest) < 10:
            continue
        low, high = np.quantile(rest, [0.005, 0.995])
        reach = 2 * (high - low)
        if low - reach <= sentinel <= high + reach:
            continue
        found.append(
            Symptom(
                level="warning",
                code="sentinel",
                message=f"{name!r} holds {sentinel:g} {len(hits)} times, far from all else",
                column=name,
                rows=tuple(numbers[hits[:MOST_ROWS]].tolist()),
                count=len(hits),
                do=_sentinel_advice(sentinel, others or {}),
            )
        )
    return found


def _sentinel_advice(sentinel: float, others: Columns) -> str:
    shared = [name for name, values in others.items() if (values == sentinel).any()]
    if not shared:
        return f'If it means "no value", add "{sentinel:g}" to table.missing.'
    return (
        f'If it means "no value", empty those cells: {shared[0]!r} holds {sentinel:g} too, and '
        "table.missing speaks of all columns."
    )


def nearly_constant(name: str, values: npt.NDArray[np.generic], numbers: Indices) -> list[Symptom]:
    """Return a note where next to all rows hold one value."""
    series = pl.Series(values) if values.dtype != object else pl.Series(values.astype(str).tolist())
    counts = series.value_counts(sort=True)
    rare = len(values) - int(counts["count"][0])
    if not 0 < rare <= NEXT_TO_NONE * len(values):
        return []
    rows = np.flatnonzero((series.ne_missing(counts[counts.columns[0]][0])).to_numpy())
    return [
        Symptom(
            level="note",
            code="nearly_constant",
            message=f"{name!r} holds the same value in all but {rare} rows",
            column=name,
            rows=tuple(numbers[rows[:MOST_ROWS]].tolist()),
            count=rare,
            do=f"It can teach next to nothing: table.drop = [{name!r}], unless you know better.",
        )
    ]


def variants(name: str, values: npt.NDArray[np.generic], numbers: Indices) -> list[Symptom]:
    """Return spellings that differ by case or blanks alone."""
    texts = pl.DataFrame({"text": values.astype(str).tolist()})
    texts = texts.with_columns(
        pl.col("text")
        .str.to_lowercase()
        .str.replace_all(r"[\s_\-]+", " ")
        .str.strip_chars()
        .alias("key")
    )
    mixed = texts.group_by("key").agg(pl.col("text").n_unique().alias("spellings"))
    keys = mixed.filter((pl.col("spellings") > 1) & (pl.col("key") != ""))["key"]
    if len(keys) == 0:
        return []
    common = texts.filter(pl.col("key").is_in(keys.implode()))
    usual = (
        common.group_by("key", "text")
        .len()
        .sort("len", descending=True)
        .group_by("key", maintain_order=True)
        .first()
    )
    rare = ~texts["text"].is_in(usual["text"].implode()) & texts["key"].is_in(keys.implode())
    rows = np.flatnonzero(rare.to_numpy())
    return [
        Symptom(
            level="warning",
            code="spelling_variants",
            message=f"{name!r} spells {len(keys)} words in several ways (case, blanks, dashes)",
            column=name,
            rows=tuple(numbers[rows[:MOST_ROWS]].tolist()),
            count=len(rows),
            do="Spell them alike; each spelling is a category of its own.",
        )
    ]


def copies(columns: Columns, schema: Schema) -> list[Symptom]:
    """Return columns that say what an earlier one says.

    Numbers that rank the rows alike, and columns of any kind whose values pair off one to one.
    """
    found = _rank_copies(columns, schema)
    told = {symptom.column for symptom in found}
    rows = np.random.default_rng(0).permutation(len(columns[schema.features[0].name]))[:SAMPLE]
    codes: dict[str, Indices] = {}
    for column in schema.features:
        values = columns[column.name][rows, 0]
        texts = values.astype(str) if values.dtype == object else values
        _, code = np.unique(texts, return_inverse=True)
        codes[column.name] = code.astype(np.int64)
    sizes = {name: int(code.max()) + 1 for name, code in codes.items()}
    names = [name for name, size in sizes.items() if 2 < size < len(rows) // 5]
    for place, name in enumerate(names):
        for other in names[:place]:
            if name in told or sizes[name] != sizes[other]:
                continue
            pairs = len(np.unique(codes[name] * sizes[other] + codes[other]))
            if pairs == sizes[name]:
                told.add(name)
                found.append(_copy(name, other, "pairs off with"))
    return found


def _copy(name: str, other: str, how: str) -> Symptom:
    return Symptom(
        level="note",
        code="copy",
        message=f"{name!r} {how} {other!r}: each says what the other says",
        column=name,
        do=f"One of them is enough: table.drop = [{name!r}].",
    )


def _rank_copies(columns: Columns, schema: Schema) -> list[Symptom]:
    names = [column.name for column in schema.features if column.kind == "number"]
    if len(names) < 2:
        return []
    rows = np.random.default_rng(0).permutation(len(columns[names[0]]))[:SAMPLE]
    ranks = []
    for name in names:
        values = pl.Series(columns[name][rows, 0].astype(np.float64)).fill_nan(None)
        rank = values.rank("average").fill_null(0.0).to_numpy()
        spread = rank.std()
        ranks.append((rank - rank.mean()) / spread if spread > 0 else np.zeros(len(rank)))
    likeness = np.abs(np.stack(ranks) @ np.stack(ranks).T) / len(rows)
    found = []
    for place, name in enumerate(names):
        twins = [names[other] for other in range(place) if likeness[place, other] >= SAME]
        if twins:
            found.append(_copy(name, twins[0], "ranks the rows as does"))
    return found


def target_symptoms(target: Floats, name: str, numbers: Indices) -> list[Symptom]:
    """Return what is odd about a target that is a number: an end that looks capped."""
    found = []
    for end, side in ((float(target.max()), "upper"), (float(target.min()), "lower")):
        hits = np.flatnonzero(target == end)
        inner = target[target != end]
        if len(inner) == 0 or len(np.unique(target)) < 50:
            continue
        edge = float(inner.max() if side == "upper" else inner.min())
        next_to = int((inner == edge).sum())
        if len(hits) >= CAP_SHARE * len(target) and len(hits) >= CAP_FACTOR * next_to:
            found.append(
                Symptom(
                    level="warning",
                    code="capped_target",
                    message=f"the target {name!r} looks capped: {len(hits)} rows at its {side} end",
                    column=name,
                    rows=tuple(numbers[hits[:MOST_ROWS]].tolist()),
                    count=len(hits),
                    do="The true values lie beyond; predictions there are too near the middle.",
                )
            )
    return found
