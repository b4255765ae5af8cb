"""Numbers and booleans: impute, scale robustly, clip smoothly.

All columns go through each step together as one matrix (N, D). Scaling and smooth clipping follow
RealMLP (Holzmüller, Grinsztajn, Steinwart 2024, arXiv:2407.04491, section 3): the median becomes
0, the interquartile range 1, and x becomes x / sqrt(1 + (x/3)²), which lies within ±3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from steadynet.features.draft import GraphDraft
from steadynet.table.schema import Column, input_name

CLIP = 3.0
"""The largest size of a scaled number."""
FAR = 1e6
"""Scaled numbers are cut here first, so that squares stay finite."""


class Scale(NamedTuple):
    """How one column is centred and divided."""

    centre: float
    width: float
    had_missing: bool


class Made(NamedTuple):
    """Tensors (N, D) that nodes make, with what each of their columns is and comes from."""

    tensors: list[str]
    names: list[str]
    sources: list[str]


def add_numbers(
    draft: GraphDraft, features: list[Column], columns: dict[str, npt.NDArray[Any]]
) -> Made:
    """Add the nodes for number and boolean columns; fitted on `columns` (N, 1)."""
    if not features:
        return Made([], [], [])
    scales = [
        _fit_boolean(columns[column.name])
        if column.kind == "boolean"
        else fit_number(columns[column.name])
        for column in features
    ]
    joined = draft.concat([input_name(column.name) for column in features], "numbers/joined")
    absent = draft.node("IsNaN", [joined], "numbers/absent")
    scaled = _add_scaling(draft, joined, absent, scales)
    made = Made([scaled], [c.name for c in features], [c.name for c in features])
    with_missing = [place for place, scale in enumerate(scales) if scale.had_missing]
    add_indicators(draft, absent, with_missing, [c.name for c in features], made)
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


def fit_number(values: npt.NDArray[Any]) -> Scale:
    """Return a number column's scale: median and interquartile range of its finite values.

    Where the range is 0 the standard deviation takes its place, and where that is 0 too, 1.
    """
    cells = values.astype(np.float64).ravel()
    finite = cells[np.isfinite(cells)]
    had_missing = bool(np.isnan(cells).any())
    if finite.size == 0:
        return Scale(0.0, 1.0, had_missing)
    low, centre, high = np.quantile(finite, [0.25, 0.5, 0.75])
    width = high - low
    if not _usable(width, centre):
        width = finite.std()
    if not _usable(width, centre):
        width = 1.0
    return Scale(float(centre), float(width), had_missing)


def _usable(width: float, centre: float) -> bool:
    """Return whether a width is more than rounding noise of float32."""
    return bool(width > max(abs(centre) * 1e-7, 1e-30))


def _fit_boolean(values: npt.NDArray[Any]) -> Scale:
    """Return the scale that makes false -1, true 1 and missing 0 (before clipping)."""
    return Scale(0.5, 0.5, bool(np.isnan(values).any()))


def _add_scaling(draft: GraphDraft, joined: str, absent: str, scales: list[Scale]) -> str:
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
