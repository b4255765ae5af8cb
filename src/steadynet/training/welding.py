"""What a fitted blend and its calibration are together: one graph, and what it must answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from steadynet.export.blend import export_blend
from steadynet.export.head import RegressionHead, export_head
from steadynet.export.interval import Sides
from steadynet.export.network import hidden_name
from steadynet.export.novelty import Novelty, export_novelty
from steadynet.export.weld import for_further_target, weld
from steadynet.features.fit import FeatureGraph
from steadynet.features.run import Tensors
from steadynet.spec.model import Spec, TrainingSpec
from steadynet.table.schema import OUTPUTS, Schema, output_name
from steadynet.training.calibrate import Calibration, calibrate
from steadynet.training.components import FittedNetwork
from steadynet.training.conformal import HeldRows
from steadynet.training.data import Floats, Indices
from steadynet.training.fitted import Fitted
from steadynet.training.novelty import export_hidden, fit_novelty
from steadynet.training.prepare import Table
from steadynet.training.trees import tree_cells


def counted_places(weights: Floats | None, held: Indices, seed: int) -> Indices:
    """Return places among the raveled held rows (G, m), each group's rows by their weights.

    Each group gives as many as its rows are worth, (sum w)^2 / sum w^2 (Kish 1965), drawn
    systematically; without weights every row once.
    """
    groups, rows = held.shape
    if weights is None:
        return np.arange(groups * rows)
    own = weights[held]
    worth = np.square(own.sum(axis=1)) / np.maximum(np.square(own).sum(axis=1), 1e-12)
    count = max(1, int(worth.min()))
    start = np.random.default_rng(seed).random((groups, 1))
    wanted = (start + np.arange(count)) / count  # (G, count)
    reached = own.cumsum(axis=1) / np.maximum(own.sum(axis=1, keepdims=True), 1e-12)
    found = [
        np.searchsorted(line, at).clip(max=rows - 1) + group * rows
        for group, (line, at) in enumerate(zip(reached, wanted, strict=True))
    ]
    return np.concatenate(found).astype(np.int64)


def held_rows(fitted: Fitted, tensors: Tensors, training: TrainingSpec, rows: Indices) -> HeldRows:
    """Return what an interval is fitted on; no trees tell its width where the spec wants none."""
    cells = tree_cells(tensors)[rows]
    return HeldRows(
        cells=None if training.trees == "never" else cells,
        layout=fitted.ground.layout,
        groups=fitted.groups,
        seed=training.seed,
    )


def calibrate_all(fitted: Fitted, table: Table, tensors: Tensors, spec: Spec) -> list[Calibration]:
    """Calibrate every target on the held rows that have a value of it.

    Rows that count more stand there more often.

    What the spec says of the method and the interval is the main target's: the others choose their
    method on their own rows, and their intervals are of constant width.
    """
    ground, chosen = fitted.ground, spec.calibration
    places = counted_places(ground.weights, ground.held, spec.training.seed)
    rows = ground.held_rows[places]
    held: HeldRows | None = held_rows(fitted, tensors, spec.training, rows)
    made = []
    for target, described, answer in zip(
        ground.targets, table.schema.targets, fitted.held_answers, strict=True
    ):
        known = target.truth.known[rows]
        values = target.truth.values[rows][known]
        classes = described.classes
        made.append(calibrate(answer[places][known], values, target.code, classes, chosen, held))
        chosen, held = msgspec.structs.replace(chosen, method="auto", prediction_sets=False), None
    return made


def weld_parts(
    features: FeatureGraph,
    fitted: Fitted,
    calibrations: Sequence[Calibration],
    schema: Schema,
    novelty: Novelty | None = None,
) -> bytes:
    """Return the serialized graph from raw columns to calibrated answers of every target.

    With `novelty`, it also says how new a row is to the first network.
    """
    watched = None if novelty is None else first_network(fitted)
    components = [
        export_hidden(component) if component is watched else component.export()
        for component in fitted.components
    ]
    blends, heads = [], []
    for place, calibration in enumerate(calibrations):
        if calibration.spread is not None:
            components.append(calibration.spread.export())
        blend = export_blend(
            fitted.parts(place),
            classes=fitted.ground.targets[place].code.classes > 0,
            groups=fitted.groups if _is_crossed(calibration) else 0,
        )
        head, target = export_head(calibration.head), schema.targets[place]
        if place > 0:
            named = {output: output_name(schema, target, output) for output in OUTPUTS[target.task]}
            blend = for_further_target(blend, place, named)
            head = for_further_target(head, place, named)
        blends.append(blend)
        heads.append(head)
    if watched is not None and novelty is not None:
        heads.append(export_novelty(novelty, hidden_name(watched.name)))
    serialized: bytes = weld(features.model, components, blends, heads).SerializeToString()
    return serialized


def first_network(fitted: Fitted) -> FittedNetwork | None:
    """Return the first network of a blend."""
    networks = (item for item in fitted.components if isinstance(item, FittedNetwork))
    return next(networks, None)


def novelty_of_rows(fitted: Fitted, tensors: Tensors) -> Novelty | None:
    """Return how far rows are from those that the first network's first group was fitted on."""
    network, folds = first_network(fitted), fitted.ground.folds
    if network is None:
        return None
    return fit_novelty(network, tensors, folds.fit[0], folds.held[0])


def sides_of(fitted: Fitted, calibration: Calibration) -> Callable[[Tensors], Sides]:
    """Return what gives an interval's inputs beside the answer, by torch and LightGBM."""
    spread, crossed = calibration.spread, _is_crossed(calibration)

    def sides(tensors: Tensors) -> Sides:
        return Sides(
            spread=None if spread is None else spread.logarithm(tensors),
            groups=fitted.group_answers(tensors) if crossed else None,
        )

    return sides


def _is_crossed(calibration: Calibration) -> bool:
    head = calibration.head
    return isinstance(head, RegressionHead) and head.crossed is not None
