"""Numbers and booleans: impute, scale robustly, clip smoothly.

All columns go through each step together as one matrix (N, D). Scaling and smooth clipping follow
RealMLP (Holzmüller, Grinsztajn, Steinwart 2024, arXiv:2407.04491, section 3): the median becomes
0, the interquartile range 1, and x becomes x / sqrt(1 + (x/3)²), which lies within ±3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from steadynet.features.draft import GraphDraft
from steadynet.features.state import NumberScale
from steadynet.table.schema import Column, input_name

CLIP = 3.0
"""The largest size of a scaled number."""
FAR = 1e6
"""Scaled numbers are cut here first, so that squares stay finite."""


class Made(NamedTuple):
    """Tensors (N, D) that nodes make, with what each of their columns is and comes from."""

    tensors: list[str]
    names: list[str]
    sources: list[str]


def fit_numbers(
    features: list[Column],
    columns: Mapping[str, npt.NDArray[Any]],
    previous: Mapping[str, NumberScale],
) -> tuple[NumberScale, ...]:
    """Return the scales of number and boolean columns (N, 1); those of `previous` stay."""
    found = []
    for column in features:
        values = columns[column.name]
        fitted = (
            _fit_boolean(column.name, values)
            if column.kind == "boolean"
            else fit_number(column.name, values)
        )
        known = previous.get(column.name)
        if known is not None:
            fitted = replace(known, has_gaps=known.has_gaps or fitted.has_gaps)
        found.append(fitted)
    return tuple(found)


def add_numbers(draft: GraphDraft, scales: Sequence[NumberScale]) -> Made:
    """Add the nodes for number and boolean columns."""
    if not scales:
        return Made([], [], [])
    names = [scale.name for scale in scales]
    joined = draft.concat([input_name(name) for name in names], "numbers/joined")
    absent = draft.node("IsNaN", [joined], "numbers/absent")
    made = Made([_add_scaling(draft, joined, absent, scales)], list(names), list(names))
    with_gaps = [place for place, scale in enumerate(scales) if scale.has_gaps]
    add_indicators(draft, absent, with_gaps, names, made)
    return made


def add_indicators(
    draft: GraphDraft, absent: str, places: list[int], names: list[str], made: Made
) -> None:
    """Add to `made` a 0/1 column for each place of `absent` (N, D) where training had gaps."""
    if not places:
        return
    group = absent.removeprefix("steadynet/").split("/")[0]
    indicators = draft.node("Cast", [absent], f"{group}/indicators", to=1)
    if len(places) < len(names):
        kept = draft.constant(f"{group}/with_gaps", np.array(places, dtype=np.int64))
        indicators = draft.node("Gather", [indicators, kept], f"{group}/kept_indicators", axis=1)
    made.tensors.append(indicators)
    made.names.extend(f"{names[place]} is missing" for place in places)
    made.sources.extend(names[place] for place in places)


def fit_number(name: str, values: npt.NDArray[Any]) -> NumberScale:
    """Return a number column's scale: median and interquartile range of its finite values.

    Where the range is 0 the standard deviation takes its place, and where that is 0 too, 1.
    """
    cells = values.astype(np.float64).ravel()
    finite = cells[np.isfinite(cells)]
    has_gaps = bool(np.isnan(cells).any())
    if finite.size == 0:
        return NumberScale(name=name, centre=0.0, width=1.0, has_gaps=has_gaps)
    low, centre, high = np.quantile(finite, [0.25, 0.5, 0.75])
    width = high - low
    if not _usable(width, centre):
        width = finite.std()
    if not _usable(width, centre):
        width = 1.0
    return NumberScale(name=name, centre=float(centre), width=float(width), has_gaps=has_gaps)


def _usable(width: float, centre: float) -> bool:
    """Return whether a width is more than rounding noise of float32."""
    return bool(width > max(abs(centre) * 1e-7, 1e-30))


def _fit_boolean(name: str, values: npt.NDArray[Any]) -> NumberScale:
    """Return the scale that makes false -1, true 1 and missing 0 (before clipping)."""
    return NumberScale(name=name, centre=0.5, width=0.5, has_gaps=bool(np.isnan(values).any()))


def _add_scaling(draft: GraphDraft, joined: str, absent: str, scales: Sequence[NumberScale]) -> str:
    centres = np.array([[scale.centre for scale in scales]], dtype=np.float32)
    widths = np.array([[scale.width for scale in scales]], dtype=np.float32)
    centre = draft.constant("numbers/centre", centres)
    width = draft.constant("numbers/width", widths)
    present = draft.node("Where", [absent, centre, joined], "numbers/imputed")
    centred = draft.node("Sub", [present, centre], "numbers/centred")
    scaled = draft.node("Div", [centred, width], "numbers/scaled")
    return add_smooth_clip(draft, scaled, "numbers")


def add_smooth_clip(draft: GraphDraft, scaled: str, group: str) -> str:
    """Add x / sqrt(1 + (x/3)²), finite for infinite x too."""
    far = np.array(FAR, dtype=np.float32)
    low, high = draft.constant(f"{group}/low", -far), draft.constant(f"{group}/high", far)
    square = draft.constant(f"{group}/clip_square", np.array(CLIP * CLIP, dtype=np.float32))
    scale = draft.constant(f"{group}/clip", np.array(CLIP, dtype=np.float32))
    near = draft.node("Clip", [scaled, low, high], f"{group}/near")
    squares = draft.node("Mul", [near, near], f"{group}/squares")
    sums = draft.node("Add", [squares, square], f"{group}/sums")
    roots = draft.node("Sqrt", [sums], f"{group}/roots")
    shares = draft.node("Div", [near, roots], f"{group}/shares")
    return draft.node("Mul", [shares, scale], f"{group}/clipped")
