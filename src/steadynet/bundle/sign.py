"""Signatures: OpenSSF Model Signing with an elliptic-curve key (P-256) kept in the home.

Invariants:
- A key is made on first use and never overwritten; two processes that make it at once get the
  same one. The private part is readable by its owner alone.
- The signature covers the bytes and the names of every file of the folder, except itself.

The libraries are imported inside the functions: they cost 0.3 s and 60 MB, and the workers trust
a manifest's digest instead.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from steadynet.bundle.manifest import SIGNATURE
from steadynet.errors import BundleTampered, UserError
from steadynet.files import sync_folder, write_atomic
from steadynet.home import Home

if TYPE_CHECKING:
    from model_signing import hashing

PRIVATE_NAME = "signing.pem"
PUBLIC_NAME = "signing.pub.pem"
MAX_SIGNATURE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class SigningKey:
    """Where a key lies. A machine that only verifies has the public part alone."""

    private: Path
    public: Path


def signing_key(home: Home) -> SigningKey:
    """Return where the home's key lies, whether or not it is there."""
    return SigningKey(home.keys / PRIVATE_NAME, home.keys / PUBLIC_NAME)


def ensure_key(home: Home) -> SigningKey:
    """Return the home's key; make it where there is none.

    Raises `UserError` where the private part is missing beside a public one, is readable by
    others, or does not belong to the public part.
    """
    key = signing_key(home)
    key.private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not key.private.exists():
        if key.public.exists():
            raise UserError(
                f"{key.private} is missing",
                expected=f"the private part of {key.public}",
                do="Restore it from a backup, or move the public part away to make a new key.",
            )
        _make_private(key.private)
    if key.private.stat().st_mode & 0o077:
        raise UserError(
            f"{key.private} can be read by others",
            expected="mode 0600",
            got=f"mode {key.private.stat().st_mode & 0o777:04o}",
            do=f"If nobody has copied it, type: chmod 600 {key.private}",
        )
    public = _public_part(key.private)
    if not key.public.exists():
        write_atomic(key.public, public)
    elif fingerprint(key.public) != _fingerprint(public):
        raise UserError(
            f"{key.public} does not belong to {key.private}",
            do="Restore the pair from a backup, or move both away to make a new key.",
        )
    return key


def fingerprint(public: Path) -> str:
    """Return the SHA-256 of a public key in PEM, in hex: what a signature names its key by."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        loaded = serialization.load_pem_public_key(public.read_bytes())
    except FileNotFoundError as error:
        raise UserError(
            f"the public key {public} is missing",
            do="Copy it from the machine that signed the bundle.",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UserError(f"{public} is not a public key in PEM") from error
    return _fingerprint(
        loaded.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def sign_folder(folder: Path, key: SigningKey) -> None:
    """Write `model.sig` over every other file of the folder."""
    from model_signing import signing

    config = signing.Config().use_elliptic_key_signer(private_key=key.private)
    config.set_hashing_config(_hashing(folder)).sign(folder, folder / SIGNATURE)


def verify_signature(folder: Path, public: Path) -> None:
    """Check that `model.sig` was made with the public key's private part over these files.

    Raises `BundleTampered` where it was not, and `UserError` where the key cannot be read.
    """
    from model_signing import verifying

    expected = fingerprint(public)
    signature = folder / SIGNATURE
    signer = _signer(signature)
    if signer != expected:
        raise BundleTampered(
            f"{SIGNATURE} was made with another key",
            expected=f"key {expected[:16]}",
            got=f"key {signer[:16]}",
            do="Verify with the public key of whoever signed it (--key), if you trust them.",
        )
    config = verifying.Config().use_elliptic_key_verifier(public_key=public)
    try:
        config.set_hashing_config(_hashing(folder)).verify(folder, signature)
    except Exception as error:
        # A hostile signature file makes the library raise whatever its parsers raise; anything
        # but a clean return means that the bundle is not verified.
        raise BundleTampered(
            f"{SIGNATURE} does not verify",
            expected=f"a signature of these files by key {expected[:16]}",
            do="Fetch the bundle again from where it was trained.",
        ) from error


class _PublicKey(msgspec.Struct, rename="camel"):
    hint: str


class _Material(msgspec.Struct, rename="camel"):
    public_key: _PublicKey


class _SignatureFile(msgspec.Struct, rename="camel"):
    verification_material: _Material


def _signer(signature: Path) -> str:
    """Return the fingerprint that the signature claims."""
    if signature.stat().st_size > MAX_SIGNATURE_BYTES:
        raise BundleTampered(f"{SIGNATURE} is larger than any signature")
    try:
        parsed = msgspec.json.decode(signature.read_bytes(), type=_SignatureFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleTampered(
            f"{SIGNATURE} is not a signature", expected="a Sigstore bundle that names its key"
        ) from error
    return parsed.verification_material.public_key.hint


def _hashing(folder: Path) -> hashing.Config:
    from model_signing import hashing

    config = hashing.Config().use_file_serialization(max_workers=1)
    return config.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _make_private(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        # A link never replaces: whoever comes second uses the first one's key.
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
    sync_folder(path.parent)


def _public_part(private: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        loaded = serialization.load_pem_private_key(private.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise UserError(f"{private} is not a private key in PEM without a password") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise UserError(f"{private} is not an elliptic-curve key", expected="P-256")
    return loaded.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _fingerprint(pem: bytes) -> str:
    return hashlib.sha256(pem).hexdigest()
