"""Read a bundle, and use nothing of it that has not been checked.

Invariants:
- Every file that is used has the size and digest that the manifest lists, also when it was
  exchanged after the bundle was opened: `Bundle.read` checks each time.
- A bundle's files are those of `manifest.FILES`, the manifest and the signature, all of them plain
  files directly in the folder, and the pictures that the manifest lists, plain files in the folder
  `pictures`. Links, other folders and further files are refused, so no name in a manifest can lead
  anywhere else.
- No file is read that is larger than `MAX_BYTES` allows.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from steadynet.bundle import picture
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
    picture.PATTERN: 1 * _MEGABYTE,
}
"""The largest size of each file; a model is limited by protobuf's own 2 GiB."""


def most_bytes(name: str) -> int:
    """Return the largest size of a file of a bundle."""
    return MAX_BYTES[picture.PATTERN if picture.is_picture(name) else name]


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

    @property
    def pictures(self) -> tuple[str, ...]:
        """The paths of its pictures in the bundle."""
        return tuple(sorted(filter(picture.is_picture, self.manifest.files)))

    @property
    def files(self) -> tuple[str, ...]:
        """The path in the bundle of every file."""
        return (*FILES, *self.pictures, MANIFEST, SIGNATURE)

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
    pictures = sorted(filter(picture.is_picture, manifest.files))
    if pictures or os.path.lexists(path / picture.FOLDER):
        problems += _check_pictures(path, pictures)
    named = {problem.split(" ")[0] for problem in problems}
    for name in (*FILES, *pictures):
        if name not in named and not _is_unchanged(path, name, manifest):
            problems.append(f"{name} was changed")
    if problems:
        raise _tampered(path, problems)
    return Bundle(path.absolute(), manifest, sha256_bytes(data))


def _check_names(path: Path) -> list[str]:
    expected = {*FILES, MANIFEST, SIGNATURE}
    found = {entry.name: entry for entry in os.scandir(path) if entry.name != picture.FOLDER}
    return _compare(expected, found)


def _check_pictures(path: Path, listed: list[str]) -> list[str]:
    """Say what is wrong with the folder of pictures, beside their digests."""
    folder = path / picture.FOLDER
    if folder.is_symlink() or not folder.is_dir():
        return [f"{name} is missing" for name in listed] or [f"{picture.FOLDER!r} is extra"]
    found = {f"{picture.FOLDER}/{entry.name}": entry for entry in os.scandir(folder)}
    if not found and not listed:
        return [f"{picture.FOLDER!r} is extra"]
    return _compare(set(listed), found)


def _compare(expected: set[str], found: dict[str, os.DirEntry[str]]) -> list[str]:
    problems = [f"{name} is missing" for name in sorted(expected - found.keys())]
    problems += [f"{name!r} is extra" for name in sorted(found.keys() - expected)]
    for name in sorted(expected & found.keys()):
        status = found[name].stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            problems.append(f"{name} is no plain file")
        elif status.st_size > most_bytes(name):
            problems.append(f"{name} is larger than {most_bytes(name)} bytes")
    return problems


def _check_manifest(path: Path, manifest: Manifest) -> None:
    listed = manifest.files.keys()
    problems = [f"{MANIFEST} does not list {name}" for name in FILES if name not in listed]
    pictures = set(filter(picture.is_picture, listed))
    problems += [f"{MANIFEST} lists {name!r}" for name in sorted(listed - set(FILES) - pictures)]
    if len(pictures) > picture.MOST:
        problems.append(f"{MANIFEST} lists more than {picture.MOST} pictures")
    if problems:
        raise _tampered(path, problems)
    try:
        check_name(manifest.name)
    except UserError as error:
        raise BundleFormat(f"{MANIFEST} of {path} has a bad name", got=error.got) from error


def _is_unchanged(path: Path, name: str, manifest: Manifest) -> bool:
    entry = manifest.files[name]
    return (path / name).stat().st_size == entry.bytes and sha256_file(path / name) == entry.sha256


def _read_bounded(folder: Path, name: str) -> bytes:
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _tampered(folder, [f"{name} cannot be read ({error.strerror})"]) from error
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(most_bytes(name) + 1)
    if len(data) > most_bytes(name):
        raise _tampered(folder, [f"{name} is larger than {most_bytes(name)} bytes"])
    return data


def _tampered(path: Path, problems: list[str]) -> BundleTampered:
    return BundleTampered(
        f"the bundle {path} is not as it was signed: {', '.join(problems)}",
        do="Fetch it again from where it was trained.",
    )
