"""Fitting how far a row is from training: see `export.novelty`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnxruntime

from steadynet.export.network import export_network, hidden_name
from steadynet.export.nodes import Graph
from steadynet.export.novelty import QUANTILE, Novelty, novelty_of
from steadynet.export.parts import CATEGORIES, NUMBERS
from steadynet.features.run import Tensors
from steadynet.training.components import FittedNetwork
from steadynet.training.data import Indices
from steadynet.training.samples import thinned

COMPONENTS = 6
"""Principal components that are kept at most."""
FITTED_ROWS = 20_000
"""Rows that the components are fitted on."""
HELD_ROWS = 50_000
SMALLEST_SHARE = 1e-6
"""Variance of a direction, as a share of all, below which it is rounding."""
LEAST_OFF = 1e-2
"""Variance off the directions that is reckoned with, as a share of all. Where the rows span few
directions there is none, and what the graph finds there in single precision is rounding."""
MARGIN = 1.001
"""By which rows of the quantile stay below 1: where there are few different rows, they are many."""

Floats = npt.NDArray[np.float64]


def export_hidden(network: FittedNetwork) -> Graph:
    """Return a network's graph that also makes its last hidden layer."""
    return export_network(network.network, network.network.layout, network.name, with_hidden=True)


def fit_novelty(
    network: FittedNetwork, tensors: Tensors, fitted: Indices, held: Indices
) -> Novelty | None:
    """Return what a network's fitted rows look like, measured on rows held out from it.

    None where its hidden layer is the same for all rows.
    """
    session = _session(network)
    known = tensors.rows(thinned(fitted, FITTED_ROWS))
    hidden = _hidden(session, known).astype(np.float64)
    center = hidden.mean(axis=0)
    variances, directions = np.linalg.eigh(
        np.cov(hidden - center, rowvar=False).reshape(hidden.shape[1], hidden.shape[1])
    )
    total = float(variances.clip(0).sum())
    kept = np.flatnonzero(variances[::-1] > SMALLEST_SHARE * total)[:COMPONENTS]
    if total <= 0 or not len(kept):
        return None
    chosen = directions[:, ::-1][:, kept]
    kept_variance = variances[::-1][kept]
    off = max(total - float(kept_variance.sum()), LEAST_OFF * total)
    cardinalities = network.network.layout.cardinalities
    first = Novelty(
        center=center,
        directions=chosen,
        deviations=np.sqrt(kept_variance),
        off=off,
        reach=np.abs(known.numbers).max(axis=0, initial=0.0).astype(np.float64),
        known=tuple(
            np.bincount(known.categories[:, place], minlength=size) > 0
            for place, size in enumerate(cardinalities)
        ),
        unit=1.0,
        scale=1.0,
    )
    return _scaled(first, session, tensors.rows(thinned(held, HELD_ROWS)))


def _scaled(novelty: Novelty, session: onnxruntime.InferenceSession, held: Tensors) -> Novelty:
    """Scale distances so that held-out rows reach 1 at the quantile."""
    hidden = _hidden(session, held)
    inside = replace(novelty, reach=np.full_like(novelty.reach, np.inf), known=())
    _, distance = novelty_of(inside, hidden, held.numbers, held.categories)
    unit = replace(novelty, unit=max(float(np.quantile(distance, QUANTILE)), 1e-6))
    _, found = novelty_of(unit, hidden, held.numbers, held.categories)
    return replace(unit, scale=MARGIN * max(float(np.quantile(found, QUANTILE)), 1e-6))


def _session(network: FittedNetwork) -> onnxruntime.InferenceSession:
    graph = export_hidden(network)
    name = hidden_name(network.name)
    output = graph.graph.output.add()
    output.name = name
    output.type.tensor_type.elem_type = 1
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _hidden(session: onnxruntime.InferenceSession, rows: Tensors) -> npt.NDArray[np.float32]:
    """Return the last hidden layer (N, H)."""
    wanted = [node.name for node in session.get_inputs()]
    name = next(node.name for node in session.get_outputs() if node.name.endswith("/hidden"))
    parts = []
    for start in range(0, len(rows.numbers), 4096):
        chunk = {
            NUMBERS: rows.numbers[start : start + 4096],
            CATEGORIES: rows.categories[start : start + 4096],
        }
        parts.append(session.run([name], {key: chunk[key] for key in wanted})[0])
    made: npt.NDArray[np.float32] = np.concatenate(parts)
    return made
