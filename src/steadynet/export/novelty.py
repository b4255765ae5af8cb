"""How far a row is from training, in the graph: `steadynet/novelty` and `steadynet/hidden`.

`hidden` float32 (N, K) are the first principal components of the network's last hidden layer, each
of unit variance on fitted rows: what the network has made of the row, small enough to be counted
per window like a feature.

`novelty` float32 (N,) is a distance from the fitted rows. In the hidden layer: Hotelling's T² along
the components plus what lies off them (the squared prediction error Q, Jackson and Mudholkar 1979;
in network features: Ndiour, Ahuja, Tickoo 2020, arXiv:2012.04250). In the inputs, since a network
squashes what is far out: how many of them are beyond all fitted values, unknown, or missing where
none was. It is 1 at the quantile `QUANTILE` of rows that were held out, and larger farther away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from steadynet.export.nodes import GraphWriter
from steadynet.export.parts import CATEGORIES, NUMBERS
from steadynet.table.schema import HIDDEN, NOVELTY

QUANTILE = 0.999
"""Share of held-out rows whose novelty is at most 1."""
OUTSIDE_WEIGHT = 0.25
"""What one input outside all that was fitted adds, where 1 is the limit."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Novelty:
    """What is known of the fitted rows. H hidden units, K components, D numbers, C categories."""

    center: Floats
    """Mean of the hidden layer, (H,)."""
    directions: Floats
    """Principal directions, orthonormal, (H, K)."""
    deviations: Floats
    """Standard deviation along each, (K,)."""
    off: float
    """Mean squared distance off the directions."""
    reach: Floats
    """Largest size of each number, (D,)."""
    known: tuple[npt.NDArray[np.bool_], ...]
    """Per category column, which entries occurred."""
    unit: float
    """Distance in the hidden layer at the quantile of held-out rows."""
    scale: float
    """Novelty before it was scaled to 1 at the quantile."""


def novelty_of(
    novelty: Novelty,
    hidden: npt.NDArray[np.float32],
    numbers: npt.NDArray[np.float32],
    categories: npt.NDArray[np.int64],
) -> tuple[Floats, Floats]:
    """Return components (N, K) and novelty (N,), as the graph does."""
    centred = hidden.astype(np.float64) - novelty.center
    along = centred @ novelty.directions
    components = along / novelty.deviations
    off = np.maximum(np.square(centred).sum(axis=1) - np.square(along).sum(axis=1), 0.0)
    distance = np.sqrt(np.square(components).mean(axis=1) + off / novelty.off)
    outside = (np.abs(numbers) > novelty.reach).sum(axis=1).astype(np.float64)
    for place, known in enumerate(novelty.known):
        outside += ~known[categories[:, place]]
    return components, (distance / novelty.unit + OUTSIDE_WEIGHT * outside) / novelty.scale


def export_novelty(novelty: Novelty, hidden: str) -> onnx.ModelProto:
    """Return the graph from the tensor `hidden` (N, H) and the features to both outputs."""
    writer = GraphWriter("novelty")

    def constant(values: Floats | float, what: str) -> str:
        return writer.constant(np.asarray(values, np.float32), what)

    last, first = writer.integers([-1], "last"), writer.integers([1], "columns")
    centred = writer.add("Sub", hidden, constant(novelty.center, "center"))
    along = writer.add("MatMul", centred, constant(novelty.directions, "directions"))
    components = writer.add("Mul", along, constant(1 / novelty.deviations, "scales"))
    writer.add("Identity", components, output=HIDDEN)
    within = writer.add("ReduceMean", writer.add("Mul", components, components), last, keepdims=0)
    all_of = writer.add("ReduceSum", writer.add("Mul", centred, centred), last, keepdims=0)
    of_them = writer.add("ReduceSum", writer.add("Mul", along, along), last, keepdims=0)
    off = writer.add("Max", writer.add("Sub", all_of, of_them), constant(0.0, "zero"))
    share = writer.add("Mul", off, constant(1 / novelty.off, "off"))
    distance = writer.add("Sqrt", writer.add("Add", within, share))
    total = writer.add("Mul", distance, constant(1 / (novelty.unit * novelty.scale), "unit"))
    weight = constant(OUTSIDE_WEIGHT / novelty.scale, "outside_weight")
    inputs = [helper.make_tensor_value_info(hidden, TensorProto.FLOAT, ["N", len(novelty.center)])]
    if len(novelty.reach):
        sizes = writer.add("Abs", NUMBERS)
        beyond = writer.add("Greater", sizes, constant(novelty.reach, "reach"))
        count = writer.add(
            "ReduceSum", writer.add("Cast", beyond, to=TensorProto.FLOAT), first, keepdims=0
        )
        total = writer.add("Add", total, writer.add("Mul", count, weight))
        shape = ["N", len(novelty.reach)]
        inputs.append(helper.make_tensor_value_info(NUMBERS, TensorProto.FLOAT, shape))
    if novelty.known:
        sizes_of = [len(known) for known in novelty.known]
        offsets = np.concatenate([[0], np.cumsum(sizes_of)[:-1]]).tolist()
        place = writer.add("Add", CATEGORIES, writer.integers(offsets, "offsets"))
        strange = constant((~np.concatenate(novelty.known)).astype(np.float64), "strange")
        found = writer.add("Gather", strange, place, axis=0)
        count = writer.add("ReduceSum", found, first, keepdims=0)
        total = writer.add("Add", total, writer.add("Mul", count, weight))
        shape = ["N", len(novelty.known)]
        inputs.append(helper.make_tensor_value_info(CATEGORIES, TensorProto.INT64, shape))
    writer.add("Identity", total, output=NOVELTY)
    outputs = [
        helper.make_tensor_value_info(
            HIDDEN, TensorProto.FLOAT, ["N", novelty.directions.shape[1]]
        ),
        helper.make_tensor_value_info(NOVELTY, TensorProto.FLOAT, ["N"]),
    ]
    return writer.model("novelty", inputs, outputs)
