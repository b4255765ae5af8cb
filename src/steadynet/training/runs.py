"""Where a run keeps its checkpoint and its bundle."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

import msgspec

import steadynet
from steadynet.home import Home
from steadynet.spec.model import Spec

BUNDLE = "bundle"


def run_identity(name: str, spec: Spec, snapshot: str, parent: str) -> str:
    """Return what makes two runs the same: name, table, the spec's parts that a fit reads, code.

    `parent` is the digest of what is gone on from or followed, if anything.
    """
    fixed = [
        name,
        snapshot,
        parent,
        msgspec.to_builtins(spec.table),
        msgspec.to_builtins(spec.split),
        msgspec.to_builtins(msgspec.structs.replace(spec.training, workers=None)),
        steadynet.__version__,
        metadata.version("torch"),
    ]
    return hashlib.sha256(msgspec.json.encode(fixed, order="sorted")).hexdigest()


def run_folder(home: Home, name: str, identity: str) -> Path:
    """Return the folder of a run: the same for a run that is started again after a kill."""
    return home.runs / f"{name}-{identity[:16]}"


def study_place(home: Home, name: str, spec: Spec, snapshot: str) -> tuple[Path, str]:
    """Return the folder and the identity of a search's study.

    Neither the number of trials nor the time limit makes it another study, so that a search that
    is asked for more trials, or given more time, goes on from those that ended.
    """
    training = msgspec.structs.replace(spec.training, search_trials=0, time_limit_s=None)
    fixed = msgspec.structs.replace(spec, training=training)
    identity = run_identity(name, fixed, snapshot, "")
    return home.runs / f"{name}-search-{identity[:16]}", identity


def free_folder(run: Path) -> Path:
    """Return the first of `bundle`, `bundle-2`, … that the run's folder does not hold yet."""
    folder = run / BUNDLE
    number = 2
    while folder.exists():
        folder = run / f"{BUNDLE}-{number}"
        number += 1
    return folder
