"""The model repository extension of the Open Inference Protocol: what there is, and its state.

Source: https://github.com/triton-inference-server/server (docs/protocol, model repository).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from steadynet.serving.dataplane import DataPlane

READY = "READY"
UNAVAILABLE = "UNAVAILABLE"


class IndexAsk(msgspec.Struct):
    """The body of a request for the index."""

    ready: bool = False
    """Whether to list only what is ready."""


class Indexed(msgspec.Struct):
    """One version of a model in the index."""

    name: str
    version: str
    state: str
    reason: str = ""


def index(planes: Iterable[DataPlane], *, only_ready: bool) -> list[Indexed]:
    """Return every version that is loaded, and every model of which none is."""
    found: list[Indexed] = []
    for plane in planes:
        if plane.ready:
            found += [
                Indexed(plane.model, loaded.version, READY)
                for loaded in plane.deployment.versions()
            ]
        elif not only_ready:
            found.append(Indexed(plane.model, "", UNAVAILABLE, "no version is loaded yet"))
    return found
