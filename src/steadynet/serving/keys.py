"""The keys that callers present: how they are made, kept and changed. No key is ever stored.

A key is `sn_<id>_<secret>`: 12 hexadecimal digits that may be shown and logged, and 256 random
bits that may not. The file holds the SHA-256 of the whole key: the secret cannot be guessed, so a
slow hash would add nothing (NIST SP 800-63B, 5.1.1.2, asks for one only below 112 bits).

Invariants:
- The file is replaced in one piece, by one process at a time, readable by its owner alone.
- An id is never used twice: a revoked key stays in the file, revoked.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import msgspec

from steadynet.errors import UserError
from steadynet.files import sha256_bytes, write_atomic
from steadynet.home import Home

KeyRole = Literal["viewer", "caller", "operator", "admin"]
ROLES: tuple[KeyRole, ...] = get_args(KeyRole)
"""Each may do what those before it may."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}")


class CallerKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one key."""

    id: str
    name: str
    """Who holds it."""
    role: KeyRole
    models: tuple[str, ...] = ()
    """Models that it reaches; none named: every model of the home."""
    sha256: str
    created: float
    """Seconds UTC, as are `expires` and `revoked`."""
    expires: float | None = None
    revoked: float | None = None
    per_second: float | None = None
    """Requests per second, in place of `serve.rate_per_key`."""

    def holds(self, now: float) -> bool:
        """Return whether the key is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`keys/callers.json`."""

    version: Literal[1] = 1
    keys: tuple[CallerKey, ...] = ()


def make_key(
    name: str,
    role: KeyRole,
    *,
    now: float,
    models: Sequence[str] = (),
    expires: float | None = None,
    per_second: float | None = None,
) -> tuple[str, CallerKey]:
    """Return a new key, to be shown once, and what is kept of it. Raises `UserError`."""
    if not _NAME.fullmatch(name):
        raise UserError(
            "that is no name for a key's holder",
            expected="1 to 100 letters, digits, '_', '-', '.' or '@', first a letter or digit",
        )
    key_id = secrets.token_hex(6)
    key = f"sn_{key_id}_{secrets.token_hex(32)}"
    kept = CallerKey(
        id=key_id,
        name=name,
        role=role,
        models=tuple(models),
        sha256=sha256_bytes(key.encode()),
        created=now,
        expires=expires,
        per_second=per_second,
    )
    return key, kept


def read_keys(home: Home) -> tuple[CallerKey, ...]:
    """Return all keys, the oldest first. Raises `UserError` where the file cannot be read."""
    try:
        return decode_keys(home.caller_keys.read_bytes())
    except FileNotFoundError:
        return ()
    except msgspec.DecodeError as error:
        raise UserError(
            f"{home.caller_keys} cannot be read",
            got=str(error),
            do="Put back a copy of it, or move it away and make new keys.",
        ) from error


def decode_keys(data: bytes) -> tuple[CallerKey, ...]:
    """Decode the file. Raises `msgspec.DecodeError`."""
    return msgspec.json.decode(data, type=KeyFile).keys


@contextmanager
def changing_keys(home: Home) -> Iterator[list[CallerKey]]:
    """Yield the keys as a list to change, and write it back where nothing was raised."""
    home.keys.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home.keys / ".callers.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        keys = list(read_keys(home))
        yield keys
        data = msgspec.json.encode(KeyFile(keys=tuple(keys)))
        write_atomic(home.caller_keys, msgspec.json.format(data, indent=1) + b"\n", mode=0o600)
    finally:
        os.close(descriptor)


def find_key(keys: Sequence[CallerKey], wanted: str, *, now: float) -> int:
    """Return the position of the key with an id, or of the only one that holds with a name.

    Raises `UserError`.
    """
    by_id = [at for at, key in enumerate(keys) if key.id == wanted]
    by_name = [at for at, key in enumerate(keys) if key.name == wanted and key.holds(now)]
    found = by_id or by_name
    if len(found) == 1:
        if keys[found[0]].holds(now):
            return found[0]
        raise UserError("that key holds no longer", do="See: steadynet keys list")
    raise UserError(
        "there is no such key" if not found else f"{len(found)} keys have that name",
        expected="a key's id, or a name that one key alone has",
        do="See: steadynet keys list",
    )
