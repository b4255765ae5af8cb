"""What a server begins with: the version to serve, verified, and the route that says so."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from steadynet.bundle.manifest import MANIFEST, decode_manifest
from steadynet.bundle.read import verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.errors import BundleTampered, ServingError, UserError
from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.rollout.route import Endpoint, Route
from steadynet.spec.names import did_you_mean

logger = logging.getLogger(__name__)


def first_route(model: str, existing: Route | None, wanted: Endpoint) -> Route | None:
    """Decide which route to write before serving; None where the existing one holds. Pure.

    With a challenger in it a route belongs to an open rollout and stays as it is. Otherwise it
    follows what the registry's alias, or the caller, names.
    """
    if existing is None:
        return Route(model=model, generation=1, champion=wanted)
    if existing.champion == wanted or existing.challenger is not None:
        return None
    return Route(model=model, generation=existing.generation + 1, champion=wanted)


def open_route(home: Home, model: str, wanted: Endpoint) -> Route:
    """Verify the signature of what will answer, write the route where it must change, return it.

    Raises `BundleError`, or `UserError` where the home has no public key.
    """
    existing = read_route(home, model)
    new = first_route(model, existing, wanted)
    route = new or existing
    assert route is not None, "there is an existing route where no new one is needed"
    if route.champion.version != wanted.version:
        logger.warning(
            "a rollout is open, so version %s answers, not %s",
            route.champion.version,
            wanted.version,
        )
    verified = verify_bundle(Path(route.champion.bundle), signing_key(home).public)
    if verified.manifest_sha256 != route.champion.manifest_sha256:
        raise BundleTampered(
            f"the bundle {route.champion.bundle} is another one than was resolved",
            expected=f"digest {route.champion.manifest_sha256[:16]}",
            got=f"digest {verified.manifest_sha256[:16]}",
        )
    if new is not None:
        write_atomic(home.route(model), msgspec.json.encode(new) + b"\n")
    return route


def read_route(home: Home, model: str) -> Route | None:
    """Return the model's route; None where there is none. Raises `ServingError` for a bad file."""
    path = home.route(model)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Route)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ServingError(
            f"{path} cannot be read", got=str(error), do="Move it away to begin a new route."
        ) from error


def column_names(route: Route) -> list[str]:
    """Return the names of the columns that a route's champion reads."""
    manifest = decode_manifest((Path(route.champion.bundle) / MANIFEST).read_bytes())
    return [column.name for column in manifest.schema.features]


def check_redacted(redact: Sequence[str], columns: Sequence[str]) -> None:
    """Raise `UserError` for a column to redact that no model has: a typing error would tell all."""
    for name in redact:
        if name not in columns:
            raise UserError(
                f"serve.redact names {name!r}, which is no column of what is served",
                do=did_you_mean(name, columns),
            )
