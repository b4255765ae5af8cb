"""What a fitted blend and its calibration are together: one graph, and what it must answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from steadynet.export.blend import export_blend
from steadynet.export.head import RegressionHead, export_head
from steadynet.export.interval import Sides
from steadynet.export.weld import for_further_target, weld
from steadynet.features.fit import FeatureGraph
from steadynet.features.run import Tensors
from steadynet.spec.model import Spec, TrainingSpec
from steadynet.table.schema import OUTPUTS, Schema, output_name
from steadynet.training.calibrate import Calibration, calibrate
from steadynet.training.conformal import HeldRows
from steadynet.training.fitting import Fitted
from steadynet.training.prepare import Table
from steadynet.training.trees import tree_cells


def held_rows(fitted: Fitted, tensors: Tensors, training: TrainingSpec) -> HeldRows:
    """Return what an interval is fitted on; no trees tell its width where the spec wants none."""
    cells = tree_cells(tensors)[fitted.ground.held_rows]
    return HeldRows(
        cells=None if training.trees == "never" else cells,
        layout=fitted.ground.layout,
        groups=fitted.groups,
        seed=training.seed,
    )


def calibrate_all(fitted: Fitted, table: Table, tensors: Tensors, spec: Spec) -> list[Calibration]:
    """Calibrate every target on the held rows that have a value of it.

    What the spec says of the method and the interval is the main target's: the others choose their
    method on their own rows, and their intervals are of constant width.
    """
    ground, chosen = fitted.ground, spec.calibration
    held: HeldRows | None = held_rows(fitted, tensors, spec.training)
    made = []
    for target, described, answer in zip(
        ground.targets, table.schema.targets, fitted.held_answers, strict=True
    ):
        known = target.truth.known[ground.held_rows]
        values = target.truth.values[ground.held_rows][known]
        classes = described.classes
        made.append(calibrate(answer[known], values, target.code, classes, chosen, held))
        chosen, held = msgspec.structs.replace(chosen, method="auto"), None
    return made


def weld_parts(
    features: FeatureGraph, fitted: Fitted, calibrations: Sequence[Calibration], schema: Schema
) -> bytes:
    """Return the serialized graph from raw columns to calibrated answers of every target."""
    components = [component.export() for component in fitted.components]
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
    serialized: bytes = weld(features.model, components, blends, heads).SerializeToString()
    return serialized


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
