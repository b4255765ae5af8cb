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
    """Mean squared distance off the directions; a share of the whole at least (`training.novelty`),
    since the graph finds it as a difference of sums."""
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
    """Return the graph from the tensor `hidden` (N, H) and the features to both outputs.

    A node costs as much as some hundred products, so the sums are folded into few of them: with
    the components z of deviations s, the squared distance is
    `sum z² (1/K - s²/off) + (|h|² - 2 h·center + |center|²) / off`, whose middle term is one more
    column beside the components.
    """
    writer = GraphWriter("novelty")
    kept = novelty.directions.shape[1]
    square = 1 / (novelty.unit * novelty.scale) ** 2

    def constant(values: Floats | float, what: str) -> str:
        return writer.constant(np.asarray(values, np.float32), what)

    scaled = novelty.directions / novelty.deviations
    middle = -2 * square / novelty.off * novelty.center
    shift = np.append(
        -novelty.center @ scaled, square / novelty.off * float(np.square(novelty.center).sum())
    )
    columns = constant(np.concatenate([scaled, middle[:, None]], axis=1), "columns")
    product = writer.add("MatMul", hidden, columns)
    made = writer.add("Add", product, constant(shift, "shift"))  # (N, K + 1)
    rest = writer.add_split(made, writer.integers([kept, 1], "parts"), HIDDEN)
    lengths = writer.add("ReduceSumSquare", hidden, writer.integers([1], "units"), keepdims=1)
    own = square * (1 / kept - np.square(novelty.deviations) / novelty.off)
    along = writer.add("MatMul", writer.add("Mul", HIDDEN, HIDDEN), constant(own[:, None], "along"))
    length = writer.add("Mul", lengths, constant(square / novelty.off, "length"))
    distance = writer.add("Sqrt", writer.add("Relu", writer.add("Sum", along, rest, length)))
    terms, weight = [distance], OUTSIDE_WEIGHT / novelty.scale
    inputs = [helper.make_tensor_value_info(hidden, TensorProto.FLOAT, ["N", len(novelty.center)])]
    if len(novelty.reach):
        count = len(novelty.reach)
        beyond = writer.add("Greater", writer.add("Abs", NUMBERS), constant(novelty.reach, "reach"))
        ones = writer.add("Cast", beyond, to=TensorProto.FLOAT)
        terms.append(writer.add("MatMul", ones, constant(np.full((count, 1), weight), "weight")))
        inputs.append(helper.make_tensor_value_info(NUMBERS, TensorProto.FLOAT, ["N", count]))
    if novelty.known:
        sizes = [len(known) for known in novelty.known]
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).tolist()
        place = writer.add("Add", CATEGORIES, writer.integers(offsets, "offsets"))
        unknown = (~np.concatenate(novelty.known)).astype(np.float64)
        strange = constant(weight * unknown, "strange")
        found = writer.add("Gather", strange, place, axis=0)
        terms.append(writer.add("ReduceSum", found, writer.integers([1], "of_row"), keepdims=1))
        shape = ["N", len(novelty.known)]
        inputs.append(helper.make_tensor_value_info(CATEGORIES, TensorProto.INT64, shape))
    total = writer.add("Sum", *terms) if len(terms) > 1 else distance
    writer.add("Reshape", total, writer.integers([-1], "flat"), output=NOVELTY)
    outputs = [
        helper.make_tensor_value_info(HIDDEN, TensorProto.FLOAT, ["N", kept]),
        helper.make_tensor_value_info(NOVELTY, TensorProto.FLOAT, ["N"]),
    ]
    return writer.model("novelty", inputs, outputs)
