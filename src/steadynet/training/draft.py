"""Put together everything that goes into the bundle."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib import metadata

import msgspec
from safetensors.torch import save
from torch import Tensor

import steadynet
from steadynet.bundle.card import render_card
from steadynet.bundle.manifest import Provenance
from steadynet.bundle.uncertainty_words import number
from steadynet.bundle.write import BundleDraft, draft_manifest, utc_now
from steadynet.export.head import RegressionHead
from steadynet.features.state import FeatureState
from steadynet.spec.model import Spec
from steadynet.training.blending import Share
from steadynet.training.calibrate import Calibration
from steadynet.training.components import FittedNetwork
from steadynet.training.fitting import Fitted
from steadynet.training.judge import Judged, decision_threshold
from steadynet.training.prepare import Table
from steadynet.training.record import ComponentFile, TrainingFile
from steadynet.training.search import SearchReport

LIBRARIES = (
    "lightgbm",
    "numpy",
    "onnx",
    "onnxruntime",
    "polars",
    "safetensors",
    "scikit-learn",
    "torch",
)
"""Whose versions the manifest names."""


def provenance_of(table: Table, fitted: Fitted, cpu_seconds: float, parent: str) -> Provenance:
    """Return how the bundle came about; `parent` is the digest of the bundle it follows, if any."""
    split = table.split
    return Provenance(
        steadynet=steadynet.__version__,
        python=platform.python_version(),
        libraries={name: metadata.version(name) for name in LIBRARIES},
        seed=fitted.first.plan.seed,
        snapshot_sha256=table.snapshot,
        rows={
            "train": len(split.train),
            "validation": len(split.validation),
            "test": len(split.test),
        },
        fit_seconds=fitted.fit_seconds,
        cpu_seconds=cpu_seconds,
        parent=parent,
    )


def draft_bundle(
    name: str,
    spec: Spec,
    table: Table,
    features: FeatureState,
    fitted: Fitted,
    calibration: Calibration,
    judged: Judged,
    model: bytes,
    provenance: Provenance,
) -> BundleDraft:
    """Return the draft with its model card."""
    head = calibration.head
    bare = BundleDraft(
        name=name,
        schema=table.schema,
        model=model,
        profile=judged.profile,
        golden=judged.golden,
        weights=save(_weights(fitted)),
        training=msgspec.json.encode(
            _training_file(spec, features, fitted, calibration), order="sorted"
        ),
        card="",
        metrics=judged.metrics,
        references=judged.references,
        provenance=provenance,
        slo=spec.slo,
        ece_floor=judged.ece_floor,
        coverage=spec.calibration.coverage if isinstance(head, RegressionHead) else None,
        covered=judged.covered,
        decision_threshold=decision_threshold(head),
        loss=fitted.ground.code.loss,
        notes=_notes(fitted, calibration),
    )
    manifest = draft_manifest(bare, created=utc_now())
    return replace(bare, card=render_card(manifest, judged.profile, slices=judged.slices))


def _weights(fitted: Fitted) -> dict[str, Tensor]:
    return {
        f"{component.name}/{name}": value
        for component in fitted.components
        if isinstance(component, FittedNetwork)
        for name, value in component.state().items()
    }


def _training_file(
    spec: Spec, features: FeatureState, fitted: Fitted, calibration: Calibration
) -> TrainingFile:
    shares = {share.name: share for share in fitted.shares}
    first = fitted.first
    return TrainingFile(
        network=first.kind,
        components=tuple(
            ComponentFile(
                name=component.name,
                kind=component.kind if isinstance(component, FittedNetwork) else "trees",
                summary=component.summary(),
                share=shares[component.name],
                plan=component.plan if isinstance(component, FittedNetwork) else None,
            )
            for component in fitted.components
        ),
        table=spec.table,
        split=spec.split,
        training=spec.training,
        calibration=spec.calibration,
        plan=first.plan,
        layout=fitted.ground.layout,
        features=features,
        head=calibration.head,
        calibrations=calibration.scores,
        search=fitted.search,
        ending=first.result.ending,
        best_epochs=first.result.best_epochs,
        retries=first.result.retries,
        history=first.result.history,
        widths=calibration.widths,
    )


def _notes(fitted: Fitted, calibration: Calibration) -> dict[str, str]:
    first, head = fitted.first, calibration.head
    if len(fitted.shares) == 1:
        notes = {"network": first.summary()}
    else:
        notes = {
            share.name: f"{fitted.summaries[share.name]}; {_share_words(share)}"
            for share in fitted.shares
        }
    if fitted.search is not None:
        notes["search"] = _search_words(fitted.search)
    notes["fit"] = f"{len(first.result.history)} epochs, ended: {first.result.ending}"
    if isinstance(head, RegressionHead):
        notes["interval"] = _width_words(head, calibration)
    else:
        notes["calibration"] = _calibration_words(head.method, calibration)
    return notes


def _width_words(head: RegressionHead, calibration: Calibration) -> str:
    """Say how wide the interval is, and how the other width did, with 95 % intervals."""
    method = head.shape.method
    if method == "cross":
        return f"cross (CV+ over {len(head.crossed.residuals) if head.crossed else 0} groups)"
    half = "" if head.adaptive else f", half width {head.half_width:.6g}"
    if not calibration.widths:
        return method + half
    found = (
        f"{score.method} {number(score.score)}"
        + (
            f" (+{number(score.worse_by)} ± {number(1.96 * score.worse_by_error)})"
            if score.worse_by
            else " (least)"
        )
        + f", mean width {number(score.width)}"
        for score in calibration.widths
    )
    return f"{method}{half}; held-out interval score: " + "; ".join(found)


def _calibration_words(method: str, calibration: Calibration) -> str:
    """Say which method was taken and how the others did, with 95 % intervals."""
    if not calibration.scores:
        return f"{method}, as the spec says"
    found = (
        f"{score.method} {score.log_loss:.5f}"
        + (
            f" (+{score.worse_by:.5f} ± {1.96 * score.worse_by_error:.5f})"
            if score.worse_by
            else " (least)"
        )
        for score in calibration.scores
    )
    return f"{method}; held-out log-loss: " + ", ".join(found)


def _search_words(report: SearchReport) -> str:
    kept = "the settings of the spec stayed"
    if report.settings:
        kept = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in report.settings.items()
        )
    mattered = ", ".join(f"{name} {share:.0%}" for name, share in report.importance.items())
    return (
        f"{report.trials} trials ({report.pruned} pruned, {report.failed} failed), held-out loss "
        f"{report.own_loss:.5f} before, {report.best_loss:.5f} at best; taken: {kept}"
        + (f"; what mattered: {mattered}" if mattered else "")
    )


def _share_words(share: Share) -> str:
    own = f"held-out loss {share.loss:.5f}"
    if share.weight == 0:
        return f"left out, since it brought nothing ({own})"
    return f"weight {share.weight:.2f}, {own}, {share.gain:.5f} more without it"
