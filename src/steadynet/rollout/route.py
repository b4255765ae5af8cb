"""The route: which versions answer and which share of traffic each gets. Plain data."""

from __future__ import annotations

import msgspec


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A version that workers shall hold ready.

    Whoever writes the route has verified the bundle's signature; workers trust the bundle if and
    only if its manifest has this digest and its files have the manifest's digests.
    """

    version: str
    bundle: str
    """Absolute path of the bundle."""
    manifest_sha256: str


class Route(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the workers of one model shall do. Written atomically as `route.json`."""

    model: str
    generation: int
    """Grows by one with every change."""
    champion: Endpoint
    challenger: Endpoint | None = None
    share: float = 0.0
    """Share of requests that the challenger answers, 0 to 1."""
    mirror: float = 0.0
    """Share of the champion's requests that the challenger answers unseen (shadow)."""
    salt: str = ""
    """Rollout id; hashed with the sticky key so that each rollout draws anew."""


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one worker is doing. Written atomically as `workers/<worker>.json`."""

    worker: str
    pid: int
    at: float
    """When it was written, seconds UTC; a worker writes at least once a second."""
    generation: int
    """The newest route that it applies wholly."""
    ready: bool
    """Whether the champion's golden rows passed here."""
    versions: tuple[str, ...] = ()
    """Versions loaded and verified."""
    failures: dict[str, str] = msgspec.field(default_factory=dict)
    """Version → why it could not be loaded."""
