"""Put together everything that goes into the bundle."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata

import msgspec
from safetensors.torch import save
from torch import Tensor

import steadynet
from steadynet.bundle.card import render_card
from steadynet.bundle.manifest import Provenance
from steadynet.bundle.write import BundleDraft, draft_manifest, utc_now
from steadynet.export.head import RegressionHead
from steadynet.features.state import FeatureState
from steadynet.spec.model import Spec
from steadynet.training.calibrate import Calibration
from steadynet.training.components import FittedNetwork
from steadynet.training.fitted import Fitted
from steadynet.training.judge import Judged, decision_threshold
from steadynet.training.prepare import Table
from steadynet.training.record import ComponentFile, TrainingFile
from steadynet.training.refit import refit_words
from steadynet.training.windows import windows_words
from steadynet.training.wording import (
    calibration_notes,
    lesson_words,
    search_words,
    share_words,
    transform_words,
    undefined_words,
)

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


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a bundle's numbers depend on."""
    return {name: metadata.version(name) for name in LIBRARIES}


def provenance_of(table: Table, fitted: Fitted, cpu_seconds: float, parent: str) -> Provenance:
    """Return how the bundle came about; `parent` is the digest of the bundle it follows, if any."""
    split = table.split
    return Provenance(
        steadynet=steadynet.__version__,
        python=platform.python_version(),
        libraries=library_versions(),
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
    calibrations: Sequence[Calibration],
    judged: Judged,
    model: bytes,
    provenance: Provenance,
) -> BundleDraft:
    """Return the draft with its model card."""
    calibration = calibrations[0]
    head = calibration.head
    bare = BundleDraft(
        name=name,
        schema=table.schema,
        model=model,
        profile=judged.profile,
        golden=judged.golden,
        weights=save(_weights(fitted)),
        training=msgspec.json.encode(
            _training_file(spec, features, fitted, calibrations), order="sorted"
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
        weight_column=spec.table.weight_column,
        notes=_notes(fitted, calibration, spec),
        more_targets=judged.more_targets,
        pictures=judged.pictures,
    )
    manifest = draft_manifest(bare, created=utc_now())
    card = render_card(manifest, judged.profile, slices=judged.slices, pictures=judged.pictures)
    return replace(bare, card=card)


def _weights(fitted: Fitted) -> dict[str, Tensor]:
    """Return the networks' weights; the first one's always, since later fits may go on from it."""
    networks = {part.name: part for part in fitted.components if isinstance(part, FittedNetwork)}
    networks.setdefault(fitted.first.name, fitted.first)
    return {
        f"{component.name}/{name}": value
        for component in networks.values()
        for name, value in component.state().items()
    }


def _training_file(
    spec: Spec, features: FeatureState, fitted: Fitted, calibrations: Sequence[Calibration]
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
        head=calibrations[0].head,
        more_heads=tuple(calibration.head for calibration in calibrations[1:]),
        calibrations=calibrations[0].scores,
        search=fitted.search,
        ending=first.result.ending,
        best_epochs=first.result.best_epochs,
        retries=first.result.retries,
        history=first.result.history,
        widths=calibrations[0].widths,
    )


def _notes(fitted: Fitted, calibration: Calibration, spec: Spec) -> dict[str, str]:
    first = fitted.first
    if len(fitted.shares) == 1:
        notes = {"network": first.summary()}
    else:
        notes = {
            share.name: f"{fitted.summaries[share.name]}; {share_words(share)}"
            for share in fitted.shares
        }
    if fitted.transforms:
        notes["target transform"] = transform_words(fitted.transforms)
    if fitted.lesson is not None:
        notes["teacher"] = lesson_words(fitted.lesson)
    if fitted.search is not None:
        notes["search"] = search_words(fitted.search)
    if spec.training.metric != fitted.ground.code.metric:
        notes["metric"] = undefined_words(spec.training.metric)
    notes["fit"] = f"{len(first.result.history)} epochs, ended: {first.result.ending}"
    if fitted.ground.earlier:
        notes["windows"] = windows_words(fitted.ground)
    if fitted.refitted is not None:
        notes["refit"] = refit_words(len(fitted.refitted))
    return notes | calibration_notes(calibration)
