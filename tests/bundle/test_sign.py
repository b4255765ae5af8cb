"""A key is made once, kept private, and signs exactly the files of a folder."""

from __future__ import annotations

import base64
import json
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from steadynet.bundle.manifest import SIGNATURE
from steadynet.bundle.sign import (
    ensure_key,
    fingerprint,
    sign_folder,
    signing_key,
    verify_signature,
)
from steadynet.errors import BundleTampered, UserError
from steadynet.home import Home


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to sign."""
    path = tmp_path / "signed"
    path.mkdir()
    (path / "a.txt").write_text("one")
    (path / "b.txt").write_text("two")
    (path / ".gitignore").write_text("also signed")
    return path


def test_the_key_is_private_and_kept(home: Home) -> None:
    key = ensure_key(home)
    assert key.private.stat().st_mode & 0o777 == 0o600
    assert key.private.parent.stat().st_mode & 0o777 == 0o700
    before = key.private.read_bytes(), key.public.read_bytes()
    assert ensure_key(home) == key
    assert (key.private.read_bytes(), key.public.read_bytes()) == before
    assert sorted(path.name for path in home.keys.iterdir()) == ["signing.pem", "signing.pub.pem"]


def test_the_key_is_on_the_curve_p_256(home: Home) -> None:
    loaded = serialization.load_pem_private_key(ensure_key(home).private.read_bytes(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    assert loaded.curve.name == "secp256r1"


def test_a_lost_public_part_is_derived_anew(home: Home) -> None:
    key = ensure_key(home)
    public = key.public.read_bytes()
    key.public.unlink()
    ensure_key(home)
    assert key.public.read_bytes() == public


def test_a_lost_private_part_is_not_replaced(home: Home) -> None:
    key = ensure_key(home)
    key.private.unlink()
    with pytest.raises(UserError, match=r"signing\.pem is missing"):
        ensure_key(home)
    assert not key.private.exists()


def test_a_private_part_that_others_can_read_is_refused(home: Home) -> None:
    key = ensure_key(home)
    key.private.chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        ensure_key(home)


def test_parts_of_different_pairs_are_refused(home: Home, tmp_path: Path) -> None:
    key = ensure_key(home)
    other = ensure_key(Home(tmp_path / "other"))
    shutil.copy(other.public, key.public)
    with pytest.raises(UserError, match="does not belong"):
        ensure_key(home)


def test_a_file_that_is_no_key_is_refused(home: Home) -> None:
    key = ensure_key(home)
    key.private.write_text("no key")
    with pytest.raises(UserError, match="not a private key"):
        ensure_key(home)
    key.public.write_text("no key")
    with pytest.raises(UserError, match="not a public key"):
        fingerprint(key.public)


def test_a_key_of_another_kind_is_refused(home: Home) -> None:
    key = signing_key(home)
    home.keys.mkdir(parents=True)
    key.private.write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    key.private.chmod(0o600)
    with pytest.raises(UserError, match="not an elliptic-curve key"):
        ensure_key(home)


def _ensure_in_process(root: str, barrier: Any) -> None:
    barrier.wait(60)
    ensure_key(Home(Path(root)))


def test_processes_that_make_the_key_at_once_get_the_same(home: Home) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    workers = [
        context.Process(target=_ensure_in_process, args=(str(home.root), barrier)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    key = signing_key(home)
    assert fingerprint(ensure_key(home).public) == fingerprint(key.public)
    assert sorted(path.name for path in home.keys.iterdir()) == ["signing.pem", "signing.pub.pem"]


def test_a_signature_holds_for_the_files_and_survives_a_move(home: Home, folder: Path) -> None:
    key = ensure_key(home)
    sign_folder(folder, key)
    verify_signature(folder, key.public)
    moved = folder.rename(folder.with_name("elsewhere"))
    verify_signature(moved, key.public)


def change(folder: Path) -> None:
    (folder / "a.txt").write_text("three")


def add(folder: Path) -> None:
    (folder / "c.txt").write_text("three")


def remove(folder: Path) -> None:
    (folder / "a.txt").unlink()


def rename(folder: Path) -> None:
    (folder / "a.txt").rename(folder / "z.txt")


def swap(folder: Path) -> None:
    a, b = folder / "a.txt", folder / "b.txt"
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)


def link(folder: Path) -> None:
    (folder / "a.txt").rename(folder.parent / "a.txt")
    (folder / "a.txt").symlink_to(folder.parent / "a.txt")


def change_hidden(folder: Path) -> None:
    (folder / ".gitignore").write_text("other")


@pytest.mark.parametrize("tamper", [change, add, remove, rename, swap, link, change_hidden])
def test_any_change_of_the_folder_breaks_the_signature(
    home: Home, folder: Path, tamper: Callable[[Path], None]
) -> None:
    key = ensure_key(home)
    sign_folder(folder, key)
    tamper(folder)
    with pytest.raises(BundleTampered, match="does not verify"):
        verify_signature(folder, key.public)


def test_another_key_is_named(home: Home, folder: Path, tmp_path: Path) -> None:
    key, other = ensure_key(home), ensure_key(Home(tmp_path / "other"))
    sign_folder(folder, other)
    with pytest.raises(BundleTampered, match="another key") as caught:
        verify_signature(folder, key.public)
    assert fingerprint(key.public)[:16] in str(caught.value)
    assert fingerprint(other.public)[:16] in str(caught.value)


def test_a_stranger_who_claims_the_key_is_found_out(
    home: Home, folder: Path, tmp_path: Path
) -> None:
    key = ensure_key(home)
    sign_folder(folder, ensure_key(Home(tmp_path / "other")))
    signature = json.loads((folder / SIGNATURE).read_text())
    signature["verificationMaterial"]["publicKey"]["hint"] = fingerprint(key.public)
    (folder / SIGNATURE).write_text(json.dumps(signature))
    with pytest.raises(BundleTampered, match="does not verify"):
        verify_signature(folder, key.public)


def test_a_signature_that_was_rewritten_for_other_files_is_found_out(
    home: Home, folder: Path
) -> None:
    key = ensure_key(home)
    sign_folder(folder, key)
    signature = json.loads((folder / SIGNATURE).read_text())
    envelope = signature["dsseEnvelope"]
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["predicate"]["resources"] = payload["predicate"]["resources"][:1]
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    (folder / SIGNATURE).write_text(json.dumps(signature))
    with pytest.raises(BundleTampered, match="does not verify"):
        verify_signature(folder, key.public)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"verificationMaterial": {}}',
        '{"verificationMaterial": {"publicKey": {"hint": 7}}}',
        "\x00",
        "[" * 10_000,
    ],
)
def test_a_file_that_is_no_signature_is_refused(home: Home, folder: Path, content: str) -> None:
    key = ensure_key(home)
    (folder / SIGNATURE).write_text(content)
    with pytest.raises(BundleTampered, match="not a signature"):
        verify_signature(folder, key.public)


@pytest.mark.parametrize(
    "envelope", [None, {}, {"payload": "!!"}, {"signatures": [{"sig": "AAAA"}]}, 7]
)
def test_a_torn_signature_does_not_verify(home: Home, folder: Path, envelope: object) -> None:
    key = ensure_key(home)
    material = {"publicKey": {"hint": fingerprint(key.public)}}
    content = {"verificationMaterial": material, "dsseEnvelope": envelope}
    (folder / SIGNATURE).write_text(json.dumps(content))
    with pytest.raises(BundleTampered, match="does not verify"):
        verify_signature(folder, key.public)


def test_a_huge_signature_is_not_read(home: Home, folder: Path) -> None:
    key = ensure_key(home)
    with (folder / SIGNATURE).open("wb") as file:
        file.truncate(2 * 1024 * 1024)
    with pytest.raises(BundleTampered, match="larger than any signature"):
        verify_signature(folder, key.public)


def test_a_missing_public_key_says_where_to_get_it(folder: Path, home: Home) -> None:
    sign_folder(folder, ensure_key(home))
    with pytest.raises(UserError, match="Copy it from the machine that signed"):
        verify_signature(folder, folder / "none.pem")
