"""What a fitted blend and its calibration are together: one graph, and what it must answer."""

from __future__ import annotations

from collections.abc import Callable

from steadynet.export.blend import export_blend
from steadynet.export.head import RegressionHead, export_head
from steadynet.export.interval import Sides
from steadynet.export.weld import weld
from steadynet.features.fit import FeatureGraph
from steadynet.features.run import Tensors
from steadynet.spec.model import TrainingSpec
from steadynet.training.calibrate import Calibration
from steadynet.training.conformal import HeldRows
from steadynet.training.fitting import Fitted
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


def weld_parts(features: FeatureGraph, fitted: Fitted, calibration: Calibration) -> bytes:
    """Return the serialized graph from raw columns to calibrated answers."""
    components = [component.export() for component in fitted.components]
    if calibration.spread is not None:
        components.append(calibration.spread.export())
    blend = export_blend(
        fitted.parts,
        classes=fitted.ground.code.classes > 0,
        groups=fitted.groups if _is_crossed(calibration) else 0,
    )
    head = export_head(calibration.head)
    serialized: bytes = weld(features.model, components, blend, head).SerializeToString()
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
