"""Read a bundle, and use nothing of it that has not been checked.

Invariants:
- Every file that is used has the size and digest that the manifest lists, also when it was
  exchanged after the bundle was opened: `Bundle.read` checks each time.
- A bundle's files are those of `manifest.FILES`, the manifest and the signature, all of them plain
  files directly in the folder. Links, folders and further files are refused, so no name in a
  manifest can lead anywhere else.
- No file is read that is larger than `MAX_BYTES` allows.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from steadynet.bundle.golden import GoldenRow, decode_golden
from steadynet.bundle.manifest import (
    CARD,
    FILES,
    GOLDEN,
    MANIFEST,
    MODEL,
    PROFILE,
    SIGNATURE,
    TRAINING,
    WEIGHTS,
    Manifest,
    decode_manifest,
)
from steadynet.bundle.profile import Profile, decode_profile
from steadynet.errors import BundleFormat, BundleTampered, UserError
from steadynet.files import sha256_bytes, sha256_file
from steadynet.home import check_name

_MEGABYTE = 1024 * 1024

MAX_BYTES: dict[str, int] = {
    MANIFEST: 16 * _MEGABYTE,
    PROFILE: 64 * _MEGABYTE,
    GOLDEN: 64 * _MEGABYTE,
    TRAINING: 64 * _MEGABYTE,
    CARD: 16 * _MEGABYTE,
    SIGNATURE: 1 * _MEGABYTE,
    MODEL: 2048 * _MEGABYTE,
    WEIGHTS: 2048 * _MEGABYTE,
}
"""The largest size of each file; a model is limited by protobuf's own 2 GiB."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files have been checked."""

    path: Path
    manifest: Manifest
    manifest_sha256: str
    """Identifies the bundle: the manifest holds every other file's digest."""

    @property
    def model_path(self) -> Path:
        """Where the graph lies. `read(MODEL)` gives its checked bytes."""
        return self.path / MODEL

    def read(self, name: str) -> bytes:
        """Return the bytes of a file that the manifest lists.

        Raises `BundleTampered` where they are not what the manifest says.
        """
        data = _read_bounded(self.path, name)
        if sha256_bytes(data) != self.manifest.files[name].sha256:
            raise _tampered(self.path, [f"{name} was changed"])
        return data

    def profile(self) -> Profile:
        """Return the reference distributions."""
        return decode_profile(self.read(PROFILE))

    def golden(self) -> tuple[GoldenRow, ...]:
        """Return the rows with their expected outputs."""
        return decode_golden(self.read(GOLDEN))


def open_bundle(path: Path, *, manifest_sha256: str) -> Bundle:
    """Open a bundle whose manifest must have a digest that the caller trusts.

    Checks every name, size and digest; imports no library for signatures. Raises
    `BundleTampered`, which names each file that is missing, extra or changed, or `BundleFormat`.
    """
    bundle = _open(path)
    if bundle.manifest_sha256 != manifest_sha256:
        raise BundleTampered(
            f"{MANIFEST} of {path} was changed",
            expected=f"digest {manifest_sha256[:16]}",
            got=f"digest {bundle.manifest_sha256[:16]}",
            do="Register the bundle again, or restore it.",
        )
    return bundle


def verify_bundle(path: Path, public: Path) -> Bundle:
    """Check everything of a bundle: names, sizes, digests and the signature.

    `public` is the signer's public key in PEM. Raises `BundleTampered`, `BundleFormat`, or
    `UserError` where there is no bundle or no key.
    """
    from steadynet.bundle.sign import verify_signature

    bundle = _open(path)
    verify_signature(path, public)
    return bundle


def _open(path: Path) -> Bundle:
    if not path.is_dir():
        raise UserError(f"{path} is not a bundle", expected="a folder with manifest.json")
    problems = _check_names(path)
    named = {problem.split(" ")[0] for problem in problems}
    if MANIFEST in named:
        raise _tampered(path, problems)
    data = _read_bounded(path, MANIFEST)
    manifest = decode_manifest(data)
    _check_manifest(path, manifest)
    for name in FILES:
        if name not in named and not _is_unchanged(path / name, manifest):
            problems.append(f"{name} was changed")
    if problems:
        raise _tampered(path, problems)
    return Bundle(path.absolute(), manifest, sha256_bytes(data))


def _check_names(path: Path) -> list[str]:
    expected = {*FILES, MANIFEST, SIGNATURE}
    found = {entry.name: entry for entry in os.scandir(path)}
    problems = [f"{name} is missing" for name in sorted(expected - found.keys())]
    problems += [f"{name!r} is extra" for name in sorted(found.keys() - expected)]
    for name in sorted(expected & found.keys()):
        status = found[name].stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            problems.append(f"{name} is no plain file")
        elif status.st_size > MAX_BYTES[name]:
            problems.append(f"{name} is larger than {MAX_BYTES[name]} bytes")
    return problems


def _check_manifest(path: Path, manifest: Manifest) -> None:
    listed = manifest.files.keys()
    problems = [f"{MANIFEST} does not list {name}" for name in FILES if name not in listed]
    problems += [f"{MANIFEST} lists {name!r}" for name in sorted(listed - set(FILES))]
    if problems:
        raise _tampered(path, problems)
    try:
        check_name(manifest.name)
    except UserError as error:
        raise BundleFormat(f"{MANIFEST} of {path} has a bad name", got=error.got) from error


def _is_unchanged(path: Path, manifest: Manifest) -> bool:
    entry = manifest.files[path.name]
    return path.stat().st_size == entry.bytes and sha256_file(path) == entry.sha256


def _read_bounded(folder: Path, name: str) -> bytes:
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _tampered(folder, [f"{name} cannot be read ({error.strerror})"]) from error
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(MAX_BYTES[name] + 1)
    if len(data) > MAX_BYTES[name]:
        raise _tampered(folder, [f"{name} is larger than {MAX_BYTES[name]} bytes"])
    return data


def _tampered(path: Path, problems: list[str]) -> BundleTampered:
    return BundleTampered(
        f"the bundle {path} is not as it was signed: {', '.join(problems)}",
        do="Fetch it again from where it was trained.",
    )
