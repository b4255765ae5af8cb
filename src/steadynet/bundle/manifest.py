"""`manifest.json`: what a bundle holds and where it came from.

Round-trip law: `decode_manifest(encode_manifest(m)) == m`, and encoding is deterministic, so that
the manifest's own digest identifies the bundle.
"""

from __future__ import annotations

from typing import Any

import msgspec

from steadynet.errors import BundleFormat
from steadynet.spec.losses import Loss
from steadynet.spec.model import Slo
from steadynet.table.schema import Schema, Target, output_name

FORMAT_VERSION = 1
"""Of a bundle with one target."""
SEVERAL_TARGETS = 2
"""Of a bundle with further targets, which readers of version 1 could not check."""
KNOWN_VERSIONS = (FORMAT_VERSION, SEVERAL_TARGETS)

MANIFEST = "manifest.json"
MODEL = "model.onnx"
PROFILE = "profile.json"
GOLDEN = "golden.jsonl"
WEIGHTS = "weights.safetensors"
TRAINING = "training.json"
CARD = "README.md"
SIGNATURE = "model.sig"

FILES: tuple[str, ...] = (MODEL, PROFILE, GOLDEN, WEIGHTS, TRAINING, CARD)
"""Every file that the manifest lists; `manifest.json` and `model.sig` stand beside them."""


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the bundle."""

    sha256: str
    bytes: int


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A metric's value with its bootstrap interval (95 %)."""

    value: float
    low: float
    high: float


class EceFloor(msgspec.Struct, frozen=True, kw_only=True):
    """The ECE that a perfectly calibrated model would show by chance on the same test part."""

    mean: float
    quantile_05: float
    quantile_50: float
    quantile_95: float
    quantile_99: float
    chance: float
    """Share of perfectly calibrated models whose ECE is as large as this one's, or larger."""


class Covered(msgspec.Struct, frozen=True, kw_only=True):
    """What intervals or sets hold of the test part, beside what was promised."""

    method: str
    promised: float
    measured: Interval
    """Share of the rows whose truth is inside."""
    size: Interval
    """Mean width in the target's unit, or mean number of classes in a set."""


class Provenance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the bundle came about."""

    steadynet: str
    python: str
    libraries: dict[str, str]
    seed: int
    snapshot_sha256: str
    """Digest of the table that was trained on."""
    rows: dict[str, int]
    """Rows per part: train, validation, test."""
    fit_seconds: float
    cpu_seconds: float = 0.0
    parent: str = ""
    """Manifest digest of the bundle that this one was trained to follow, if any."""


class TargetRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a further target: as the fields of `Manifest` say it of the main one."""

    metrics: dict[str, dict[str, Interval]]
    references: dict[str, dict[str, float]]
    rows: dict[str, int]
    """Rows per part that have a value of it."""
    notes: dict[str, str]
    ece_floor: EceFloor | None = None
    coverage: float | None = None
    covered: Covered | None = None
    decision_threshold: float | None = None
    loss: Loss | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything about a bundle that is not a tensor."""

    format_version: int
    name: str
    created: str
    """ISO 8601, UTC."""
    schema: Schema
    metrics: dict[str, dict[str, Interval]]
    """Part ("test", "validation") → metric → value with interval."""
    references: dict[str, dict[str, float]]
    """Reference model ("linear", "boosted_trees") → metric → value on the same test part."""
    provenance: Provenance
    files: dict[str, FileEntry]
    slo: Slo = msgspec.field(default_factory=Slo)
    ece_floor: EceFloor | None = None
    """Classification: what `ece` of the test part is to be compared with."""
    coverage: float | None = None
    """Promised coverage of a regression's interval, 0 to 1."""
    covered: Covered | None = None
    """What the interval, or the set of classes, holds of the test part."""
    decision_threshold: float | None = None
    """Binary: the probability of the positive class from which `label` is that class."""
    loss: Loss | None = None
    """What the fit made small; None in bundles written before it was a choice."""
    weight_column: str | None = None
    """What the rows of the metrics count by; None: all the same."""
    notes: dict[str, str] = msgspec.field(default_factory=dict)
    more_targets: dict[str, TargetRecord] = msgspec.field(default_factory=dict)
    """Further target → what is known of it. Everything above is of the main target."""

    def about(self, target: Target) -> Manifest:
        """Return the manifest as if this target were the only one."""
        alone = msgspec.structs.replace(self, schema=self.schema.about(target), more_targets={})
        record = self.more_targets.get(target.name)
        if record is None:
            return alone
        return msgspec.structs.replace(
            alone,
            metrics=record.metrics,
            references=record.references,
            ece_floor=record.ece_floor,
            coverage=record.coverage,
            covered=record.covered,
            decision_threshold=record.decision_threshold,
            loss=record.loss,
            notes=record.notes,
        )


def thresholds_of(manifest: Manifest) -> dict[str, float]:
    """Return the label output of each binary target → the probability from which it is positive."""
    found = {}
    for target in manifest.schema.targets:
        threshold = manifest.about(target).decision_threshold
        if threshold is not None:
            found[output_name(manifest.schema, target, "label")] = threshold
    return found


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as indented JSON with sorted keys and a final newline."""
    plain: dict[str, Any] = msgspec.to_builtins(manifest)
    compact = msgspec.json.encode(plain, order="sorted")
    return msgspec.json.format(compact, indent=2) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest.

    Raises `BundleFormat` where the bytes are not a manifest of a known format version.
    """
    try:
        version = msgspec.json.decode(data, type=_VersionOnly).format_version
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleFormat(f"{MANIFEST} cannot be read", got=str(error)) from error
    if version not in KNOWN_VERSIONS:
        raise BundleFormat(
            f"{MANIFEST} has another format version",
            expected=" or ".join(map(str, KNOWN_VERSIONS)),
            got=str(version),
            do="Install the steadynet version that wrote it, or train the model again.",
        )
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleFormat(f"{MANIFEST} cannot be read", got=str(error)) from error


class _VersionOnly(msgspec.Struct):
    format_version: int
