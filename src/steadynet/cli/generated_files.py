"""Generated files that a person may change: those that were changed are kept.

Beside what is written lies `WRITTEN`, the digest of each file as it was written. A file that has
another digest by now is a person's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from steadynet.errors import UserError
from steadynet.files import sha256_bytes, write_atomic

WRITTEN = ".written.json"


def write_unchanged(folder: Path, files: Mapping[str, bytes]) -> tuple[list[Path], list[Path]]:
    """Write files below a folder; return those that were written and those that were kept.

    Kept is what a person changed, or wrote before. Raises `UserError` for what cannot be written.
    """
    digests = _digests(folder)
    written, kept = [], []
    for name, content in files.items():
        path = folder / name
        try:
            if _is_anothers(path, digests.get(name), content):
                kept.append(path)
                continue
            write_atomic(path, content)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written: {error.strerror}",
                do="Move away what is in its place, or name another folder.",
            ) from None
        digests[name] = sha256_bytes(content)
        written.append(path)
    write_atomic(folder / WRITTEN, msgspec.json.encode(digests, order="sorted") + b"\n")
    return written, kept


def _is_anothers(path: Path, digest: str | None, content: bytes) -> bool:
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return False
    return found != content and sha256_bytes(found) != digest


def _digests(folder: Path) -> dict[str, str]:
    """Return what was written before; a list that cannot be read claims nothing."""
    try:
        return msgspec.json.decode((folder / WRITTEN).read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}
