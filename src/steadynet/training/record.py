"""`training.json`: what a bundle keeps of its training, so that another one can go on from it."""

from __future__ import annotations

import msgspec

from steadynet.export.head import Head
from steadynet.features.state import FeatureState
from steadynet.spec.model import CalibrationSpec, SplitSpec, TableSpec, TrainingSpec
from steadynet.table.layout import FeatureLayout
from steadynet.training.blending import Share
from steadynet.training.calibrate import MethodScore
from steadynet.training.checkpoint import EpochRecord
from steadynet.training.conformal import WidthScore
from steadynet.training.plan import FitPlan
from steadynet.training.search import SearchReport


class ComponentFile(msgspec.Struct, frozen=True, kw_only=True):
    """One component: its weights stand in `weights.safetensors` under `<name>/`."""

    name: str
    kind: str
    """A name of `steadynet.networks.NETWORKS`, or "trees", whose nodes the graph alone holds."""
    summary: str
    share: Share
    plan: FitPlan | None
    """None for trees."""


class TrainingFile(msgspec.Struct, frozen=True, kw_only=True):
    """`training.json`: with `weights.safetensors` all that it takes to rebuild the network."""

    network: str
    """The kind of the first network."""
    components: tuple[ComponentFile, ...]
    table: TableSpec
    split: SplitSpec
    training: TrainingSpec
    calibration: CalibrationSpec
    plan: FitPlan
    layout: FeatureLayout
    features: FeatureState
    head: Head
    more_heads: tuple[Head, ...] = ()
    """The further targets'."""
    calibrations: tuple[MethodScore, ...]
    search: SearchReport | None
    ending: str
    best_epochs: tuple[int, ...]
    retries: int
    history: tuple[EpochRecord, ...]
    widths: tuple[WidthScore, ...] = ()
