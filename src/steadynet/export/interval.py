"""A regression's interval: from the prediction to its bounds. ONNX and, beside it, NumPy.

- constant: prediction ± half width (split conformal, Lei et al. 2018);
- cross: CV+ (Barber et al. 2021, "Predictive inference with the jackknife+"), from what every
  cross-fitted group answers and from the residuals of the rows that it was not fitted on;
- adaptive: prediction ± half width * spread, where boosted trees tell the spread from the row's
  columns (Papadopoulos et al. 2008; Lei et al. 2018, section 5.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.export.network import members_name
from steadynet.export.nodes import GraphWriter

SPREAD_COMPONENT = "spread"
"""Name of the trees in the graph; they end in the logarithm of the spread (N, 1, 1)."""
SPREAD = members_name(SPREAD_COMPONENT)
GROUPS = "steadynet/groups"
"""float32 (N, G): the blend's standardised answer by each group alone."""

Floats = npt.NDArray[np.float64]


class Crossed(msgspec.Struct, frozen=True, kw_only=True):
    """What CV+ needs of the held-out residuals."""

    residuals: tuple[tuple[float, ...], ...]
    """Per group, absolute residuals of its held-out rows in the target's unit; each stands for
    equally many rows, of which it is the largest, so that intervals only get wider."""
    rank: int
    """Place, from outside, of the value that is the bound."""


class IntervalShape(msgspec.Struct, frozen=True, kw_only=True):
    """How wide the interval is."""

    half_width: float
    """Half of the interval, in the target's unit; adaptive: where the spread is 1."""
    adaptive: bool = False
    crossed: Crossed | None = None

    @property
    def method(self) -> str:
        """Its name in the spec."""
        return "cross" if self.crossed else "adaptive" if self.adaptive else "constant"


@dataclass(frozen=True, kw_only=True)
class Sides:
    """What the bounds need beside the prediction."""

    spread: Floats | None = None
    """(N,): the logarithm of the spread."""
    groups: Floats | None = None
    """(N, G): every group's prediction, in the target's unit."""


def crossed_of(residuals: Floats, coverage: float, cells: int) -> Crossed:
    """Return what CV+ needs of absolute residuals (G, m), held in about `cells` numbers.

    The lower bound of CV+ is the floor((1 - coverage) (n + 1))-th smallest of the n values "group's
    prediction - residual". Residuals are grouped in blocks of equal number, the largest standing
    for its block; a last block that is not full is filled with the largest of all.
    """
    groups, rows = residuals.shape
    block = math.ceil(rows * groups / cells)
    blocks = math.ceil(rows / block)
    padded = np.concatenate(
        [np.sort(residuals, axis=1), np.repeat(residuals.max(axis=1)[:, None], block, axis=1)],
        axis=1,
    )[:, : blocks * block]
    largest = padded.reshape(groups, blocks, block).max(axis=2)
    outside = math.floor((1 - coverage) * (groups * rows + 1) + 1e-9)
    rank = max(1, math.ceil(outside / block))
    return Crossed(residuals=tuple(tuple(row) for row in largest.tolist()), rank=rank)


def bounds_of(prediction: Floats, shape: IntervalShape, sides: Sides) -> tuple[Floats, Floats]:
    """Return lower and upper bounds (N,) of predictions (N,)."""
    if shape.crossed is not None:
        assert sides.groups is not None
        residuals = np.array(shape.crossed.residuals)
        below = (sides.groups[:, :, None] - residuals).reshape(len(prediction), -1)
        above = (sides.groups[:, :, None] + residuals).reshape(len(prediction), -1)
        rank = shape.crossed.rank
        lower = np.partition(below, rank - 1, axis=1)[:, rank - 1]
        upper = np.partition(above, -rank, axis=1)[:, -rank]
        return np.minimum(lower, prediction), np.maximum(upper, prediction)
    half: Floats | float = shape.half_width
    if shape.adaptive:
        assert sides.spread is not None
        half = shape.half_width * np.exp(sides.spread)
    return prediction - half, prediction + half


def write_bounds(
    writer: GraphWriter,
    prediction: str,
    shape: IntervalShape,
    in_unit: Callable[[str], str],
) -> tuple[str, str]:
    """Write the bounds of `prediction` (N,); return their names.

    `in_unit` writes the nodes from a standardised answer to the target's unit.
    """
    if shape.crossed is not None:
        return _write_crossed(writer, prediction, shape.crossed, in_unit(GROUPS))
    half = writer.constant(np.array(shape.half_width, np.float32), "half_width")
    if shape.adaptive:
        flat = writer.add("Reshape", SPREAD, writer.integers([-1], "flat"))
        half = writer.add("Mul", writer.add("Exp", flat), half)
    return writer.add("Sub", prediction, half), writer.add("Add", prediction, half)


def _write_crossed(
    writer: GraphWriter, prediction: str, crossed: Crossed, groups: str
) -> tuple[str, str]:
    residuals = np.array(crossed.residuals, np.float32)
    count = writer.integers([crossed.rank], "rank")
    last = writer.integers([crossed.rank - 1], "last")
    flat = writer.integers([-1], "flat")
    cells = writer.integers([-1, residuals.size], "cells")
    column = writer.add("Unsqueeze", groups, writer.integers([2], "axis"))  # (N, G, 1)
    known = writer.constant(residuals, "residuals")
    found = []
    for operator, largest, limit in (("Sub", 0, "Min"), ("Add", 1, "Max")):
        values = writer.add("Reshape", writer.add(operator, column, known), cells)
        outer = writer.add_first("TopK", values, count, axis=1, largest=largest, sorted=1)
        bound = writer.add("Reshape", writer.add("Gather", outer, last, axis=1), flat)
        found.append(writer.add(limit, bound, prediction))
    return found[0], found[1]
