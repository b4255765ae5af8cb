"""The version that answers now, as the reference for everything that is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from steadynet.bundle.manifest import Manifest
from steadynet.bundle.profile import Profile
from steadynet.bundle.read import open_bundle
from steadynet.control.evidence import Yardstick, yardstick
from steadynet.rollout.route import Endpoint
from steadynet.table.schema import Target


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The champion's bundle, as far as measuring needs it."""

    endpoint: Endpoint
    manifest: Manifest
    profile: Profile
    yardstick: Yardstick

    @property
    def version(self) -> str:
        """Return the champion's version."""
        return self.endpoint.version

    @property
    def target(self) -> Target:
        """Return what the champion predicts."""
        return self.manifest.schema.target


def load_champion(endpoint: Endpoint) -> Champion:
    """Read the champion's bundle. Raises `BundleError` where it is not what the route names."""
    bundle = open_bundle(Path(endpoint.bundle), manifest_sha256=endpoint.manifest_sha256)
    profile = bundle.profile()
    return Champion(
        endpoint=endpoint,
        manifest=bundle.manifest,
        profile=profile,
        yardstick=yardstick(bundle.manifest.schema.target.task, bundle.manifest.slo, profile),
    )
