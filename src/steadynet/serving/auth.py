"""Who may call: one question for every protocol, `Gate.admit(model, role, key)`.

Invariants:
- Nothing of a presented key is written down, logged, or told in an error.
- How long a refusal takes does not depend on how much of a key is right: the SHA-256 of what was
  presented is compared, in constant time, also where no key has its id. A key that was found right
  is remembered in memory until the file changes, under Python's keyed hash (SipHash), which no
  caller can steer, so that looking there first tells nothing either.
- A file of keys that cannot be read changes nothing: the keys that were read before go on. Where
  there is no file, or none was ever read, nobody is admitted.
- What changes something (role operator and above) is done by the admin address alone, and there is
  none by default, whatever keys say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest
from math import inf
from pathlib import Path
from typing import NamedTuple

import msgspec

from steadynet.clock import Clock
from steadynet.errors import Forbidden, RateLimited, Unauthenticated
from steadynet.serving.keys import ROLES, CallerKey, KeyRole, decode_keys
from steadynet.serving.limits import TokenBucket
from steadynet.spec.model import ServeSpec

logger = logging.getLogger(__name__)

POLL_S = 0.2
CHANGING: frozenset[KeyRole] = frozenset(("operator", "admin"))
"""Roles that change something."""
ID = slice(3, 15)
"""Where a key's id stands in it."""

KeyCounts = dict[str, dict[str, int]]
"""A key's id → outcome → requests."""
OUTCOMES = ("admitted", "forbidden", "rate_limited")
MOST_KEYS = 1000
"""Keys that are counted each by its own."""
OTHER_KEYS = "other"


class Grant:
    """What one key admits to, made ready for the check."""

    __slots__ = ("bucket", "digest", "expires", "id", "models", "role", "roles")

    def __init__(self, key: CallerKey, bucket: TokenBucket | None) -> None:
        self.id = key.id
        self.digest = bytes.fromhex(key.sha256)
        self.role = key.role
        self.roles = frozenset(ROLES[: ROLES.index(key.role) + 1])
        self.models = frozenset(key.models)
        self.expires = inf if key.expires is None else key.expires
        self.bucket = bucket


class Keyring:
    """The keys of a home as one worker knows them.

    `per_second` is what a key may send to this worker where the key itself names no rate;
    `share` is this worker's share of a key's own rate. 0 is no limit.
    """

    def __init__(self, path: Path, clock: Clock, *, per_second: float, share: float) -> None:
        self._path = path
        self._clock = clock
        self._per_second = per_second
        self._share = share
        self._seen: tuple[int, int, int] | None = None
        self._grants: dict[bytes, Grant] = {}
        self._right: dict[bytes, Grant] = {}
        """Presented keys that were found right; at most one for each grant."""
        self._nobody = bytes(32)
        self.look()

    def look(self) -> None:
        """Read the file where it is new."""
        try:
            stat = self._path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen == self._seen:
                return
            self._seen = seen
            keys = decode_keys(self._path.read_bytes())
        except FileNotFoundError:
            if self._grants:
                logger.error("%s is gone: nobody is admitted", self._path)
            self._seen, self._grants, self._right = None, {}, {}
            return
        except (OSError, msgspec.DecodeError) as error:
            logger.error("%s cannot be read and is ignored: %s", self._path, error)
            return
        self._take(keys)

    async def follow(self, stopping: asyncio.Event) -> None:
        """Look at the file again and again until `stopping` is set."""
        while not stopping.is_set():
            self.look()
            try:
                await asyncio.wait_for(stopping.wait(), POLL_S)
            except TimeoutError:
                continue

    def identify(self, presented: bytes) -> Grant:
        """Return what a presented key admits to. Raises `Unauthenticated`."""
        grant = self._right.get(presented)
        if grant is None:
            grant = self._right[presented] = self._compare(presented)
        if self._clock.now() >= grant.expires:
            raise Unauthenticated("the key has expired", do="Ask for a new one.")
        return grant

    def _compare(self, presented: bytes) -> Grant:
        grant = self._grants.get(presented[ID])
        known = self._nobody if grant is None else grant.digest
        same = compare_digest(sha256(presented).digest(), known)
        if grant is None or not same:
            raise _unauthenticated(presented)
        return grant

    def _take(self, keys: Iterable[CallerKey]) -> None:
        before = {grant.id: grant for grant in self._grants.values()}
        self._grants, self._right = {}, {}
        for key in keys:
            if key.revoked is None:
                old = before.get(key.id)
                self._grants[key.id.encode()] = Grant(key, self._bucket(key, old))
        logger.info("%d keys are known", len(self._grants))

    def _bucket(self, key: CallerKey, old: Grant | None) -> TokenBucket | None:
        own = key.per_second
        per_second = self._per_second if own is None else own * self._share
        if not per_second:
            return None
        if old is not None and old.bucket is not None and old.bucket.per_second == per_second:
            return old.bucket
        return TokenBucket(per_second)


class Scope(NamedTuple):
    """Whose key it is, and what its holder may know of."""

    id: str
    """The key's; empty where no keys are asked for."""
    models: frozenset[str] | None
    """None: every model."""


EVERYTHING = Scope("", None)


class Gate:
    """Admits requests or refuses them. `keyring` is None where no keys are asked for."""

    def __init__(self, keyring: Keyring | None = None, *, per_model: float = 0.0) -> None:
        self.keyring = keyring
        self.counts: KeyCounts = {}
        """How often each key that was ever used here was admitted and refused."""
        self._per_model = per_model
        self._models: dict[str, TokenBucket] = {}

    @property
    def open(self) -> bool:
        """Whether every request to look or to predict is admitted, so that nobody need ask."""
        return self.keyring is None and not self._per_model

    def scope(self, presented: bytes) -> Scope:
        """Return what the holder of a key may know of. Raises `Unauthenticated`."""
        if self.keyring is None:
            return EVERYTHING
        grant = self.keyring.identify(presented)
        return Scope(grant.id, grant.models or None)

    def admit(
        self,
        model: str,
        role: KeyRole,
        presented: bytes,
        *,
        by_admin_address: bool = False,
        is_served: bool = True,
    ) -> str:
        """Return the id of the key that admits the request; "" where no keys are asked for.

        `model` is "" where a request concerns none; a model that is not served uses up no rate.
        Raises `Unauthenticated`, `Forbidden`, `RateLimited`.
        """
        who = ""
        if role in CHANGING and not by_admin_address:
            raise Forbidden(
                "what changes something is not done by this address",
                do="Ask the address of [serve] admin_port, or admin_grpc_port; without one it is"
                " closed.",
            )
        if self.keyring is not None:
            grant = self.keyring.identify(presented)
            counted = self._counted(grant.id)
            if role not in grant.roles:
                counted["forbidden"] += 1
                raise Forbidden(
                    "the key may not do this", expected=f"role {role}", got=f"role {grant.role}"
                )
            if model and grant.models and model not in grant.models:
                counted["forbidden"] += 1
                raise Forbidden("the key does not reach this model")
            if grant.bucket is not None and (wait := grant.bucket.take()):
                counted["rate_limited"] += 1
                raise _too_often("this key sends", grant.bucket, wait)
            counted["admitted"] += 1
            who = grant.id
        if self._per_model and role == "caller" and is_served:
            bucket = self._models.get(model)
            if bucket is None:
                bucket = self._models[model] = TokenBucket(self._per_model)
            if wait := bucket.take():
                raise _too_often("all callers together send", bucket, wait)
        return who

    def _counted(self, key_id: str) -> dict[str, int]:
        counted = self.counts.get(key_id)
        if counted is None:
            if len(self.counts) >= MOST_KEYS:
                key_id = OTHER_KEYS
            counted = self.counts.setdefault(key_id, dict.fromkeys(OUTCOMES, 0))
        return counted


def make_gate(path: Path, serve: ServeSpec, clock: Clock) -> Gate:
    """Return the gate of one worker, with its share of what all workers together let through."""
    share = 1 / serve.workers
    keyring = None
    if serve.auth == "keys":
        keyring = Keyring(path, clock, per_second=serve.rate_per_key * share, share=share)
    return Gate(keyring, per_model=serve.rate_per_model * share)


def bearer(value: bytes) -> bytes:
    """Return the key of an `Authorization: Bearer ...` value; empty for any other scheme."""
    scheme, _, key = value.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""


def _unauthenticated(presented: bytes) -> Unauthenticated:
    if not presented:
        return Unauthenticated(
            "a key is needed", expected="Authorization: Bearer KEY, or X-API-Key: KEY"
        )
    return Unauthenticated("the key does not hold", do="Ask for a new one.")


def _too_often(who: str, bucket: TokenBucket, wait_s: float) -> RateLimited:
    return RateLimited(
        f"{who} too many requests",
        expected=f"at most {bucket.per_second:g} per second here",
        retry_after_s=wait_s,
    )
