"""From what a person types for a model to a verified bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steadynet.home import Home

if TYPE_CHECKING:
    from steadynet.bundle.read import Bundle
    from steadynet.registry.local import ModelVersion


def open_model(home: Home, reference: str) -> tuple[ModelVersion, Bundle]:
    """Resolve `name`, `name@alias`, `name/3` or a bundle's path, and verify its signature.

    Raises `UnknownModel`, or `BundleError` where the bundle is not as it was signed.
    """
    from steadynet.bundle.read import verify_bundle
    from steadynet.bundle.sign import signing_key
    from steadynet.registry.local import LocalRegistry

    version = LocalRegistry(home).resolve(reference)
    return version, verify_bundle(version.bundle, signing_key(home).public)
