"""Sets of classes that hold the true one with a promised probability. ONNX and, beside it, NumPy.

Every class has a score, the less the better it fits; those up to a limit are in the set, and the
likeliest is always. Of class c, with the probabilities p:

- lac: 1 - p(c), which gives the smallest sets on average (Sadinle, Lei and Wasserman 2019);
- aps: the sum of all p that are at least p(c), which is fairer to hard rows (Romano, Sesia and
  Candès 2020; without their randomisation, since a graph answers the same to the same row);
- raps: aps and a penalty for each rank beyond the second (Angelopoulos et al. 2021).
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.export.nodes import GraphWriter
from steadynet.table.schema import PREDICTION_SET

RAPS_PENALTY = 0.02
RAPS_FREE = 2
MARGIN = 3e-4
"""Scores this near to the limit, and probabilities this near to each other, may fall to either side
on another machine."""

SetMethod = Literal["lac", "aps", "raps"]
Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]


class PredictionSets(msgspec.Struct, frozen=True, kw_only=True):
    """Which classes are in a row's set."""

    method: SetMethod
    limit: float
    """Largest score that is in."""


def set_scores(probabilities: Floats, method: SetMethod) -> Floats:
    """Return every class's score (N, C)."""
    if method == "lac":
        plain: Floats = 1 - probabilities
        return plain
    ahead = probabilities[:, None, :] >= probabilities[:, :, None]  # (N, class, other)
    sums: Floats = np.einsum("ncj,nj->nc", ahead, probabilities)
    if method == "aps":
        return sums
    beyond = np.maximum(ahead.sum(axis=2) - RAPS_FREE, 0)
    penalised: Floats = sums + RAPS_PENALTY * beyond
    return penalised


def sets_of(probabilities: Floats, sets: PredictionSets) -> Booleans:
    """Return which classes are in each row's set (N, C)."""
    likeliest = probabilities >= probabilities.max(axis=1, keepdims=True)
    inside: Booleans = (set_scores(probabilities, sets.method) <= sets.limit) | likeliest
    return inside


def unsure_cells(probabilities: Floats, sets: PredictionSets) -> Booleans:
    """Return the cells (N, C) that rounding may decide: near the limit, or near another class."""
    near = np.abs(set_scores(probabilities, sets.method) - sets.limit) <= MARGIN
    apart = np.abs(probabilities[:, None, :] - probabilities[:, :, None]) <= MARGIN
    tied: Booleans = near | (apart.sum(axis=2) > 1)
    return tied


def write_sets(writer: GraphWriter, sets: PredictionSets) -> None:
    """Write the nodes from `probabilities` to `prediction_set`."""
    highest = writer.add("ReduceMax", "probabilities", writer.integers([1], "axis"), keepdims=1)
    likeliest = writer.add("GreaterOrEqual", "probabilities", highest)
    if sets.method == "lac":
        least = writer.constant(np.array(1 - sets.limit, np.float32), "least")
        inside = writer.add("GreaterOrEqual", "probabilities", least)
    else:
        inside = _write_summed(writer, sets)
    writer.add("Or", inside, likeliest, output=PREDICTION_SET)


def _write_summed(writer: GraphWriter, sets: PredictionSets) -> str:
    own = writer.add("Unsqueeze", "probabilities", writer.integers([2], "axis"))  # (N, C, 1)
    others = writer.add("Unsqueeze", "probabilities", writer.integers([1], "axis"))  # (N, 1, C)
    ahead = writer.add("Cast", writer.add("GreaterOrEqual", others, own), to=1)  # float32
    last = writer.integers([2], "last")
    score = writer.add("ReduceSum", writer.add("Mul", ahead, others), last, keepdims=0)
    if sets.method == "raps":
        ranks = writer.add("ReduceSum", ahead, last, keepdims=0)
        free = writer.constant(np.array(RAPS_FREE, np.float32), "free")
        zero = writer.constant(np.array(0, np.float32), "zero")
        penalty = writer.constant(np.array(RAPS_PENALTY, np.float32), "penalty")
        beyond = writer.add("Max", writer.add("Sub", ranks, free), zero)
        score = writer.add("Add", score, writer.add("Mul", beyond, penalty))
    limit = writer.constant(np.array(sets.limit, np.float32), "limit")
    return writer.add("LessOrEqual", score, limit)
