"""steadynet: neural networks that stay right in production.

`import steadynet` is light; what it offers is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steadynet.estimators import NetClassifier, NetRegressor
    from steadynet.model import Model, load, train

__version__ = "0.1.0"

__all__ = ["Model", "NetClassifier", "NetRegressor", "__version__", "load", "train"]

_HOMES = {
    "Model": "steadynet.model",
    "load": "steadynet.model",
    "train": "steadynet.model",
    "NetClassifier": "steadynet.estimators",
    "NetRegressor": "steadynet.estimators",
}
"""Name → the module that it comes from."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'steadynet' has no attribute {name!r}")
    return vars(import_module(_HOMES[name]))[name]


def __dir__() -> list[str]:
    return sorted(__all__)
