"""Put together everything that goes into the bundle."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib import metadata

import msgspec
from safetensors.torch import save

import steadynet
from steadynet.bundle.card import render_card
from steadynet.bundle.manifest import Provenance
from steadynet.bundle.write import BundleDraft, draft_manifest, utc_now
from steadynet.export.head import Head, RegressionHead
from steadynet.spec.model import CalibrationSpec, Spec, SplitSpec, TableSpec, TrainingSpec
from steadynet.table.layout import FeatureLayout
from steadynet.training.checkpoint import EpochRecord
from steadynet.training.fitting import Fitted
from steadynet.training.judge import Judged, decision_threshold
from steadynet.training.plan import FitPlan
from steadynet.training.prepare import Table

LIBRARIES = ("numpy", "onnx", "onnxruntime", "polars", "safetensors", "scikit-learn", "torch")
"""Whose versions the manifest names."""


class TrainingFile(msgspec.Struct, frozen=True, kw_only=True):
    """`training.json`: with `weights.safetensors` all that it takes to rebuild the network."""

    network: str
    table: TableSpec
    split: SplitSpec
    training: TrainingSpec
    calibration: CalibrationSpec
    plan: FitPlan
    layout: FeatureLayout
    head: Head
    ending: str
    best_epochs: tuple[int, ...]
    retries: int
    history: tuple[EpochRecord, ...]


def provenance_of(table: Table, fitted: Fitted, cpu_seconds: float, parent: str) -> Provenance:
    """Return how the bundle came about; `parent` is the digest of the bundle it follows, if any."""
    split = table.split
    return Provenance(
        steadynet=steadynet.__version__,
        python=platform.python_version(),
        libraries={name: metadata.version(name) for name in LIBRARIES},
        seed=fitted.plan.seed,
        snapshot_sha256=table.snapshot,
        rows={
            "train": len(split.train),
            "validation": len(split.validation),
            "test": len(split.test),
        },
        fit_seconds=fitted.result.fit_seconds,
        cpu_seconds=cpu_seconds,
        parent=parent,
    )


def draft_bundle(
    name: str,
    spec: Spec,
    table: Table,
    fitted: Fitted,
    head: Head,
    judged: Judged,
    model: bytes,
    provenance: Provenance,
) -> BundleDraft:
    """Return the draft with its model card."""
    bare = BundleDraft(
        name=name,
        schema=table.schema,
        model=model,
        profile=judged.profile,
        golden=judged.golden,
        weights=save(dict(fitted.network.state_dict())),
        training=msgspec.json.encode(_training_file(spec, fitted, head), order="sorted"),
        card="",
        metrics=judged.metrics,
        references=judged.references,
        provenance=provenance,
        slo=spec.slo,
        coverage=spec.calibration.coverage if isinstance(head, RegressionHead) else None,
        decision_threshold=decision_threshold(head),
        notes=_notes(spec, fitted, head),
    )
    manifest = draft_manifest(bare, created=utc_now())
    return replace(bare, card=render_card(manifest, judged.profile, slices=judged.slices))


def _training_file(spec: Spec, fitted: Fitted, head: Head) -> TrainingFile:
    return TrainingFile(
        network=spec.training.network,
        table=spec.table,
        split=spec.split,
        training=spec.training,
        calibration=spec.calibration,
        plan=fitted.plan,
        layout=fitted.network.layout,
        head=head,
        ending=fitted.result.ending,
        best_epochs=fitted.result.best_epochs,
        retries=fitted.result.retries,
        history=fitted.result.history,
    )


def _notes(spec: Spec, fitted: Fitted, head: Head) -> dict[str, str]:
    network = fitted.network
    weights = sum(parameter.numel() for parameter in network.parameters())
    notes = {
        "network": f"{spec.training.network}: {fitted.plan.size.depth} layers of "
        f"{fitted.plan.size.width}, {network.members} members in each of {network.groups} groups, "
        f"{weights} weights",
        "fit": f"{len(fitted.result.history)} epochs, ended: {fitted.result.ending}",
    }
    if isinstance(head, RegressionHead):
        notes["calibration"] = f"half width of the interval {head.half_width:.6g}"
    else:
        notes["calibration"] = f"temperature {head.temperature:.4f}"
    return notes
