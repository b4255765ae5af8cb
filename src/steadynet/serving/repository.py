"""The model repository extension of the Open Inference Protocol: what there is, and its state.

Models are chosen when the server starts, and their versions by rollouts. So asking for a model to
be loaded says whether it is, and unloading is refused, as Triton does in its control mode NONE.

Source: https://github.com/triton-inference-server/server (docs/protocol, model repository).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from steadynet.errors import Forbidden, InputError
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


class ControlAsk(msgspec.Struct):
    """The body of a request to load or unload a model."""

    parameters: dict[str, Any] | None = None


def load(plane: DataPlane, parameters: Mapping[str, object]) -> None:
    """Return where a model is loaded, which it is as soon as the server can.

    Raises `NotReady` while it is not, `InputError` for parameters, which would ask for another
    model than the bundle's.
    """
    if parameters:
        raise InputError(
            "a model is loaded as its bundle says", expected="no parameters", got="some"
        )
    # Raises `NotReady`.
    _ = plane.deployment


def refuse_unload(plane: DataPlane) -> Forbidden:
    """Return why a model is not unloaded: what a server answers is said when it starts."""
    return Forbidden(
        f"the model {plane.model!r} is not unloaded by its callers",
        do="End the server, and start it with the models that it shall serve.",
    )


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
