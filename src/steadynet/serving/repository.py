"""The model repository extension of the Open Inference Protocol: what there is, and its state.

A model is loaded and unloaded by the supervisor for all workers (`loading`), by the admin address
alone. Only what the home's registry holds can be loaded, by its name; never a path or a file.

Source: https://github.com/triton-inference-server/server (docs/protocol, model repository).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from steadynet.errors import InputError
from steadynet.serving.channel import Action
from steadynet.serving.dataplane import DataPlane

READY = "READY"
UNAVAILABLE = "UNAVAILABLE"
MOST_VERSIONS = 100
"""So many may be named at once: what is told to the supervisor is one short message."""
LONGEST_VERSION = 40


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


class _Versions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    versions: tuple[int | str, ...]


class _Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    specific: _Versions


class _Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is taken of Triton's model configuration; it may repeat the model's name."""

    version_policy: _Policy | None = None
    name: str = ""


def asked_versions(action: Action, parameters: Mapping[str, object]) -> tuple[str, ...]:
    """Return the versions that a caller names beside those of the model's route.

    By the parameter `version`, or, as Triton's clients can, by `config` with a `version_policy`.
    Raises `InputError` for everything else (a model is loaded as its bundle says), and for more or
    longer ones than there can be.
    """
    versions: list[int | str] = []
    for name, value in parameters.items():
        if name == "version" and isinstance(value, int | str):
            versions.append(value)
        elif name == "config" and action == "load" and isinstance(value, str):
            policy = _decode_config(value).version_policy
            versions += policy.specific.versions if policy is not None else ()
        elif name != "unload_dependents" or action == "load":
            raise _wrong_parameter(action)
    named = tuple(dict.fromkeys(str(version) for version in versions))
    if len(named) > MOST_VERSIONS:
        raise InputError(
            "too many versions are named",
            expected=f"at most {MOST_VERSIONS} at once",
            got=str(len(named)),
        )
    if (longest := max(map(len, named), default=0)) > LONGEST_VERSION:
        raise InputError(
            "no version has so long a name",
            expected=f"at most {LONGEST_VERSION} characters",
            got=str(longest),
        )
    return named


def _decode_config(text: str) -> _Config:
    try:
        return msgspec.json.decode(text, type=_Config)
    except (msgspec.DecodeError, RecursionError):
        raise _wrong_parameter("load") from None


def _wrong_parameter(action: Action) -> InputError:
    return InputError(
        f"a model cannot be {action}ed so: it is as its bundle says",
        expected="no parameter but version"
        + (", or config with version_policy.specific.versions" if action == "load" else ""),
        got="another",
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
