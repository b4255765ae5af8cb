"""Digests, atomic writes and safe paths.

Invariants:
- A reader of `write_atomic`'s path sees the old bytes or the new bytes, never a mixture, also
  after a crash or a full disk.
- A folder made by `new_folder` appears under its name complete and synced, or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from steadynet.errors import BundleTampered

CHUNK_BYTES = 1 << 20


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hex, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sync_folder(path: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Replace `path` by a file holding `data`, or leave it as it was and raise `OSError`.

    Without `durable` the new file survives the end of every process, but maybe not a power
    failure; that spares the disk for what is written each second.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with ExitStack() as undo:
        undo.callback(Path(temporary).unlink, missing_ok=True)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        undo.pop_all()
    if durable:
        sync_folder(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it is synced and renamed to `path`.

    Raises `FileExistsError` where `path` exists already; on any error nothing is left behind.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, temporary, ignore_errors=True)
        temporary.chmod(0o755)
        yield temporary
        for entry in sorted(temporary.rglob("*")):
            if entry.is_file():
                with entry.open("rb") as file:
                    os.fsync(file.fileno())
            elif entry.is_dir():
                sync_folder(entry)
        sync_folder(temporary)
        os.rename(temporary, path)
        undo.pop_all()
        sync_folder(path.parent)


def safe_join(folder: Path, relative: str) -> Path:
    """Return `folder / relative`, refusing absolute paths, `..` and links that lead outside."""
    root = folder.resolve()
    candidate = (root / relative).resolve()
    if Path(relative).is_absolute() or not candidate.is_relative_to(root):
        raise BundleTampered(
            "a file name leads outside its folder",
            expected="a relative path inside the folder",
            got=repr(relative),
        )
    return root / relative
