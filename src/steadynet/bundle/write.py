"""Write a bundle: into a temporary folder, digested, signed, synced, renamed.

Invariant: a folder under the final name is a whole, signed bundle, whatever happens meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from steadynet.bundle.golden import GoldenRow, encode_golden
from steadynet.bundle.manifest import (
    CARD,
    FORMAT_VERSION,
    GOLDEN,
    MANIFEST,
    MODEL,
    PROFILE,
    SEVERAL_TARGETS,
    TRAINING,
    WEIGHTS,
    Covered,
    EceFloor,
    FileEntry,
    Interval,
    Manifest,
    Provenance,
    TargetRecord,
    encode_manifest,
)
from steadynet.bundle.picture import Picture
from steadynet.bundle.profile import Profile, encode_profile
from steadynet.bundle.read import Bundle, most_bytes, verify_bundle
from steadynet.bundle.sign import SigningKey, sign_folder
from steadynet.clock import Clock, SystemClock
from steadynet.errors import BundleError
from steadynet.files import new_folder, sha256_bytes
from steadynet.home import check_name
from steadynet.spec.losses import Loss
from steadynet.spec.model import Slo
from steadynet.table.schema import Schema


@dataclass(frozen=True, kw_only=True)
class BundleDraft:
    """Everything that goes into a bundle. Fields are explained in `bundle.manifest`."""

    name: str
    schema: Schema
    model: bytes
    """The welded graph, as serialized ONNX."""
    profile: Profile
    golden: tuple[GoldenRow, ...]
    weights: bytes
    """safetensors."""
    training: bytes
    """JSON."""
    card: str
    metrics: dict[str, dict[str, Interval]]
    references: dict[str, dict[str, float]]
    provenance: Provenance
    slo: Slo = field(default_factory=Slo)
    ece_floor: EceFloor | None = None
    coverage: float | None = None
    covered: Covered | None = None
    decision_threshold: float | None = None
    loss: Loss | None = None
    weight_column: str | None = None
    notes: dict[str, str] = field(default_factory=dict)
    more_targets: dict[str, TargetRecord] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()


def draft_manifest(
    draft: BundleDraft, *, created: str, files: dict[str, FileEntry] | None = None
) -> Manifest:
    """Return the manifest of a draft. Without `files` it serves to render the draft's card."""
    return Manifest(
        format_version=SEVERAL_TARGETS if draft.schema.more_targets else FORMAT_VERSION,
        name=check_name(draft.name),
        created=created,
        schema=draft.schema,
        metrics=draft.metrics,
        references=draft.references,
        provenance=draft.provenance,
        files=files or {},
        slo=draft.slo,
        ece_floor=draft.ece_floor,
        coverage=draft.coverage,
        covered=draft.covered,
        decision_threshold=draft.decision_threshold,
        loss=draft.loss,
        weight_column=draft.weight_column,
        notes=draft.notes,
        more_targets=draft.more_targets,
    )


def utc_now(clock: Clock | None = None) -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    now = (clock or SystemClock()).now()
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_bundle(
    folder: Path, draft: BundleDraft, key: SigningKey, *, clock: Clock | None = None
) -> Bundle:
    """Write the draft as a signed bundle under `folder`, which must not exist yet.

    Raises `BundleError` where the folder exists, a file is too large or the disk does not take
    it; then nothing is left behind.
    """
    contents = _contents(draft)
    manifest = draft_manifest(draft, created=utc_now(clock), files=_digest(contents))
    contents[MANIFEST] = encode_manifest(manifest)
    _check_sizes(contents)
    try:
        with new_folder(folder) as temporary:
            for name, data in contents.items():
                (temporary / name).parent.mkdir(exist_ok=True)
                (temporary / name).write_bytes(data)
            sign_folder(temporary, key)
            verify_bundle(temporary, key.public)
    except FileExistsError as error:
        raise BundleError(
            f"{folder} exists already", do="Choose another folder; bundles are never overwritten."
        ) from error
    except OSError as error:
        raise BundleError(
            f"the bundle cannot be written to {folder}",
            got=error.strerror or type(error).__name__,
            do="Make room or choose another folder; nothing was left behind.",
        ) from error
    return Bundle(folder.absolute(), manifest, sha256_bytes(contents[MANIFEST]))


def _contents(draft: BundleDraft) -> dict[str, bytes]:
    return {
        MODEL: draft.model,
        PROFILE: encode_profile(draft.profile),
        GOLDEN: encode_golden(draft.golden),
        WEIGHTS: draft.weights,
        TRAINING: draft.training,
        CARD: draft.card.encode(),
        **{one.file: one.svg for one in draft.pictures},
    }


def _digest(contents: dict[str, bytes]) -> dict[str, FileEntry]:
    return {
        name: FileEntry(sha256=sha256_bytes(data), bytes=len(data))
        for name, data in contents.items()
    }


def _check_sizes(contents: dict[str, bytes]) -> None:
    for name, data in contents.items():
        if len(data) > most_bytes(name):
            raise BundleError(
                f"{name} is too large for a bundle",
                expected=f"at most {most_bytes(name)} bytes",
                got=f"{len(data)} bytes",
            )
