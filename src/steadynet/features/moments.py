"""Dates and times: whole-number arithmetic on seconds since 1970 UTC.

Days are looked up in a cycle of four years (1461 days) and of a week, minutes in a day, so that
one lookup each replaces the calendar's arithmetic. The calendar parts are exact from 1901 to 2099
(the years 1900 and 2100 have no 29 February); beyond, they are a few days off.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from steadynet.features.draft import GraphDraft
from steadynet.features.numbers import Made, add_indicators, add_smooth_clip
from steadynet.features.state import MomentScale
from steadynet.table.schema import MISSING_DATETIME, Column, input_name
from steadynet.table.values import FIRST_SECOND, LAST_SECOND

DAY_S = 86_400
CYCLE_DAYS = 1461
CYCLE_START = (datetime.date(2000, 1, 1) - datetime.date(1970, 1, 1)).days
MINUTES = 1440

PARTS = (
    "month sine",
    "month cosine",
    "day of month",
    "day of year sine",
    "day of year cosine",
    "weekday sine",
    "weekday cosine",
    "hour sine",
    "hour cosine",
    "elapsed time",
)
"""What one date and time becomes; parts that do not vary in training are left out."""


def fit_moments(
    features: list[Column],
    columns: Mapping[str, npt.NDArray[Any]],
    previous: Mapping[str, MomentScale],
) -> tuple[MomentScale, ...]:
    """Return how datetime columns (N, 1) int64 become parts; `previous` keeps its scales."""
    found = []
    for column in features:
        seconds = columns[column.name].ravel()
        gaps = seconds == MISSING_DATETIME
        fill = _median(seconds[~gaps])
        filled = np.where(gaps, fill, seconds)
        varying = {part for part, varies in zip(PARTS, _varying(filled), strict=True) if varies}
        known = previous.get(column.name)
        if known is not None:
            varying |= set(known.parts)
        found.append(
            MomentScale(
                name=column.name,
                fill=fill if known is None else known.fill,
                spread=_spread(filled) if known is None else known.spread,
                parts=tuple(part for part in PARTS if part in varying),
                has_gaps=bool(gaps.any()) or (known is not None and known.has_gaps),
            )
        )
    return tuple(found)


def add_moments(draft: GraphDraft, scales: Sequence[MomentScale]) -> Made:
    """Add the nodes for datetime columns."""
    if not scales:
        return Made([], [], [])
    names = [scale.name for scale in scales]
    joined = draft.concat([input_name(name) for name in names], "moments/joined")
    sentinel = draft.constant("moments/sentinel", np.array(MISSING_DATETIME, dtype=np.int64))
    absent = draft.node("Equal", [joined, sentinel], "moments/absent")
    fill = np.array([[scale.fill for scale in scales]], dtype=np.int64)
    spread = np.array([[scale.spread for scale in scales]], dtype=np.float32)
    parts = _add_parts(draft, joined, absent, fill, spread)
    kept = [
        (scale.name, part, column * len(PARTS) + PARTS.index(part))
        for column, scale in enumerate(scales)
        for part in scale.parts
    ]
    made = Made([], [], [])
    if kept:
        width = len(names) * len(PARTS)
        flat = draft.constant("moments/flat_shape", np.array([0, width], dtype=np.int64))
        parts = draft.node("Reshape", [parts, flat], "moments/flat")
        if len(kept) < width:
            wanted = np.array([place for _, _, place in kept], dtype=np.int64)
            places = draft.constant("moments/varying", wanted)
            parts = draft.node("Gather", [parts, places], "moments/kept", axis=1)
        made.tensors.append(parts)
        made.names.extend(f"{name} {part}" for name, part, _ in kept)
        made.sources.extend(name for name, _, _ in kept)
    with_gaps = [place for place, scale in enumerate(scales) if scale.has_gaps]
    add_indicators(draft, absent, with_gaps, names, made)
    return made


def _median(seconds: npt.NDArray[np.int64]) -> int:
    return int(np.sort(seconds)[len(seconds) // 2]) if seconds.size else 0


def _spread(filled: npt.NDArray[np.int64]) -> float:
    """Return a column's interquartile range in seconds; a day at least."""
    low, high = np.quantile(filled, [0.25, 0.75]) if filled.size else (0.0, 0.0)
    return float(np.float32(max(high - low, DAY_S)))


def _varying(seconds: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which of `PARTS` differ among training's rows (N,)."""
    days, rest = np.divmod(seconds, DAY_S)
    in_cycle = _cycle_table()[(days - CYCLE_START) % CYCLE_DAYS]
    in_week = _week_table()[days % 7]
    in_day = _day_table()[rest // 60]
    elapsed = seconds.astype(np.float64)[:, None]
    parts = np.concatenate([in_cycle, in_week, in_day, elapsed], axis=1)
    varies: npt.NDArray[np.bool_] = (parts != parts[:1]).any(axis=0)
    return varies


def _add_parts(
    draft: GraphDraft,
    joined: str,
    absent: str,
    fill: npt.NDArray[np.int64],
    spread: npt.NDArray[np.float32],
) -> str:
    """Add the nodes from seconds (N, T) to parts (N, T, P)."""

    def whole(name: str, value: int) -> str:
        return draft.constant(f"moments/{name}", np.array(value, dtype=np.int64))

    middle = draft.constant("moments/fill", fill.astype(np.int64))
    day = whole("day_s", DAY_S)
    present = draft.node("Where", [absent, middle, joined], "moments/imputed")
    bounds = [whole("first", FIRST_SECOND), whole("last", LAST_SECOND)]
    present = draft.node("Clip", [present, *bounds], "moments/bounded")
    rest = draft.node("Mod", [present, day], "moments/second_of_day")
    midnight = draft.node("Sub", [present, rest], "moments/midnight")
    days = draft.node("Div", [midnight, day], "moments/days")

    shifted = draft.node("Sub", [days, whole("cycle_start", CYCLE_START)], "moments/shifted")
    in_cycle = draft.node("Mod", [shifted, whole("cycle", CYCLE_DAYS)], "moments/day_of_cycle")
    weekday = draft.node("Mod", [days, whole("week", 7)], "moments/day_of_week")
    minute = draft.node("Div", [rest, whole("minute_s", 60)], "moments/minute")
    parts = [
        draft.node(
            "Gather", [draft.constant(f"moments/{name}_table", table), place], f"moments/{name}"
        )
        for name, table, place in (
            ("calendar", _cycle_table(), in_cycle),
            ("weekday", _week_table(), weekday),
            ("time_of_day", _day_table(), minute),
        )
    ]
    since = draft.node("Sub", [present, middle], "moments/since")
    since = draft.node("Cast", [since], "moments/since_float", to=1)
    since = draft.node("Div", [since, draft.constant("moments/spread", spread)], "moments/scaled")
    since = add_smooth_clip(draft, since, "moments")
    axis = draft.constant("moments/last_axis", np.array([2], dtype=np.int64))
    parts.append(draft.node("Unsqueeze", [since, axis], "moments/elapsed"))
    return draft.concat(parts, "moments/parts", axis=2)


def _cycle_table() -> npt.NDArray[np.float32]:
    """Return for each day of four years from 2000-01-01: the calendar parts."""
    days = [datetime.date(2000, 1, 1) + datetime.timedelta(days=i) for i in range(CYCLE_DAYS)]
    months = np.array([day.month - 1 for day in days]) / 12
    of_month = (np.array([day.day for day in days]) - 16) / 15
    of_year = np.array([day.timetuple().tm_yday - 1 for day in days]) / 366
    return np.stack([*_circle(months), of_month, *_circle(of_year)], axis=1).astype(np.float32)


def _week_table() -> npt.NDArray[np.float32]:
    """Return for each day of the week, from Thursday (1970-01-01): sine and cosine."""
    return np.stack(_circle(np.arange(7) / 7), axis=1).astype(np.float32)


def _day_table() -> npt.NDArray[np.float32]:
    """Return for each minute of the day: sine and cosine."""
    return np.stack(_circle(np.arange(MINUTES) / MINUTES), axis=1).astype(np.float32)


def _circle(share: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    return np.sin(2 * np.pi * share), np.cos(2 * np.pi * share)
